"""Serves rollouts and rollbacks: the list, and a single one with its plan and progress."""

from collections.abc import Iterator
from typing import Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from firmtrail.events.event import Recorded
from firmtrail.events.times import time_text
from firmtrail.http import lists, respond
from firmtrail.http.api.rollout_plans import (
    PauseIf,
    ShownPhase,
    WantedWindow,
    expected_phases,
    shown_pause_if,
    shown_phases,
    shown_window,
)
from firmtrail.http.api.rows import READ, P, listing, resource
from firmtrail.http.api.wire import TimeText, time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.errors import NotFound
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.http.query_times import parameter_ms
from firmtrail.http.rollout_tries import plan_time
from firmtrail.http.rollouts import counted_of, events_of, opens_at_ms, past_of, rollout_of
from firmtrail.http.scalars import Time
from firmtrail.projections import (
    device_offers,
    rollout_devices,
    rollouts,
)
from firmtrail.projections.rollouts import RolloutTexts
from firmtrail.rules import phases, rollout
from firmtrail.rules.control import Control
from firmtrail.rules.outlook import Outlook, last_time, outlook, windows_of
from firmtrail.rules.phases import PhaseProgress
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.rollout import PlanTime
from firmtrail.rules.waits import waits

ROLLOUT = f"{P}/rollouts/{{id}}"

NO_TEXTS = RolloutTexts(None, None)


class RolloutProgress(msgspec.Struct, frozen=True):
    """Counts the devices of a rollout, as of the answer's log size."""

    matching: int
    offered: int
    installed: int
    failed: int
    exhausted: int


class Return(msgspec.Struct, frozen=True):
    """Counts the devices that a rollback sends to one version; null: to rarer ones together."""

    version: str | None
    devices: int


class NamedDevices(msgspec.Struct, frozen=True):
    """Counts the devices that run the bad version, and those that will not leave it
    automatically: among the first `looked_at` of them, or all."""

    named: int
    pinned: int
    """Pinned to another version, which they get when they leave the bad one."""
    silent: int
    no_previous: int
    looked_at: int | UnsetType = UNSET
    """Absent: all were looked at."""


class Approvals(msgspec.Struct, frozen=True, kw_only=True):
    """Says how many members have to approve a rollout, and who did."""

    needed: int
    by: list[str]
    """The ids of the people who approved it."""
    started_by: str | None


class RolloutQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Chooses the time to show the rollout at: a past one, or a future one if nothing fails."""

    at: Time | None = None


class Rollout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Describes a rollout or a rollback; `id` is null for a dry run."""

    id: str | None
    kind: Literal["rollout", "rollback"]
    state: Literal["running", "paused", "aborted", "withdrawn", "waiting", "scheduled"]
    model: str
    version: str | None
    bad_version: str | None
    fallback: str | None
    cohort: str | None
    tag: str | None
    percent: float
    pause_if: PauseIf | None
    silent_after_s: int | None
    reason: str | None
    started_at: TimeText
    state_reason: str | None
    state_since: TimeText
    start_at: TimeText | None
    opens_at: TimeText | UnsetType = UNSET
    """When the window opens that it has or inherits, if it runs and the window is closed now for
    all of its devices."""
    window: WantedWindow | None
    approvals: Approvals | None
    phases: list[ShownPhase] | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET
    """In a dry run: why it would not offer anything yet, and why its plan may never end: because of
    what it asks for, or by chance."""
    waits_for: list[str] | UnsetType = UNSET
    """Of a single one, now: why it offers nothing, or not to all of its devices, what ends the
    phase of its plan, and why a phase may never end."""
    progress: RolloutProgress | UnsetType = UNSET
    devices: NamedDevices | UnsetType = UNSET
    returns: list[Return] | UnsetType = UNSET
    """Of a rollback: how many of the devices that were looked at go to which version, the most
    frequent first. Devices that are pinned to another version, or have none to go back to, are not
    among them."""


