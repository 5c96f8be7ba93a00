"""Code under test that configures the log of this process, and the log as it was afterwards."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any
from unittest import mock

import structlog


@contextlib.contextmanager
def own_log() -> Iterator[None]:
    """Undo, on leaving, what is configured of the log.

    A logger that is cached on its first use keeps its configuration for the rest of the process, so
    none is cached here.
    """
    configure = structlog.configure
    handlers, level = logging.root.handlers[:], logging.root.level

    def uncached(**options: Any) -> None:
        configure(**options | {"cache_logger_on_first_use": False})

    with mock.patch("structlog.configure", uncached):
        try:
            yield
        finally:
            structlog.reset_defaults()
            for handler in set(logging.root.handlers).difference(handlers):
                handler.close()
            logging.root.handlers, logging.root.level = handlers, level
