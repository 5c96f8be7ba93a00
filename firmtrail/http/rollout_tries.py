"""Describes a rollout as it would be, and asks for the approvals that a project demands of it."""

from collections.abc import Iterator

import msgspec

from firmtrail.events.event import Recorded
from firmtrail.events.steering import (
    PlanPhase,
    RollbackStarted,
    RolloutPlanChanged,
    RolloutStarted,
)
from firmtrail.events.times import time_text
from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.rollouts import counted_of
from firmtrail.projections import rollout_devices
from firmtrail.rules import control, rollout, window
from firmtrail.rules.control import Control
from firmtrail.rules.outlook import Outlook, outlook, window_of
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.rollout import PlanTime


def plan_time(call: AnyCall, control: Control) -> PlanTime:
    """Returns the present time, for what a plan says."""
    return PlanTime(call.services.access.now_ms(), control.halts)


def unstarted(call: AnyCall, wanted: RolloutStarted | RollbackStarted) -> rollout.RolloutState:
    """Returns the rollout as it would be, without an id."""
    now_ms = call.services.access.now_ms()
    return rollout.started(Recorded(0, now_ms, rollout.stream(""), "", "", wanted))


async def with_approvals(call: AnyCall, wanted: RolloutStarted) -> RolloutStarted:
    """Returns the rollout with the number of approvals that the project asks for, if it asks for
    any. The devices are counted before the log's head is locked."""
    async with consistent_read(call) as now:
        if not now.control.settings.approvals:
            return wanted  # a refusal of the command is kept for its key
        tried = unstarted(call, control.decide_rollout(now.control, wanted))
        approvals = await approvals_of(call, now, tried)
    if not approvals:
        return wanted
    return msgspec.structs.replace(wanted, approvals=approvals, started_by=call.caller.actor_id)


async def planned_with_approvals(
    call: AnyCall, name: str, wanted: tuple[PlanPhase, ...]
) -> RolloutPlanChanged:
    """Returns the change of a plan with the number of approvals that it needs: as many as the
    rollout needed, or as the project asks for now."""
    async with consistent_read(call) as now:
        found = control.existing(now.control, name)
        approvals = max(found.approvals, await approvals_of(call, now, found))
    if not approvals:
        return RolloutPlanChanged(wanted)
    return RolloutPlanChanged(wanted, approvals, call.caller.actor_id)


async def first_outlook(
    call: AnyCall, now: ConsistentRead, tried: rollout.RolloutState, devices: int
) -> Outlook:
    """Returns what the forecast of a rollout for so many devices depends on before it starts."""
    counted = await counted_of(now, call.log_id, tried, matching=devices)
    return outlook(now.control, tried, plan_time(call, now.control), counted)


def delays(now: Control, found: rollout.RolloutState, counted: int, now_ms: int) -> Iterator[str]:
    """Yields in sentences what keeps a rollout for so many devices from offering its version
    immediately."""
    if not counted:
        yield "No device matches it now: it offers nothing until one does."
    if found.approvals:
        members = "member has" if found.approvals == 1 else "members have"
        yield f"It waits until {found.approvals} other {members} approved it."
    if found.start_at_ms is not None and found.start_at_ms <= now_ms:
        yield f"Its start, {time_text(found.start_at_ms)}, is in the past: it starts immediately."
    yield from closed_window(now, found, max(now_ms, found.start_at_ms or 0))


def closed_window(now: Control, found: rollout.RolloutState, begin_ms: int) -> Iterator[str]:
    """Yields in a sentence that the window is closed when the rollout starts, if it is."""
    title, times, cohorts = window_of(now, found)
    if times is None or times.timezone == window.DEVICE_ZONE:
        return
    if not window.is_open(times, times.timezone, begin_ms):
        opening = window.next_opening(times, times.timezone, begin_ms)
        until = "" if opening is None else f" before {time_text(opening)}"
        others = ", ".join(sorted(cohorts))
        but = f", except to cohorts with windows of their own: {others}" if others else ""
        yield f"{title} is closed when it starts: nothing is offered{until}{but}."


def recall_cautions(
    now: Control, found: rollout.RolloutState, running: int, now_ms: int
) -> list[str]:
    """Returns in sentences what may be wrong with a rollback whose bad version runs on so many
    devices: that there are none, that an earlier rollback is for all of its devices, and that its
    window is closed."""
    return [
        *_unused(now, found, running),
        *_repeated(now, found),
        *closed_window(now, found, now_ms),
    ]


def _unused(now: Control, found: rollout.RolloutState, running: int) -> Iterator[str]:
    assert found.bad_version is not None, "a rollback has a bad version"
    if running:
        return
    group = f" in cohort {found.cohort}" if found.cohort else ""
    group += f" with tag {found.tag}" if found.tag else ""
    is_release = ReleaseKey(found.model, found.bad_version) in now.releases
    no_release = "" if is_release else ", and there is no such release"
    yield f"No device of {found.model}{group} runs {found.bad_version} now{no_release}."


def _repeated(now: Control, found: rollout.RolloutState) -> Iterator[str]:
    group = found.cohort, found.tag
    for each in now.deciding.get((found.model, found.bad_version), ()):
        if (each.cohort, each.tag) in {group, (None, None)}:
            if control.is_over(now, each):  # it sends no device anywhere
                return
            state = "is paused" if each.phase == "paused" else "is under way already"
            yield f"A recall of {found.bad_version} {state}: {each.id}."
            return


async def approvals_of(call: AnyCall, now: ConsistentRead, found: rollout.RolloutState) -> int:
    """Returns how many members the project asks to approve this rollout."""
    settings = now.control.settings
    if not settings.approvals or not settings.approve_from_devices:
        return settings.approvals
    matching = await rollout_devices.matching(now.reader, call.log_id, found)
    return settings.approvals if matching >= settings.approve_from_devices else 0
