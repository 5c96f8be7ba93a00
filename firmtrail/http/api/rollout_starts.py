"""Serves the start of rollouts and rollbacks, and dry runs, which only count the devices."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from firmtrail.commands import steering as commands
from firmtrail.commands.once import answering, kept
from firmtrail.events.steering import RollbackStarted, RolloutStarted
from firmtrail.events.times import DAY_MS, time_text, unix_ms
from firmtrail.http import respond
from firmtrail.http.api.rollout_plans import (
    PauseIf,
    Percent,
    WantedPlan,
    WantedWindow,
    forecast_of,
    hundredths,
    phases_of,
    shown_phases,
    too_fine,
    window_of,
)
from firmtrail.http.api.rollouts import (
    NO_TEXTS,
    NamedDevices,
    Return,
    Rollout,
    named_devices,
    progress_of,
    shown,
)
from firmtrail.http.api.rows import OPERATE, POST, P, command
from firmtrail.http.api.wire import StrictBody, outside_calendar, too_long
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import consistent_read
from firmtrail.http.faults import BrokenRule, raise_if_broken
from firmtrail.http.rollout_tries import (
    approvals_of,
    delays,
    first_outlook,
    plan_time,
    recall_cautions,
    unstarted,
    with_approvals,
)
from firmtrail.http.scalars import FreeText, Name, VersionText
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules import control, rollout, version
from firmtrail.rules.control import Control
from firmtrail.rules.device import Refused
from firmtrail.rules.outlook import Outlook, windows_of

type Destination = Annotated[
    str,
    Meta(
        max_length=version.CHARACTERS_MAX,
        pattern=rf"^previous$(?!\n)|{version.PATTERN}",
        description="previous, or a SemVer 2.0.0 version",
        examples=["previous"],
    ),
]

type SilentAfter = Annotated[
    int,
    Meta(
        ge=300,
        le=2_592_000,
        description="seconds without a call after which a device that was offered the version "
        "counts as failed",
    ),
]

START_MS_MAX = 5 * 366 * DAY_MS
"""How far ahead a rollout may be scheduled."""


class WantedRollout(StrictBody, frozen=True, kw_only=True):
    """Names a release, and the devices of its model that get it: all, a cohort or a tag."""

    version: VersionText
    model: Name
    cohort: Name | None = None
    tag: Name | None = None
    percent: Percent | UnsetType = UNSET
    """100 by default; a plan names percentages of its own."""
    plan: WantedPlan | None = None
    start_at: Annotated[datetime, Meta(tz=True)] | None = None
    window: WantedWindow | None = None
    pause_if: PauseIf | None = None
    silent_after_s: SilentAfter | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        raise_if_broken(
            both(self.cohort, self.tag),
            too_fine(self.percent),
            _two_percents(self.plan, self.percent),
            outside_calendar("start_at", self.start_at),
        )


class WantedRollback(StrictBody, frozen=True, kw_only=True):
    """Names a bad version, the version that its devices go to, and the reason, which a dry run does
    not need."""

    bad_version: VersionText
    model: Name
    to: Destination = "previous"
    fallback: VersionText | None = None
    cohort: Name | None = None
    tag: Name | None = None
    percent: Percent = 100
    window: WantedWindow | None = None
    """Without it, devices go back at any time, whatever windows the settings name."""
    reason: FreeText | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        raise_if_broken(
            both(self.cohort, self.tag),
            too_fine(self.percent),
            too_long("reason", self.reason),
            None if self.reason or self.dry_run else ("reason", "is missing"),
        )


class StartedRollback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Names the rollback that was started, or counts the devices of a dry run."""

    rollout: str | None
    devices: NamedDevices | UnsetType = UNSET
    returns: list[Return] | UnsetType = UNSET
    """In a dry run: how many of the devices that were looked at go to which version, the most
    frequent first. Devices that are pinned to another version, or have none to go back to, are not
    among them."""
    warnings: list[str] | UnsetType = UNSET
    """In a dry run: that no device runs the bad version, and that a rollback of it has begun."""


def _two_percents(plan: WantedPlan | None, percent: float | UnsetType) -> BrokenRule | None:
    """Returns the fault of a request with both a plan and a percentage."""
    if plan is not None and percent is not UNSET:
        return "percent", "can't be combined with a plan, which has percentages of its own"
    return None


def both(cohort: str | None, tag: str | None) -> BrokenRule | None:
    """Returns the fault of a request that narrows a model by both a cohort and a tag."""
    if cohort is not None and tag is not None:
        return "tag", "can't be combined with a cohort; name only one of the two"
    return None


async def post_rollout(call: Call[Any, WantedRollout]) -> web.Response:
    """Roll a release out to a model, a cohort or a tag; or only count the devices."""
    try:
        wanted = wanted_of(call, call.body)
        if not call.body.dry_run:
            wanted = await with_approvals(call, wanted)
    except Refused as refused:
        return await respond.refused_once(call, refused)
    if call.body.dry_run:
        return await _dry(call, partial(_try_rollout, call, wanted))
    start = commands.start(wanted, actor=call.caller.actor)
    return await _started(call, start, partial(_shown_started, call))


