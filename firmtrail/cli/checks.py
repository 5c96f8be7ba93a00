"""The form of what `firmtrail doctor` finds."""

from typing import Literal, NamedTuple

type Verdict = Literal["ok", "info", "warn", "fail"]


class Check(NamedTuple):
    """A thing that was looked at, and what was found."""

    check: str
    verdict: Verdict
    found: str
