"""What an audit says: its progress while it runs, a line a log, and what was found."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from firmtrail.audit.finding import Findings
from firmtrail.audit.verify import AdvanceProgress
from firmtrail.cli import output

type Bars = Callable[[str, int], AdvanceProgress]
"""A new progress bar of this title, with so much to do."""


class Looked(NamedTuple):
    """A log that was looked at."""

    log: str
    entries: int
    root: str | None
    """None where it was not looked at."""
    found: int
    note: str | None = None
    """Its checkpoint."""

    def row(self) -> dict[str, Any]:
        shown = {"log": self.log, "entries": self.entries, "root": self.root, "found": self.found}
        return {name: value for name, value in shown.items() if value is not None}


@contextlib.contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars of entries."""
    with output.progress(MofNCompleteColumn(), TimeRemainingColumn()) as progress:

        def bar(title: str, total: int) -> AdvanceProgress:
            task = progress.add_task(title, total=total)
            return lambda steps: progress.advance(task, steps)

        yield bar


def show(ctx: click.Context, looked: list[Looked], findings: Findings, *, json: bool) -> None:
    """Print what was looked at and what is wrong; ends with 1 if anything is."""
    rows = [each.row() for each in looked]
    found = [each._asdict() for each in findings.kept]
    if json:
        output.show_json({"logs": rows, "found": findings.count, "findings": found})
    else:
        if rows:
            output.show_table(rows, {})
        _show_found(findings)
    if findings.count:
        ctx.exit(output.FOUND_WRONG)


def _show_found(findings: Findings) -> None:
    for found in findings.kept:
        click.echo(f"{found.log}: {found.where}: {found.what}")
    if findings.count > len(findings.kept):
        click.echo(f"… and {findings.count - len(findings.kept)} more")
    if not findings.count:
        click.echo("All is well.")
