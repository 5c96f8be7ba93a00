"""Reads the percentages that people write in forms."""

from typing import Annotated

from msgspec import Meta

from firmtrail.http.errors import invalid_parameter

type PercentText = Annotated[
    str,
    Meta(
        pattern=r"^(100([.,]0{1,2})?|[0-9]{1,2}([.,][0-9]{1,2})?) ?%?$(?!\n)",
        description="a percentage from 0 to 100 with two decimals at most",
    ),
]


def hundredths(text: str | None) -> int:
    """Returns a percentage in hundredths of a percent, as events have it. Raises `Invalid` for
    None."""
    if text is None:
        raise invalid_parameter("percent", "is missing")
    return round(float(text.rstrip("% ").replace(",", ".")) * 100)
