"""Prints what commands report: results on stdout, everything else on stderr.

The exit code is 0 when the command is done, 1 when it ran and found something wrong, 2 when it
could not run, and 130 after Ctrl-C.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from json import dumps, loads
from typing import Any, override

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

FOUND_WRONG = 1

WIDE = 1_000_000
"""The width, in characters, of a table without a frame: no cell is cut."""

_IS_WORD = re.compile(r"[a-z]+(_[a-z]+)+")
_COLUMNS_OF_WORDS = frozenset(
    {"action", "change", "clock", "halted", "kind", "reason", "role", "rule", "state", "status"}
)
"""Columns that contain one of Firmtrail's own words, such as not_reached, not a user's name."""

json_option = click.option("--json", is_flag=True, help="Print JSON instead of text.")
as_of_option = click.option(
    "--as-of", help="Show what was known at a time, or @N: after the first N events."
)


def note(text: str) -> None:
    """Prints a message for the person at the terminal."""
    click.echo(text, err=True)


class Bars(Progress):
    """Shows a bar for each task, and lines of text below the bars."""

    lines: Sequence[str] = ()

    @override
    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield from map(Text, self.lines)


def progress(*columns: ProgressColumn) -> Bars:
    """Returns a progress display with a bar and these columns for each task; only a terminal shows
    it."""
    console, title = Console(stderr=True), TextColumn("{task.description}")
    return Bars(title, BarColumn(), *columns, console=console, disable=not console.is_terminal)


def show_table(rows: Sequence[Mapping[str, Any]], styles: Mapping[str, str]) -> None:
    """Prints rows that have the same members; `styles` colours a cell by its value. Every row is
    printed on one line, and no cell is cut."""
    _print(_table(rows, styles, *map(words, rows[0])))


def show_list(rows: Sequence[Mapping[str, Any]], *, json: bool) -> None:
    """Prints the items of a list, as JSON or as a table; an empty list has no table."""
    if json:
        show_json(rows)
    elif rows:
        show_table(rows, {})
    else:
        note("There are none.")


def show(shown: Mapping[str, Any], *, json: bool) -> None:
    """Prints one thing, as JSON or as one member per line."""
    if json:
        show_json(shown)
    else:
        show_members(shown)


def show_members(shown: Mapping[str, Any]) -> None:
    """Prints one thing, one member per line."""
    rows = [{"name": words(name), "value": cell(name, value)} for name, value in shown.items()]
    table = _table(rows, {}, "", "")
    table.show_header = False
    _print(table)


def show_settings(shown: Mapping[str, Any]) -> None:
    """Prints settings, one per line, with their names and with values as `--set` takes them."""
    rows = [{"name": name, "value": _settable(value)} for name, value in shown.items()]
    table = _table(rows, {}, "", "")
    table.show_header = False
    _print(table)


def _settable(value: object) -> str:
    """Returns a value as JSON; a text as it is, unless it would be read as JSON or as @FILE."""
    if not isinstance(value, str) or value.startswith("@"):
        return dumps(value)
    try:
        loads(value)
    except ValueError:
        return value
    return dumps(value)


def show_json(value: object) -> None:
    click.echo(dumps(value))


def show_secret(shown: Mapping[str, Any], *names: str, json: bool) -> None:
    """Prints what a command made: as JSON, or only the members with these names on one line, of
    which one is the secret."""
    if json:
        show_json(shown)
    else:
        click.echo(" ".join(shown[name] for name in names))


def words(name: str) -> str:
    """Returns a member's name in words: last_seen_at is "last seen", poll_after_s "poll after"."""
    return name.removesuffix("_at").removesuffix("_s").replace("_", " ")


def cell(name: str, value: object) -> str:
    """Returns a value as a person reads it, on one line."""
    match value:
        case None:
            text = "never called" if name == "last_seen_at" else ""
        case bool():
            text = "yes" if value else "no"
        case int() if name.endswith("_s"):
            text = f"{value} s"
        case float():
            text = f"{value:g}"
        case dict():
            text = ", ".join(f"{words(key)} {cell(key, each)}" for key, each in value.items())
        case list() | tuple():
            text = ", ".join(cell(name, each) for each in value)
        case str() if name in _COLUMNS_OF_WORDS and _IS_WORD.fullmatch(value):
            text = value.replace("_", " ")
        case _:
            text = str(value)
    return "".join(each if each.isprintable() else " " for each in text)


def _table(rows: Sequence[Mapping[str, Any]], styles: Mapping[str, str], *headers: str) -> Table:
    table = Table(*headers)
    for row in rows:
        cells = [cell(name, value) for name, value in row.items()]
        table.add_row(*(Text(each, styles.get(each, "")) for each in cells))
    return table


def _print(table: Table) -> None:
    """Prints a table in a frame if it fits on a terminal. Otherwise the table has no frame, its
    lines do not end with spaces, and a terminal wraps them."""
    wide, console = Console(highlight=False, width=WIDE), Console(highlight=False)
    if sys.stdout.isatty() and wide.measure(table).maximum <= console.width:
        console.print(table)
    else:
        table.box, table.pad_edge = None, False
        with wide.capture() as captured:
            wide.print(table, soft_wrap=True)
        for line in captured.get().splitlines():
            click.echo(line.rstrip())