def _check_start(call: AnyCall, start_at: datetime | None) -> None:
    if start_at and unix_ms(start_at) > call.services.access.now_ms() + START_MS_MAX:
        raise Refused("invalid", "is more than 5 years ahead", status=422, member="start_at")


def wanted_of(call: AnyCall, body: WantedRollout) -> RolloutStarted:
    """Returns the rollout that a body asks for. Raises `Refused` if it starts too late."""
    _check_start(call, body.start_at)
    plan = phases_of(body.plan) if body.plan else None
    percent = 100 if isinstance(body.percent, UnsetType) else body.percent
    return RolloutStarted(
        body.version,
        body.model,
        plan[0].reach if plan else hundredths(percent),
        body.cohort,
        body.tag,
        body.pause_if.failed_percent if body.pause_if else None,
        body.pause_if.min_reports if body.pause_if else None,
        body.silent_after_s,
        plan=plan,
        start_at=None if body.start_at is None else time_text(unix_ms(body.start_at)),
        window=window_of(body.window) if body.window else None,
    )


def _shown_started(call: AnyCall, after: Control, found: rollout.RolloutState) -> Rollout:
    at = plan_time(call, after)
    body = shown(found, NO_TEXTS, at, None)
    if not found.plan:
        return body
    listed = shown_phases(found, at, (), Outlook(windows_of(after, found)))
    return msgspec.structs.replace(body, phases=listed)


async def post_rollback(call: Call[Any, WantedRollback]) -> web.Response:
    """Withdraw a bad version and send the devices that run it back; or only count them."""
    body = call.body
    wanted = RollbackStarted(
        body.bad_version,
        body.model,
        hundredths(body.percent),
        None if body.to == "previous" else body.to,
        body.fallback if body.to == "previous" else None,
        body.cohort,
        body.tag,
        window_of(body.window) if body.window else None,
    )
    if body.dry_run:
        return await _dry(call, partial(_try_rollback, call, wanted))
    roll_back = commands.roll_back(wanted, body.reason, actor=call.caller.actor)
    return await _started(call, roll_back, lambda _, found: StartedRollback(rollout=found.id))


async def _dry(call: AnyCall, look: Callable[[], Awaitable[msgspec.Struct]]) -> web.Response:
    """Answers what would happen, or the answer stored for this key. The devices are counted before
    the log's head is locked to store the answer."""
    known = await kept(call.services.db, call.key)
    if known is not None:
        return respond.json(known.status, known.body, respond.NO_STORE)
    try:
        would_be = await look()
    except Refused as refused:
        return await respond.refused_once(call, refused)
    if call.key is None:
        return respond.json(200, would_be)

    async def tried(_commit: Commit) -> msgspec.Struct:
        return would_be

    return await respond.run_once(call, answering(200, tried))


async def _try_rollout(call: AnyCall, wanted: RolloutStarted) -> Rollout:
    async with consistent_read(call) as now:
        tried = unstarted(call, control.decide_rollout(now.control, wanted))
        counted = await progress_of(call, now, tried)
        needed = await approvals_of(call, now, tried)
        ahead = await first_outlook(call, now, tried, counted.matching)
    at = plan_time(call, now.control)
    waiting = msgspec.structs.replace(tried, approvals=needed)
    delaying = delays(now.control, waiting, counted.matching, at.now_ms)
    warnings = [*delaying, *ahead.endless.values(), *ahead.doubts]
    body = msgspec.structs.replace(shown(tried, NO_TEXTS, at, None), progress=counted)
    body = msgspec.structs.replace(body, warnings=warnings or UNSET)
    if not tried.plan:
        return body
    forecast = forecast_of(tried, at, counted.matching, ahead)
    return msgspec.structs.replace(body, phases=forecast)


async def _try_rollback(call: AnyCall, wanted: RollbackStarted) -> StartedRollback:
    async with consistent_read(call) as now:
        tried = unstarted(call, control.decide_rollback(now.control, wanted))
        devices, returns = await named_devices(call, now, tried)
    now_ms = call.services.access.now_ms()
    warnings = recall_cautions(now.control, tried, devices.named, now_ms)
    return StartedRollback(
        rollout=None, devices=devices, returns=returns, warnings=warnings or UNSET
    )


async def _started(
    call: AnyCall,
    command: LogCommand[rollout.RolloutState],
    show: Callable[[Control, rollout.RolloutState], msgspec.Struct],
) -> web.Response:
    async def answer(commit: Commit) -> msgspec.Struct:
        found = await command(commit)
        return show(commit.draft.control, found)

    return await respond.run_once(call, answering(201, answer))


ROUTES = (
    command(
        POST,
        f"{P}/rollouts",
        post_rollout,
        OPERATE,
        body=WantedRollout,
        answers={201: Rollout, 200: Rollout},
    ),
    command(
        POST,
        f"{P}/rollbacks",
        post_rollback,
        OPERATE,
        body=WantedRollback,
        answers={201: StartedRollback, 200: StartedRollback},
    ),
)
