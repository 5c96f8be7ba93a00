"""How commands speak: results on stdout, everything else on stderr, and what an exit code means.

0: done. 1: it ran, and what it looked at is wrong. 2: it could not run.
"""

from collections.abc import Mapping, Sequence
from json import dumps
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

FOUND_WRONG = 1


json_option = click.option("--json", is_flag=True, help="Print JSON instead of a table.")


def note(text: str) -> None:
    """Say something to the person at the terminal."""
    click.echo(text, err=True)


def progress(*columns: ProgressColumn) -> Progress:
    """A bar for each task, with these columns behind it; where somebody looks: on a terminal."""
    console, title = Console(stderr=True), TextColumn("{task.description}")
    return Progress(title, BarColumn(), *columns, console=console, disable=not console.is_terminal)


def show_table(rows: Sequence[Mapping[str, Any]], styles: Mapping[str, str]) -> None:
    """Print rows that have the same members; `styles` colours a cell by its value."""
    table = Table(*rows[0])
    for row in rows:
        cells = ("" if value is None else str(value) for value in row.values())
        table.add_row(*(Text(cell, styles.get(cell, "")) for cell in cells))
    Console(highlight=False).print(table)


def show_json(value: object) -> None:
    click.echo(dumps(value))
