"""Holds the figures and their bounds, and shows them as a table."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table


class Bound(msgspec.Struct, frozen=True):
    """Holds the minimum and the goal that the design names."""

    at_least: float
    goal: float
    lower_is_better: bool = False

    def verdict(self, value: float) -> str:
        """Returns "goal", "holds" or "MISSES"."""
        sign = -1 if self.lower_is_better else 1
        if sign * value >= sign * self.goal:
            return "goal"
        return "holds" if sign * value >= sign * self.at_least else "MISSES"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Holds one figure."""

    name: str
    value: float
    unit: str = "/s"
    p50_ms: float | None = None
    p99_ms: float | None = None
    ratio: float | None = None
    """The ratio of the value to that of the row it is compared with."""
    compared_with: str = ""
    bound: Bound | None = None
    """The bound of the ratio, or of the value if there is no ratio."""

    @property
    def verdict(self) -> str:
        """Returns the verdict on the bound; "" if there is no bound."""
        if self.bound is None:
            return ""
        return self.bound.verdict(self.value if self.ratio is None else self.ratio)


COLUMNS = ("", "measured", "ratio", "to", "p50 ms", "p99 ms", "at least", "goal", "")


def cells(row: Row) -> tuple[str, ...]:
    """Returns a row as texts."""
    bound = row.bound
    return (
        row.name,
        f"{_number(row.value)} {row.unit}",
        _number(row.ratio),
        row.compared_with,
        _number(row.p50_ms),
        _number(row.p99_ms),
        _number(bound.at_least if bound else None),
        _number(bound.goal if bound else None),
        row.verdict,
    )


def show(title: str, rows: Sequence[Row]) -> None:
    """Prints the table."""
    table = Table(title=title, title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in {"", "to"} else "right")
    for row in rows:
        table.add_row(*cells(row), style="red" if row.verdict == "MISSES" else "")
    Console(width=150).print(table)


def markdown(rows: Sequence[Row]) -> str:
    """Returns the table for a page."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_json(path: Path, rows: Sequence[Row], faults: Sequence[str]) -> None:
    """Writes the figures as JSON."""
    figures = [{**msgspec.structs.asdict(row), "verdict": row.verdict} for row in rows]
    document = {"rows": figures, "faults": list(faults)}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
