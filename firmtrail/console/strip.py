"""Lays out what a device ran over time, as the strip of versions that its page draws.

A version has one colour wherever it appears: the higher its precedence among those of the strip,
the stronger the colour; a withdrawn one is red. A run that is too short to be seen gets a least
width, so the strip is not true to scale where runs are very short.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from firmtrail.projections.history_lines import HistoryEntry
from firmtrail.rules import version

WIDTH = 760
LEAST = 4
AGES = 5
LABEL_CHARACTER = 7
"""The width of a character of a label."""


class Run(NamedTuple):
    """Holds a version that ran, from `x` on, `width` wide."""

    version: str
    x: float
    width: float
    kind: str
    since_ms: int
    is_labelled: bool


def runs_of(entries: Sequence[HistoryEntry], withdrawn: Collection[str], now_ms: int) -> list[Run]:
    """Returns the runs of a device's entries, which are given newest first, from left to right."""
    shown = list(reversed(entries))
    if not shown:
        return []
    starts = [each.time_ms for each in shown]
    ends = [*starts[1:], max(now_ms, starts[-1])]
    lengths = [max(0, end - start) for start, end in zip(starts, ends, strict=True)]
    widths = _widths(lengths)
    kinds = _kinds({each.version for each in shown}, withdrawn)
    runs, x = [], 0.0
    for entry, width in zip(shown, widths, strict=True):
        is_labelled = width > LABEL_CHARACTER * (len(entry.version) + 1)
        kind = kinds[entry.version]
        runs.append(Run(entry.version, round(x, 1), width, kind, entry.time_ms, is_labelled))
        x += width
    return runs


def _widths(lengths: Sequence[int]) -> list[float]:
    total = sum(lengths) or 1
    least = min(LEAST, WIDTH / len(lengths))
    free = WIDTH - least * len(lengths)
    return [round(least + free * length / total, 1) for length in lengths]


def _kinds(versions: Collection[str], withdrawn: Collection[str]) -> dict[str, str]:
    """Returns the class of each version's colour."""
    ordered = sorted(versions, key=version.precedence, reverse=True)
    return {
        name: "withdrawn" if name in withdrawn else f"age-{min(age, AGES - 1)}"
        for age, name in enumerate(ordered)
    }
