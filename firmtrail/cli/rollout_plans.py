"""`firmtrail rollout plan`, `change` and `reject`: shows or changes the phases of a rollout, and
ends one that waits."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from firmtrail.cli import (
    files,
    local,
    output,
    remote,
    rollout_reads,  # noqa: F401 (adds its commands)
)
from firmtrail.cli.rollouts import plan_rows, rollout, show_state


@rollout.command("plan")
@click.argument("rollout_id", metavar="ID")
@remote.project_option
@click.option("--at", help="A time: a past one, or a future one if nothing fails until then.")
@remote.service_options
@output.json_option
def plan(
    service: remote.Service, /, *, rollout_id: str, project: str, at: str | None, json: bool
) -> None:
    """Show the phases of a rollout: the percentage, the begin and the condition of each."""
    path = remote.path(project, "rollouts", rollout_id)
    shown = service.ask("GET", path if at is None else f"{path}?at={quote(at, safe='')}")
    _show_plan(shown, json=json)


@rollout.command("change")
@click.argument("rollout_id", metavar="ID")
@remote.project_option
@click.option(
    "--plan",
    "plan_file",
    required=True,
    type=files.existing,
    help="A file with the phases that follow those that it began, in JSON or YAML.",
)
@click.option("--reason", help="The reason, stored outside the log.")
@remote.service_options
@output.json_option
def change(
    service: remote.Service,
    /,
    *,
    rollout_id: str,
    project: str,
    plan_file: Path,
    reason: str | None,
    json: bool,
) -> None:
    """Give a rollout another plan, and show its phases. It needs approval again if it needed any,
    or if the project asks for it."""
    body = local.without_none({"plan": files.structure(plan_file), "reason": reason})
    path = remote.path(project, "rollouts", rollout_id, "plan")
    _show_plan(service.ask("POST", path, body), json=json)


def _show_plan(shown: Any, *, json: bool) -> None:
    if json:
        output.show_json(shown)
    elif "phases" not in shown:
        click.echo(f"Rollout {shown['id']} has no plan: it reaches {shown['percent']:g} %.")
    else:
        output.show_list(plan_rows(shown["phases"]), json=False)
        for line in shown.get("waits_for", ()):
            output.note(line)


@rollout.command("reject")
@click.argument("rollout_id", metavar="ID")
@remote.project_option
@click.option("--reason", required=True, help="The reason, stored outside the log.")
@remote.service_options
@output.json_option
def reject(
    service: remote.Service, /, *, rollout_id: str, project: str, reason: str, json: bool
) -> None:
    """Reject a rollout that waits for approval: it ends."""
    path = remote.path(project, "rollouts", rollout_id, "reject")
    show_state(service.ask("POST", path, {"reason": reason}), json=json)
