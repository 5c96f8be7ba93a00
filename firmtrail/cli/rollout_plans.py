"""`firmtrail rollout plan` and `reject`: shows or changes the phases of a rollout, and ends one
that waits."""

from pathlib import Path
from urllib.parse import quote

import click

from firmtrail.cli import (
    local,
    output,
    remote,
    rollout_reads,  # noqa: F401 (adds its commands)
)
from firmtrail.cli.rollouts import plan_rows, read_plan, rollout, show_state


@rollout.command("plan")
@click.argument("rollout_id", metavar="ID")
@remote.project_option
@click.option("--at", help="A time: a past one, or a future one if nothing fails until then.")
@click.option(
    "--change",
    "plan_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the phases that follow those that it began, in JSON or YAML.",
)
@click.option("--reason", help="With --change: the reason, stored outside the log.")
@remote.service_options
@output.json_option
def plan(
    service: remote.Service,
    /,
    *,
    rollout_id: str,
    project: str,
    at: str | None,
    plan_file: Path | None,
    reason: str | None,
    json: bool,
) -> None:
    """Show the phases of a rollout: the percentage, the begin and the condition of each. With
    --change, give it others first."""
    path = remote.path(project, "rollouts", rollout_id)
    if plan_file is not None and at is not None:
        raise click.UsageError("--at shows another time; a plan is changed now. Leave one out.")
    if plan_file is not None:
        body = local.without_none({"plan": read_plan(plan_file), "reason": reason})
        service.ask("POST", f"{path}/plan", body)
    elif reason is not None:
        raise click.UsageError("--reason says why a plan is changed: give --change FILE, too.")
    shown = service.ask("GET", path if at is None else f"{path}?at={quote(at, safe='')}")
    if json:
        output.show_json(shown)
        return
    if "phases" not in shown:
        click.echo(f"Rollout {rollout_id} has no plan: it reaches {shown['percent']:g} %.")
        return
    output.show_list(plan_rows(shown["phases"]), json=False)


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
