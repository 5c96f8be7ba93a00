"""`firmtrail rollout`, `rollback` and `ask`: steer the fleet as HTTP clients, and watch it."""

import asyncio
from typing import Any

import click
from rich.progress import MofNCompleteColumn, Progress, TaskID

from firmtrail import config
from firmtrail.cli import local, loop, output, remote

WATCH_EVERY_S = 2
ENDED = frozenset({"paused", "aborted", "withdrawn"})

_because = click.option("--reason", help="Why; it lies beside the log.")
_why = click.option("--reason", help="Why; needed but for --dry-run. It lies beside the log.")
_percent = click.option("--percent", type=click.FloatRange(0, 100), default=100.0)
_model = click.option("--model", required=True)
_cohort = click.option("--cohort", help="Only devices of this cohort.")
_tag = click.option("--tag", help="Only devices with this tag.")
_dry_run = click.option("--dry-run", is_flag=True, help="Only say whom it would be for.")


@click.group()
def rollout() -> None:
    """Send devices to a release, step by step."""


@rollout.command("start")
@click.argument("version")
@remote.in_project
@_model
@_cohort
@_tag
@_percent
@click.option("--pause-at", type=click.IntRange(0, 100), help="Pause when more percent fail.")
@click.option("--min-reports", type=click.IntRange(1), default=100, help="With --pause-at.")
@click.option(
    "--silent-after",
    "silent_after_s",
    type=click.IntRange(300, 2_592_000),
    help="Seconds without a call after which a device that was offered it counts as failed.",
)
@_dry_run
@remote.named
@click.pass_obj
def start(
    database: config.Database,
    /,
    *,
    project: str,
    pause_at: int | None,
    min_reports: int,
    **wish: Any,
) -> None:
    """Roll VERSION out, and print the rollout's id."""
    where = {name: wish.pop(name) for name in ("url", "token")}
    if pause_at is not None:
        wish["pause_if"] = {"failed_percent": pause_at, "min_reports": min_reports}
    answer = _post(database, remote.path(project, "rollouts"), wish, where)
    if answer["id"] is None:
        output.note(f"It would be for {answer['progress']['matching']} devices.")
    else:
        click.echo(answer["id"])


@rollout.command("advance")
@click.argument("rollout_id", metavar="ID")
@click.option("--percent", type=click.FloatRange(0, 100), required=True)
@remote.in_project
@_because
@remote.named
@click.pass_obj
def advance(
    database: config.Database,
    /,
    *,
    rollout_id: str,
    percent: float,
    project: str,
    reason: str | None,
    **where: str | None,
) -> None:
    """Let it reach more of its devices."""
    path = remote.path(project, "rollouts", rollout_id, "advance")
    _tell(_post(database, path, {"percent": percent, "reason": reason}, where))


def _command(name: str, summary: str) -> None:
    @rollout.command(name, help=summary)
    @click.argument("rollout_id", metavar="ID")
    @remote.in_project
    @_because
    @remote.named
    @click.pass_obj
    def command(
        database: config.Database,
        /,
        *,
        rollout_id: str,
        project: str,
        reason: str | None,
        **where: str | None,
    ) -> None:
        path = remote.path(project, "rollouts", rollout_id, name)
        _tell(_post(database, path, {"reason": reason}, where))


_command("pause", "Offer nothing more until it is resumed.")
_command("resume", "Go on; what failed before no longer counts towards pausing.")
_command("abort", "End it: it decides nothing any more.")


@rollout.command("watch")
@click.argument("rollout_id", metavar="ID")
@remote.in_project
@click.option("--once", is_flag=True, help="Say how far it is, and end.")
@remote.named
@output.json_option
@click.pass_obj
def watch(
    database: config.Database,
    /,
    *,
    rollout_id: str,
    project: str,
    once: bool,
    json: bool,
    **where: str | None,
) -> None:
    """Show how far it is, until every device has installed it or it stops.

    A device that ran it before counts as meant and not as installed: end with Ctrl-C.
    """
    path = remote.path(project, "rollouts", rollout_id)
    shown = loop.run(_watch(database, path, where, is_once=once or json))
    if json:
        output.show_json(shown)
    else:
        _tell(shown)


async def _watch(
    database: config.Database, path: str, where: dict[str, str | None], *, is_once: bool
) -> Any:
    with output.progress(MofNCompleteColumn()) as progress:
        tasks = [progress.add_task(name, total=None) for name in ("offered", "installed", "failed")]
        async with remote.service(database, url=where["url"], token=where["token"]) as session:
            while True:
                shown = await local.ask(session, "GET", path)
                _show(progress, tasks, shown["progress"])
                is_done = shown["progress"]["installed"] >= shown["progress"]["matching"]
                if is_once or is_done or shown["state"] in ENDED:
                    return shown
                await asyncio.sleep(WATCH_EVERY_S)


def _show(progress: Progress, tasks: list[TaskID], counts: dict[str, int]) -> None:
    failed = counts["failed"] + counts["exhausted"]
    for task, completed in zip(
        tasks, (counts["offered"], counts["installed"], failed), strict=True
    ):
        progress.update(task, total=counts["matching"], completed=completed)


@click.command()
@click.argument("bad_version", metavar="BAD")
@remote.in_project
@_model
@click.option("--to", default="previous", help="A version for all, instead of each its previous.")
@click.option("--fallback", help="For devices without a previous version.")
@_cohort
@_tag
@_percent
@_why
@_dry_run
@remote.named
@click.pass_obj
def rollback(database: config.Database, /, *, project: str, **wish: Any) -> None:
    """Withdraw BAD and send the devices that run it back; prints the rollback's id."""
    where = {name: wish.pop(name) for name in ("url", "token")}
    answer = _post(database, remote.path(project, "rollbacks"), wish, where)
    if answer["rollout"] is not None:
        click.echo(answer["rollout"])
    else:
        output.show_table([answer["devices"]], {})


@click.command()
@click.argument("device_id", metavar="DEVICE")
@remote.in_project
@click.option(
    "--wait", type=click.IntRange(0, 60), default=0, help="Seconds to wait for an answer."
)
@remote.named
@click.pass_obj
@click.pass_context
def ask(
    ctx: click.Context,
    database: config.Database,
    /,
    *,
    device_id: str,
    project: str,
    wait: int,
    **where: str | None,
) -> None:
    """Ask DEVICE which version it runs; with --wait prints its answer, if one comes in time.

    Exit code 1 where none came in time. The question stays open.
    """
    path = f"{remote.path(project, 'devices', device_id, 'ask')}?wait={wait}"
    answer = _post(database, path, {}, where)
    if "version" in answer:
        click.echo(answer["version"])
    elif wait:
        output.note(f"No answer yet; the question is {answer['question']}.")
        ctx.exit(output.FOUND_WRONG)
    else:
        output.note(f"Asked; the question is {answer['question']}.")


def _post(
    database: config.Database, path: str, wish: dict[str, Any], where: dict[str, str | None]
) -> Any:
    body = {name: value for name, value in wish.items() if value is not None}

    async def post() -> Any:
        async with remote.service(database, url=where["url"], token=where["token"]) as session:
            return await local.ask(session, "POST", path, body)

    return loop.run(post())


def _tell(shown: Any) -> None:
    counts = ", ".join(f"{number} {name}" for name, number in shown["progress"].items())
    output.note(f"{shown['kind'].title()} {shown['id']} is {shown['state']}: {counts}.")
