"""Defines the form of what `firmtrail doctor` finds."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

type Verdict = Literal["ok", "info", "warn", "fail"]


class Check(NamedTuple):
    """Holds one thing that was checked, and what was found."""

    check: str
    verdict: Verdict
    found: str


def triggers(differences: Sequence[str]) -> Check:
    """Reports whether the triggers that make tables append-only are as the schema defines them."""
    if differences:
        return Check("append-only", "fail", "; ".join(sorted(differences)))
    return Check("append-only", "ok", "the triggers of the tables of logs are intact")
