"""`firmtrail rollout plan` and `reject`: the phases of a rollout, and the end of one that waits."""

from urllib.parse import quote

import click

from firmtrail.cli import (
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