async def get_rollouts(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List the rollouts and rollbacks, the newest first."""
    async with consistent_read(call) as (reader, size, control):
        _, texts = await rollouts.texts(reader, call.log_id)
    found = sorted(control.rollouts.values(), key=lambda each: -each.position)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        remaining = [each for each in found if place is None or each.position < int(place[0])]
        now_ms = call.services.access.now_ms()
        items = [
            _with_opening(
                shown(
                    each,
                    texts.get(each.id, NO_TEXTS),
                    last_time(control, each, now_ms),
                    withdrawn_at_ms_of(control, each),
                ),
                opens_at_ms(call, control, each),
            )
            for each in remaining[:limit]
        ]
        return ListPage(
            items, lists.next_key(remaining, limit, lambda each: (each.position,)), size
        )

    async def count() -> int:
        return len(found)

    return await lists.answer(call, Rollout, fetch, count, key_type=tuple[int])


async def get_rollout(call: Call[RolloutQuery, None]) -> web.Response:
    """Return a rollout with its plan and progress, or with its plan at another time."""
    at = call.query.at
    async with consistent_read(call) as now:
        body = await (
            shown_now(call, now) if at is None else _shown_at(call, now, parameter_ms("at", at))
        )
    return respond.resource(call, body, now.size)


async def _shown_at(call: AnyCall, now: ConsistentRead, then_ms: int) -> Rollout:
    """Returns the rollout as it was at a past time, or as it will be if nothing fails. It has no
    progress, which is that of the present."""
    found, present = rollout_of(call, now.control), plan_time(call, now.control)
    then, at = PlanTime(then_ms, now.control.halts), last_time(now.control, found, then_ms)
    if then_ms > present.now_ms and at == then:
        ahead = await _ahead(call, now, found, at=present)
        shown_then = planned = phases.expected(found, present, then_ms, ahead)
    else:
        events = await events_of(now.reader, call, found)
        if then_ms < found.started_at_ms:
            raise NotFound(f"Rollout {found.id} was started later.")
        ahead = Outlook(windows_of(now.control, found), is_over=at != then)
        shown_then = planned = phases.past(_until(events, then_ms), then)
        if found.plan and at != then:
            planned = past_of(now.control, found, events, then_ms)
    state, withdrawn_at_ms = shown_then.state, withdrawn_at_ms_of(now.control, shown_then.state)
    if withdrawn_at_ms is not None and withdrawn_at_ms > then_ms:
        withdrawn_at_ms = None
    body = shown(state, NO_TEXTS, at, withdrawn_at_ms)
    if not state.plan:
        return body
    listed = shown_phases(planned.state, at, planned.times, ahead)
    return msgspec.structs.replace(body, phases=listed)


def _until(events: list[Recorded], then_ms: int) -> Iterator[Recorded]:
    return (each for each in events if each.recorded_at_ms <= then_ms)


async def shown_now(call: AnyCall, now: ConsistentRead) -> Rollout:
    """Returns the rollout of the path, with its progress, as it is at this moment."""
    found, now_ms = rollout_of(call, now.control), call.services.access.now_ms()
    _, texts = await rollouts.texts(now.reader, call.log_id)
    counted, at = await progress_of(call, now, found), last_time(now.control, found, now_ms)
    withdrawn_at_ms = withdrawn_at_ms_of(now.control, found)
    body = shown(found, texts.get(found.id, NO_TEXTS), at, withdrawn_at_ms)
    body = _with_opening(body, opens_at_ms(call, now.control, found))
    body = msgspec.structs.replace(body, progress=counted)
    lines: list[PhaseProgress] = []
    if found.plan:
        ahead = await _ahead(call, now, found, at=at, progress=counted)
        planned = past_of(now.control, found, await events_of(now.reader, call, found), now_ms)
        lines = phases.progress(planned.state, at, planned.times, ahead)
        listed = (
            shown_phases(planned.state, at, planned.times, ahead)
            if ahead.is_over
            else expected_phases(found, at, counted.matching, ahead, times=planned.times)
        )
        body = msgspec.structs.replace(body, phases=listed)
    body = msgspec.structs.replace(body, waits_for=waits(now.control, found, now_ms, lines))
    if found.is_rollback:
        devices, returns = await named_devices(call, now, found)
        body = msgspec.structs.replace(body, devices=devices, returns=returns)
    return body


async def _ahead(
    call: AnyCall,
    now: ConsistentRead,
    found: rollout.RolloutState,
    *,
    at: PlanTime,
    progress: RolloutProgress | None = None,
) -> Outlook:
    """Returns what the forecast of a rollout depends on, which is nothing without a plan."""
    if not found.plan:
        return Outlook()
    progress = progress or await progress_of(call, now, found)
    seen = await counted_of(
        now,
        call.log_id,
        found,
        matching=progress.matching,
        offered=progress.offered,
        installed=progress.installed,
        exhausted=progress.exhausted,
    )
    return outlook(now.control, found, at, seen)


async def progress_of(
    call: AnyCall, now: ConsistentRead, found: rollout.RolloutState
) -> RolloutProgress:
    reader, max_attempts = now.reader, now.control.settings.max_attempts
    matching = await rollout_devices.matching(reader, call.log_id, found)
    _, counted = await device_offers.counts(reader, call.log_id, found.id, max_attempts)
    return RolloutProgress(matching, **counted)


async def named_devices(
    call: AnyCall, now: ConsistentRead, found: rollout.RolloutState
) -> tuple[NamedDevices, list[Return]]:
    """Counts the devices that a rollback names, and those that it sends to each version."""
    now_ms = call.services.access.now_ms()
    named = await rollout_devices.rollback_counts(
        now.reader, (call.log_id, call.project), found, now.control, now_ms=now_ms
    )
    looked_at = UNSET if named.looked_at == named.devices else named.looked_at
    returns = [Return(*each) for each in rollout_devices.common_returns(named)]
    devices = NamedDevices(named.devices, named.pinned, named.silent, named.no_previous, looked_at)
    return devices, returns


def withdrawn_at_ms_of(control: Control, found: rollout.RolloutState) -> int | None:
    """Returns when the release of a rollout was withdrawn, if it was and the rollout is not
    aborted."""
    if found.version is None or found.phase == "aborted":
        return None
    release = control.releases.get(ReleaseKey(found.model, found.version))
    return release.withdrawn_at_ms if release else None


def shown(
    found: rollout.RolloutState, texts: RolloutTexts, at: PlanTime, withdrawn_at_ms: int | None
) -> Rollout:
    """Returns the rollout as answers show it at a time, without counts. Its release was withdrawn
    at `withdrawn_at_ms`; None: it was not."""
    has_reason = withdrawn_at_ms is None and found.phase_position != found.position
    return Rollout(
        id=found.id or None,
        kind="rollback" if found.is_rollback else "rollout",
        state=rollout.state_at(found, at.now_ms) if withdrawn_at_ms is None else "withdrawn",
        model=found.model,
        version=found.version,
        bad_version=found.bad_version,
        fallback=found.fallback,
        cohort=found.cohort,
        tag=found.tag,
        percent=rollout.reach_at(found, at) / 100,
        pause_if=shown_pause_if(found.failed_percent, found.min_reports),
        silent_after_s=found.silent_after_s,
        reason=texts.started,
        started_at=time_text(found.started_at_ms),
        state_reason=texts.phase if has_reason else None,
        state_since=time_text(withdrawn_at_ms or rollout.state_since_ms(found, at.now_ms)),
        start_at=time_or_none(found.start_at_ms),
        window=shown_window(found.window_times),
        approvals=_approvals(found),
    )


def _with_opening(body: Rollout, opening_ms: int | None) -> Rollout:
    if opening_ms is None:
        return body
    return msgspec.structs.replace(body, opens_at=time_text(opening_ms))


def _approvals(found: rollout.RolloutState) -> Approvals | None:
    if not found.approvals:
        return None
    by = list(found.approved_by)
    return Approvals(needed=found.approvals, by=by, started_by=found.started_by)


ROUTES = (
    listing(f"{P}/rollouts", get_rollouts, READ, Rollout, is_view=True),
    resource(ROLLOUT, get_rollout, READ, Rollout, query=RolloutQuery, is_view=True),
)
