"""`firmtrail halt` and `resume`: stop all offers in a project, and allow them again."""

import click

from firmtrail.cli import output, remote

_reason = click.option(
    "--reason", help="The reason. It is stored outside the log, so it can be erased."
)


@click.command()
@remote.project_option
@_reason
@click.option("--all", "is_all", is_flag=True, help="Stop the offers of rollbacks too.")
@remote.service_options
def halt(service: remote.Service, /, *, project: str, reason: str | None, is_all: bool) -> None:
    """Stop all offers in a project, except those of rollbacks, until `firmtrail resume`."""
    service.ask("POST", remote.path(project, "halt"), {"reason": reason, "all": is_all})
    offered = "nothing" if is_all else "nothing but rollbacks"
    output.note(
        f"Project {project} is halted: {offered} is offered. `firmtrail resume` ends the halt."
    )


@click.command()
@remote.project_option
@_reason
@remote.service_options
def resume(service: remote.Service, /, *, project: str, reason: str | None) -> None:
    """End a project's halt."""
    service.ask("POST", remote.path(project, "resume"), {"reason": reason})
    output.note(f"Project {project} is no longer halted.")
