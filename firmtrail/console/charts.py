"""Computes charts, which a template draws as SVG: places and words, no markup.

A chart of shares stacks the versions that ran, the oldest at the bottom, as areas over time. Its
colours follow precedence: the latest version is the accent, older ones are paler, and a withdrawn
one is hatched red. The same numbers are in `rows`, for the table next to the chart.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from firmtrail.console import filters
from firmtrail.rules import version

WIDTH, HEIGHT, TOP = 760, 234, 48
BANDS_MAX = 6
"""Versions beyond so many are drawn together, as others."""
LABEL_WIDTH = 96
TICKS = 5
OTHERS = "others"
PALEST = 4


class Step(NamedTuple):
    """Holds how many devices ran each version at a time; "" stands for none yet."""

    at_ms: int
    counts: Mapping[str, int]


class Mark(NamedTuple):
    """Marks an order on the chart; `is_bad` marks one that ended something."""

    at_ms: int
    words: str
    is_bad: bool = False


class Band(NamedTuple):
    """Holds the area of one version: its colour, and its path."""

    version: str
    kind: str
    path: str


class PlacedMark(NamedTuple):
    """Holds a mark with its place; `anchor` says on which side its words stand."""

    x: float
    y: int
    words: str
    is_bad: bool
    anchor: str
    is_labelled: bool


class Tick(NamedTuple):
    """Holds a day below the chart."""

    x: float
    words: str
    anchor: str


class SharesChart(NamedTuple):
    """Holds everything that the template draws."""

    bands: list[Band]
    marks: list[PlacedMark]
    ticks: list[Tick]
    rows: Sequence[Step]
    versions: list[str]
    """The versions of the bands, the newest first."""
    kinds: Mapping[str, str]


def shares(
    steps: Sequence[Step], marks: Sequence[Mark], is_withdrawn: Callable[[str], bool]
) -> SharesChart | None:
    """Returns the chart of these steps, of which there are at least two in order; None if no device
    was there in any of them."""
    names = _names(steps)
    if len(steps) < 2 or not names:
        return None
    rows = [Step(step.at_ms, _merged(step.counts, names)) for step in steps]
    kinds = _kinds(names, is_withdrawn)
    place = _placing(steps[0].at_ms, steps[-1].at_ms)
    bands = _bands(rows, names, kinds, place)
    return SharesChart(
        bands, _placed(marks, place, steps), _ticks(steps, place), rows, names, kinds
    )


def _names(steps: Sequence[Step]) -> list[str]:
    """Returns the versions by precedence, the newest first; the least of many are merged."""
    most: dict[str, int] = {}
    for step in steps:
        for name, devices in step.counts.items():
            most[name] = max(most.get(name, 0), devices)
    shown = sorted(most, key=lambda name: -most[name])[:BANDS_MAX]
    ordered = sorted((name for name in shown if name), key=version.precedence, reverse=True)
    others = [OTHERS] if len(most) > len(shown) else []
    return [*ordered, *others, *([""] if "" in shown else [])]


def _merged(counts: Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    merged = dict.fromkeys(names, 0)
    for name, devices in counts.items():
        merged[name if name in merged else OTHERS] += devices
    return merged


def _kinds(names: Sequence[str], is_withdrawn: Callable[[str], bool]) -> dict[str, str]:
    """Returns the colour of each version; withdrawn versions take no place among the others."""
    kinds: dict[str, str] = {}
    age = 0
    for name in names:
        if name in {"", OTHERS}:
            kinds[name] = "none"
        elif is_withdrawn(name):
            kinds[name] = "withdrawn"
        else:
            kinds[name] = f"age-{min(age, PALEST)}"
            age += 1
    return kinds


def _placing(start_ms: int, stop_ms: int) -> Callable[[int], float]:
    span_ms = max(1, stop_ms - start_ms)
    return lambda at_ms: round((at_ms - start_ms) / span_ms * WIDTH, 1)


def _bands(
    rows: Sequence[Step],
    names: Sequence[str],
    kinds: Mapping[str, str],
    place: Callable[[int], float],
) -> list[Band]:
    """Returns the areas, the newest version on top: each lies between two heights of a step."""
    xs = [place(row.at_ms) for row in rows]
    totals = [sum(row.counts.values()) for row in rows]
    above = [0.0] * len(rows)
    bands = []
    for name in names:
        shares = [row.counts[name] / (total or 1) for row, total in zip(rows, totals, strict=True)]
        below = [high + share for high, share in zip(above, shares, strict=True)]
        bands.append(Band(name, kinds[name], _area(xs, above, below)))
        above = below
    return bands


def _area(xs: Sequence[float], above: Sequence[float], below: Sequence[float]) -> str:
    forth = [f"{x},{_y(share)}" for x, share in zip(xs, above, strict=True)]
    back = [f"{x},{_y(share)}" for x, share in zip(xs, below, strict=True)]
    return f"M{' '.join(forth)} {' '.join(reversed(back))}Z"


def _y(share: float) -> float:
    return round(TOP + share * (HEIGHT - TOP), 1)


def _placed(
    marks: Sequence[Mark], place: Callable[[int], float], steps: Sequence[Step]
) -> list[PlacedMark]:
    """Returns the marks within the chart. One that is close to the labelled one before it stands a
    line higher; if all lines are taken, only its title says what it is."""
    placed: list[PlacedMark] = []
    free = dict.fromkeys((40, 26, 12), float("-inf"))
    for mark in sorted(marks):
        if not steps[0].at_ms <= mark.at_ms <= steps[-1].at_ms:
            continue
        x = place(mark.at_ms)
        left, right = (x - LABEL_WIDTH, x) if x > WIDTH - LABEL_WIDTH else (x, x + LABEL_WIDTH)
        line = next((y for y, taken in free.items() if taken <= left), None)
        if line is not None:
            free[line] = right
        anchor = "end" if right == x else "start"
        placed.append(PlacedMark(x, line or TOP, mark.words, mark.is_bad, anchor, line is not None))
    return placed


def _ticks(steps: Sequence[Step], place: Callable[[int], float]) -> list[Tick]:
    start_ms, stop_ms = steps[0].at_ms, steps[-1].at_ms
    times = [start_ms + (stop_ms - start_ms) * n // (TICKS - 1) for n in range(TICKS)]
    anchors = ["start", *["middle"] * (TICKS - 2), "end"]
    return [
        Tick(place(at_ms), f"{filters.moment_of(at_ms):%-d %b}", anchor)
        for at_ms, anchor in zip(times, anchors, strict=True)
    ]
