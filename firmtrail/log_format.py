"""How the service writes its log: one JSON object a line on standard error.

Every line of this process takes this form, those of libraries too, so whatever collects them needs
one parser. A line never holds a query string, a header or a body: credentials travel in those.
"""

import logging
import sys

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(level: str = "INFO") -> None:
    """Send structlog's lines and the standard library's through one renderer."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_SHARED, structlog.processors.format_exc_info, _rendered],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_library_formatter())
    handler.addFilter(_is_worth_a_line)
    logging.basicConfig(handlers=[handler], level=max(number, logging.INFO), force=True)


def _library_formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _rendered,
        ],
    )


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether it is more than bytes that were no HTTP, which anyone can send without end."""
    return not (record.name == "aiohttp.server" and "Error handling request" in record.getMessage())


def _rendered(_logger: WrappedLogger, _method: str, line: EventDict) -> str:
    return msgspec.json.encode(line, enc_hook=repr).decode()
