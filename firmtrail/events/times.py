"""Converts times between Unix milliseconds and the text that entries hold."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

DAY_MS = 86_400_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)
def time_text(time_ms: int) -> str:
    """Returns the time as RFC 3339 in UTC with milliseconds; of the years 1 to 9999."""
    second, millisecond = divmod(time_ms, 1000)
    return f"{_second_text(second)}.{millisecond:03}Z"


@lru_cache(maxsize=1024)
def _second_text(second: int) -> str:
    minutes, seconds = divmod(second, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{_day_text(days)}T{hours:02}:{minutes:02}:{seconds:02}"


@lru_cache(maxsize=1024)
def _day_text(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).date().isoformat()


def time_ms(text: str) -> int:
    """Returns the Unix milliseconds of an RFC 3339 time; finer digits are cut off."""
    return unix_ms(datetime.fromisoformat(text))


def unix_ms(moment: datetime) -> int:
    """Returns a time in Unix milliseconds; finer parts are cut off."""
    since = moment - _EPOCH
    return since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000
