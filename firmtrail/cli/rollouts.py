"""`firmtrail rollout start`, `advance`, `pause` … and `rollback`: steer the fleet."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from aiohttp import ClientSession

from firmtrail.cli import files, local, output, remote
from firmtrail.cli.numbers import Number, Whole
from firmtrail.projections.device_current import SILENT_DAYS

_STORED = "It is stored outside the log, so it can be erased."
_optional_reason = click.option("--reason", help=f"The reason. {_STORED}")
_rollback_reason = click.option(
    "--reason", help=f"The reason; required without --dry-run. {_STORED}"
)
_percent = click.option(
    "--percent",
    type=Number(0, 100),
    default=100.0,
    help="The percentage of the devices that it reaches.",
)
_model = click.option("--model", required=True, help="The model that the version is for.")
_cohort = click.option("--cohort", help="Only devices of this cohort.")
_tag = click.option("--tag", help="Only devices with this tag.")
_dry_run = click.option(
    "--dry-run", is_flag=True, help="Count the matching devices; start nothing."
)


_WINDOW = (
    click.option(
        "--window",
        help='When a maintenance window opens: a cron expression such as "0 2 * * MON-FRI".',
    ),
    click.option(
        "--window-duration",
        "window_duration_s",
        type=Whole(60, 604_800),
        default=14_400,
        help="With --window: how many seconds it stays open.",
    ),
    click.option(
        "--window-timezone",
        default="UTC",
        help="With --window: a zone such as Europe/Berlin, or device for each device's own.",
    ),
)


def _window_options[Command: Callable[..., Any]](command: Command) -> Command:
    """Adds --window, --window-duration and --window-timezone, which `_body_of` joins."""
    for option in reversed(_WINDOW):
        command = option(command)
    return command


def _body_of(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the body of a request, from the options of its command."""
    window, duration_s = options.pop("window"), options.pop("window_duration_s")
    timezone = options.pop("window_timezone")
    if window is not None:
        options["window"] = {"cron": window, "duration_s": duration_s, "timezone": timezone}
    return local.without_none(options)


@click.group()
def rollout() -> None:
    """Send devices to a release, step by step."""


@rollout.command("start")
@click.argument("version")
@remote.project_option
@_model
@_cohort
@_tag
@click.option(
    "--percent",
    type=Number(0, 100),
    help="The percentage of the devices that it reaches; 100 without it and without --plan.",
)
@click.option(
    "--plan",
    "plan_file",
    type=files.existing,
    help="A file with the phases of the rollout, in JSON or YAML.",
)
@click.option("--start-at", help="A time, such as 2026-03-15T02:00:00Z, before which it waits.")
@_window_options
@click.option(
    "--pause-at",
    type=Whole(0, 100),
    help="Pause when more than this percentage of the installs fails.",
)
@click.option(
    "--min-reports",
    type=Whole(1),
    default=100,
    help="With --pause-at: the number of devices that must report an outcome first.",
)
@click.option(
    "--silent-after",
    "silent_after_s",
    type=Whole(300, 2_592_000),
    help="Seconds without a call after which a device that was offered the version counts as "
    "failed.",
)
@_dry_run
@remote.service_options
@output.json_option
def start(
    service: remote.Service,
    /,
    *,
    project: str,
    pause_at: int | None,
    min_reports: int,
    plan_file: Path | None,
    json: bool,
    **options: Any,
) -> None:
    """Roll out VERSION, and print the rollout's id.

    Warnings, such as that it waits for approvals, come on the standard error output.
    """
    if plan_file is not None:
        options["plan"] = files.structure(plan_file)
    if pause_at is not None:
        options["pause_if"] = {"failed_percent": pause_at, "min_reports": min_reports}
    path, body = remote.path(project, "rollouts"), _body_of(options)
    tried, answer = service.run(partial(_tried_and_started, path=path, body=body))
    for warning in tried.get("warnings", []):
        output.note(warning)
    if json:
        output.show_json(answer)
    elif answer["id"] is None:
        _show_tried(answer)
    else:
        click.echo(answer["id"])


def _show_tried(answer: Any) -> None:
    count = answer["progress"]["matching"]
    devices = "1 device" if count == 1 else f"{count} devices"
    click.echo(f"The rollout would be for {devices}.")
    if "phases" in answer:
        rows = plan_rows(answer["phases"])
        for row in rows:
            del row["state"]  # all of them are next
        output.show_list(rows, json=False)


async def _tried_and_started(session: ClientSession, *, path: str, body: Any) -> tuple[Any, Any]:
    """Returns the answers to a dry run and to the request itself, which may be the same."""
    tried = await local.ask(session, "POST", path, {**body, "dry_run": True})
    return tried, tried if body["dry_run"] else await local.ask(session, "POST", path, body)


def plan_rows(phases: list[Any]) -> list[dict[str, Any]]:
    """Returns the phases of a plan as the rows of a table."""
    return [_plan_row(number, phase) for number, phase in enumerate(phases, 1)]


