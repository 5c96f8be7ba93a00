"""`firmtrail halt` and `resume`: stop all offers in a project, and end that."""

import click

from firmtrail.cli import output, remote

_reason = click.option("--reason", help="Why. It is kept outside the log, so it can be erased.")


@click.command()
@remote.in_project
@_reason
@click.option("--all", "is_all", is_flag=True, help="Rollbacks too.")
@remote.named
def halt(service: remote.Service, /, *, project: str, reason: str | None, is_all: bool) -> None:
    """Stop all offers in a project, except those of rollbacks, until `firmtrail resume`."""
    service.ask("POST", remote.path(project, "halt"), {"reason": reason, "all": is_all})
    what = "nothing" if is_all else "nothing but rollbacks"
    output.note(f"Project {project} is halted: {what} is offered. `firmtrail resume` ends it.")


@click.command()
@remote.in_project
@_reason
@remote.named
def resume(service: remote.Service, /, *, project: str, reason: str | None) -> None:
    """End a project's halt."""
    service.ask("POST", remote.path(project, "resume"), {"reason": reason})
    output.note(f"Project {project} is not halted any more.")
