"""Prints an audit: its progress while it runs, then a line for each log, then the findings."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from firmtrail.audit.finding import Findings
from firmtrail.audit.verify import AdvanceProgress
from firmtrail.cli import output

type NewBar = Callable[[str, int], AdvanceProgress]
"""Adds a progress bar with this title and total; returns the function that advances it."""


class AuditSummary(NamedTuple):
    """Holds what an audit reports about one log."""

    log: str
    entries: int
    root: str | None
    """None if the audit did not compute it."""
    found: int
    """The number of findings."""
    note: str | None = None
    """Its checkpoint."""

    def row(self) -> dict[str, Any]:
        shown = {"log": self.log, "entries": self.entries, "root": self.root, "found": self.found}
        return {name: value for name, value in shown.items() if value is not None}


@contextlib.contextmanager
def progress_bars() -> Iterator[NewBar]:
    """Shows progress bars that count entries."""
    with output.progress(MofNCompleteColumn(), TimeRemainingColumn()) as progress:

        def new_bar(title: str, total: int) -> AdvanceProgress:
            task = progress.add_task(title, total=total)
            return lambda steps: progress.advance(task, steps)

        yield new_bar


def show(
    ctx: click.Context, audited: list[AuditSummary], findings: Findings, *, json: bool
) -> None:
    """Prints the audited logs and the findings; ends the command with 1 if there are any."""
    rows = [each.row() for each in audited]
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