def _plan_row(number: int, phase: Any) -> dict[str, Any]:
    when = phase["when"]
    waits = None
    if when:
        share = f"{when['installed_percent']} % installed"
        waits = f"{share}, of at least {when['min_reports']} outcomes"
    row = {
        "phase": number,
        "percent": phase["percent"],
        "state": phase["state"],
        "begin": phase["began_at"] or phase.get("begins_at"),
        "waits_for": waits,
        "reached_at": phase["reached_at"],
        "earliest_end": phase["earliest_end"] or phase.get("ends_at"),
    }
    return row | ({"devices": phase["devices"]} if "devices" in phase else {})


@rollout.command("advance")
@click.argument("rollout_id", metavar="ID")
@click.option(
    "--percent",
    type=Number(0, 100),
    help="A higher percentage than before. Without it, the next phase of the plan begins.",
)
@remote.project_option
@_optional_reason
@remote.service_options
@output.json_option
def advance(
    service: remote.Service,
    /,
    *,
    rollout_id: str,
    percent: float | None,
    project: str,
    reason: str | None,
    json: bool,
) -> None:
    """Let a rollout reach more of its devices."""
    path = remote.path(project, "rollouts", rollout_id, "advance")
    show_state(
        service.ask("POST", path, local.without_none({"percent": percent, "reason": reason})),
        json=json,
    )


def _command(name: str, summary: str) -> None:
    @rollout.command(name, help=summary)
    @click.argument("rollout_id", metavar="ID")
    @remote.project_option
    @_optional_reason
    @remote.service_options
    @output.json_option
    def command(
        service: remote.Service, /, *, rollout_id: str, project: str, reason: str | None, json: bool
    ) -> None:
        path = remote.path(project, "rollouts", rollout_id, name)
        show_state(service.ask("POST", path, local.without_none({"reason": reason})), json=json)


_command("pause", "Pause a rollout: it offers nothing until it is resumed.")
_command("resume", "Resume a paused rollout. Earlier failures no longer count towards pausing.")
_command("abort", "End a rollout for good: it offers nothing more.")
_command("approve", "Approve a rollout that waits for it; its starter can't.")


@click.command()
@click.argument("bad_version", metavar="BAD")
@remote.project_option
@_model
@click.option(
    "--to",
    default="previous",
    help="One version for all devices, instead of the version that each ran before.",
)
@click.option("--fallback", help="A version for devices that have no previous one.")
@_cohort
@_tag
@_percent
@_window_options
@_rollback_reason
@_dry_run
@remote.service_options
@output.json_option
def rollback(service: remote.Service, /, *, project: str, json: bool, **options: Any) -> None:
    """Withdraw BAD, send the devices that run it back, and print the rollback's id.

    Warnings, such as that no device runs BAD, come on the standard error output.
    """
    if not options["reason"] and not options["dry_run"]:
        raise click.UsageError(
            "A rollback needs --reason TEXT. Only --dry-run, which counts the devices, needs none."
        )
    path, body = remote.path(project, "rollbacks"), _body_of(options)
    tried, answer = service.run(partial(_tried_and_started, path=path, body=body))
    for warning in tried.get("warnings", []):
        output.note(warning)
    if json:
        output.show_json(answer)
    elif answer["rollout"] is not None:
        click.echo(answer["rollout"])
    else:
        counts = counts_of_rollback(answer["devices"]) | returns_of_rollback(
            answer.get("returns", [])
        )
        output.show_members(counts)


_COUNTS = {
    "named": "devices that run it",
    "pinned": "of these pinned to another version",
    "silent": f"of these silent for {SILENT_DAYS} days",
    "no_previous": "of these without a previous version",
    "looked_at": "devices looked at for these counts",
}


def counts_of_rollback(devices: dict[str, int]) -> dict[str, int | str]:
    """Returns the counts of the devices that a rollback names, by their words. If none of them was
    looked at, only their number is known."""
    counts: dict[str, int | str] = {**devices}
    if devices.get("looked_at") == 0:
        counts |= dict.fromkeys(("pinned", "silent", "no_previous"), "not counted")
    return {_COUNTS[name]: count for name, count in counts.items()}


def returns_of_rollback(returns: list[dict[str, Any]]) -> dict[str, int]:
    """Returns how many devices go to each version, by words."""
    return {
        f"of these go to {each['version'] or 'other versions'}": each["devices"] for each in returns
    }


def state_of(shown: Any) -> str:
    """Returns a rollout's state and counts as a sentence."""
    counts = counts_of(shown["progress"])
    why = f" ({output.cell('reason', shown['state_reason'])})" if shown["state_reason"] else ""
    return f"{shown['kind'].title()} {shown['id']} is {shown['state']}{why}: {counts}."


def counts_of(progress: Any) -> str:
    """Returns the counts of a rollout. The devices that were offered its version at any time have
    another name than the state `offered`, which is that of devices without an outcome."""
    names = {"offered": "offered so far"}
    return ", ".join(f"{number} {names.get(name, name)}" for name, number in progress.items())


def show_state(shown: Any, *, json: bool) -> None:
    if json:
        output.show_json(shown)
    else:
        output.note(state_of(shown))
