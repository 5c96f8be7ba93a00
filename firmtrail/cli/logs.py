"""Configures the service's log: one JSON object per line, or coloured text on a terminal.

Messages of libraries are written in the same form, warnings and worse only, each at most once a
minute. aiohttp logs a traceback for every request that is not HTTP; it is left out, so a stranger
can't fill the disk. A line that can't be written is lost, and the service continues.

No line contains a credential: an exception is shown without local variables (traces.py), and the
password of a database's URL is removed from every line, also from the lines of libraries. A
terminal shows no more than the JSON does.
"""

import asyncio
import contextlib
import functools
import io
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO, cast, override

import msgspec
import structlog
from aiohttp.http_exceptions import HttpProcessingError

from firmtrail import config
from firmtrail.cli import traces
from firmtrail.repeats import Repeats

HIDDEN = "[hidden]"

LEVELS: dict[config.LogLevel, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_URL_PASSWORD = re.compile(r"(?<=://)([^\s:/@'\"]*):[^\s'\"]*@")
_OPTION_PASSWORD = re.compile(r"(?i)\b(password|sslpassword|secret|token)=[^&\s'\"]+")

_PROTOCOL_LOGGER = "aiohttp.server"


class _Losing(io.TextIOBase):
    """Writes to a stream, and loses what a full disk or a closed pipe does not accept.

    The lines of one turn of the event loop are passed to the system together: a busy server writes
    a line for every read, and each system call costs as much as the line.
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


def configure(
    stream: TextIO, level: config.LogLevel = "info", form: config.LogFormat = "auto"
) -> None:
    """Sends the log to `stream`: messages of this level and worse."""
    shared: list[Any] = [structlog.stdlib.add_log_level, _with_time]
    # A renderer's own formatter of exceptions would show local variables.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    render: list[Any] = [_with_trace, _with_text, console, _without_passwords]
    if form == "json" or (form == "auto" and not stream.isatty()):
        render = [_with_trace, _render, _without_passwords]
    losing = cast("TextIO", _Losing(stream))
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(losing),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        foreign_pre_chain=shared,
    )
    handler = logging.StreamHandler(losing)
    handler.setFormatter(formatter)
    handler.addFilter(_once_a_minute(Repeats()))
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, LEVELS[level]), force=True)
    logging.getLogger(_PROTOCOL_LOGGER).addFilter(_without_traceback)


def _with_time(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds the time. A busy server writes many lines in a second, so the date is made once for all
    of them; structlog's `TimeStamper` makes it for each."""
    second, microsecond = divmod(time.time_ns() // 1000, 1_000_000)
    line["timestamp"] = f"{_second_text(second)}.{microsecond:06}Z"
    return line


@functools.lru_cache(maxsize=2)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _with_trace(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replaces an exception by the parts of it that may be shown."""
    given = line.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        line["exception"] = traces.trace(error)
    return line


def _with_text(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if isinstance(line.get("exception"), list):
        line["exception"] = traces.text(line["exception"])
    return line


def _without_passwords(_: object, __: str, line: str) -> str:
    """Hides what looks like a URL's password, or like an option that contains a secret."""
    if "://" not in line and "=" not in line:
        return line
    line = _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", line)
    return _OPTION_PASSWORD.sub(rf"\1={HIDDEN}", line)


def _once_a_minute(repeats: Repeats) -> Callable[[logging.LogRecord], bool]:
    """Returns a filter for library messages, which a lasting condition makes them repeat."""

    def is_due(record: logging.LogRecord) -> bool:
        left_out = repeats.due(record.name, record.levelno, record.msg)
        if left_out:
            record.msg = f"{record.msg} (and {left_out} more like it since the last line)"
        return left_out is not None

    return is_due


def _render(_: object, __: str, line: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(line, enc_hook=repr).decode()


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.exc_info = None
    return True
