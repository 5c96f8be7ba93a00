"""How the service writes its log: one JSON object a line, or coloured text on a terminal.

What libraries log comes out in the same form, warnings and worse only. aiohttp logs a traceback
for every request that is no HTTP; without it, a stranger can't fill the disk. A line that can't be
written is lost, and what it tells of goes on.
"""

import asyncio
import contextlib
import io
import logging
import sys
import threading
from collections.abc import MutableMapping
from typing import Any, TextIO, cast, override

import msgspec
import structlog
from aiohttp.http_exceptions import HttpProcessingError

_PROTOCOL_LOGGER = "aiohttp.server"


class _Losing(io.TextIOBase):
    """A stream that loses what a full disk or a closed pipe does not take.

    The lines of one turn of the event loop are handed to the system together: a busy server writes
    one for every read, and each hand-over costs as much as the line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._texts: list[str] = []
        self._is_flushing = False

    @override
    def write(self, text: str, /) -> int:
        with self._lock:
            self._texts.append(text)
        return len(text)

    @override
    def flush(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no loop in this thread
            self._flush()
            return
        if not self._is_flushing:
            self._is_flushing = True
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        with self._lock:
            texts, self._texts = self._texts, []
        with contextlib.suppress(OSError):
            self._stream.write("".join(texts))
            self._stream.flush()


def configure(stream: TextIO, level: int = logging.INFO) -> None:
    """Send the log there, from `level` on."""
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[Any] = [structlog.stdlib.add_log_level, stamp]
    render: list[Any] = [structlog.dev.ConsoleRenderer()]
    if not stream.isatty():
        render = [structlog.processors.dict_tracebacks, _render]
    losing = cast("TextIO", _Losing(stream))
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(losing),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        foreign_pre_chain=shared,
    )
    handler = logging.StreamHandler(losing)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger(_PROTOCOL_LOGGER).addFilter(_without_traceback)


def _render(_: object, __: str, line: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(line, enc_hook=repr).decode()


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.exc_info = None
    return True


def to_stdout() -> None:
    configure(sys.stdout)


def to_stderr() -> None:
    """For commands, whose stdout is their result."""
    configure(sys.stderr, logging.WARNING)
