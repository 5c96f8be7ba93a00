"""Shows the rollouts and recalls of a project, and a single one with its devices."""

from collections.abc import Sequence
from typing import NamedTuple

from aiohttp import web

from firmtrail.console import openings, places, plan_steps, render
from firmtrail.console.here import Moment
from firmtrail.console.places import GivenOrder
from firmtrail.console.plan_steps import PlanStep
from firmtrail.console.rows import PROJECT, PageQuery, page
from firmtrail.events.event import Event
from firmtrail.events.steering import (
    RollbackStarted,
    RolloutAborted,
    RolloutAdvanced,
    RolloutApproved,
    RolloutPaused,
    RolloutPhaseMet,
    RolloutPlanChanged,
    RolloutRejected,
    RolloutResumed,
    RolloutStarted,
)
from firmtrail.http import rollout_states
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.rollouts import (
    counted_of,
    grows,
    may_approve,
    name_of,
    opens_at_ms,
    past_of,
    phase_of,
    reach_of,
    rollout_of,
    shown,
)
from firmtrail.http.scalars import DeviceName, Position
from firmtrail.projections import device_offers, rollout_devices, rollout_failures
from firmtrail.rules.control import Control, is_over
from firmtrail.rules.outlook import Counted, ended_at_ms, last_time, outlook, window_of
from firmtrail.rules.progress import ProgressState
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.rollout import RolloutState, stream
from firmtrail.rules.settings import RolloutWindow

ROLLOUTS = f"{PROJECT}/rollouts"
ROLLOUT = f"{ROLLOUTS}/{{id}}"

SHOWN_MAX = 20
DEVICES_SHOWN_MAX = 50

WALKED_MAX = 2_000
"""Limits the devices whose states a page computes. A larger rollout shows the outcomes, which are
counted as they come, and the rest as one number."""

KINDS = {
    "installed": "good",
    "offered": "busy",
    "failed": "bad",
    "exhausted": "bad",
    "held": "warn",
    "pending": "soft",
    "already": "soft",
    "not_reached": "",
    "waiting": "",
}
"""The colour of each state; `waiting` are all that were not offered anything yet."""


MEANINGS = {
    "installed": "It runs the version because of this order.",
    "offered": "It learned of the version, and has reported no outcome yet.",
    "failed": "Its latest outcome is a failure. It may try again.",
    "exhausted": "It failed as often as the project allows, and is not offered the version again.",
    "held": "Another rule decides, such as a pin; or this order offers nothing now: it is paused, "
    "waits for its window or has ended, or the project is halted.",
    "pending": "It learns of the version with its next call.",
    "already": "It runs the version or a higher one, but not because of this order.",
    "not_reached": "It is not among the percentage that is reached.",
    "waiting": "It was not offered anything yet.",
}
"""The meaning of each state, in words for people."""


class RolloutsQuery(PageQuery, frozen=True, kw_only=True):
    """Continues the list before a position."""

    before: Position | None = None


class RolloutDevicesPage(PageQuery, frozen=True, kw_only=True):
    """Chooses the state of the devices, and continues the list after a device."""

    state: ProgressState | None = None
    after: DeviceName | None = None


class Counts(NamedTuple):
    """Counts the devices of a rollout: how many it is meant for, and how many are in each state."""

    matching: int
    states: dict[str, int]

    async def seen(self, now: ConsistentRead, log_id: int, found: RolloutState) -> Counted:
        """Returns what the forecast of the rollout counts."""
        installed, exhausted, *others = (
            self.states.get(name, 0) for name in ("installed", "exhausted", "failed", "offered")
        )
        offered = installed + exhausted + sum(others)
        return await counted_of(
            now,
            log_id,
            found,
            matching=self.matching,
            offered=offered,
            installed=installed,
            exhausted=exhausted,
        )


class RolloutTimes(NamedTuple):
    """Holds when a rollout does what."""

    steps: Sequence[PlanStep]
    """The phases of its plan, over time."""
    ended_at_ms: int | None
    """None: it is not over."""
    opens_at_ms: int | None
    """When the window opens that it waits for now; None if it waits for none."""


async def get_rollouts(call: Call[RolloutsQuery, None]) -> web.Response:
    """Show the rollouts and recalls, the newest first."""
    async with consistent_read(call) as now:
        control, before = now.control, call.query.before
        found = sorted(control.rollouts.values(), key=lambda each: -each.position)
        left = [each for each in found if before is None or each.position < before]
        lines = [await shown(call, now, each) for each in left[:SHOWN_MAX]]
    return render.page(
        call,
        "rollouts.html",
        title="Rollouts",
        moment=Moment(now.size),
        rollouts=lines,
        total=len(found),
        before=left[SHOWN_MAX - 1].position if len(left) > SHOWN_MAX else None,
        has_releases=bool(control.releases),
    )


async def get_rollout(call: Call[PageQuery, None]) -> web.Response:
    """Show a rollout: where its devices are, why they fail, what was ordered."""
    shared = await _shared_counts(call) if call.query.part else None
    async with consistent_read(call) as now:
        found = rollout_of(call, now.control)
        counts, size = shared or await _counted(call, now)
        failed = await rollout_failures.newest(now.reader, call.log_id, found)
        orders = await places.orders(call, now, stream(found.id))
        seen = await counts.seen(now, call.log_id, found)
        still = await _still_bad(call, now, found)
    now_ms, phase = call.services.access.now_ms(), phase_of(call, now.control, found)
    name, is_over = name_of(found), phase in {"aborted", "withdrawn"}
    recall = _recall_of(now.control, found) if is_over or not found.is_rollback else None
    window = RolloutWindow("", None) if is_over else window_of(now.control, found)
    return render.page(
        call,
        "rollout.html",
        title=name[0].upper() + name[1:],
        moment=Moment(min(size, now.size)),
        rollout=found,
        phase=phase,
        reach=reach_of(call, now.control, found),
        counts=counts,
        kinds=KINDS,
        meanings=MEANINGS,
        still=still,
        times=_times(call, now.control, found, orders, seen=seen),
        window=window,
        picture=openings.from_start(window.times, found.start_at_ms, now_ms)
        if window.times
        else None,
        may_replan=not found.is_rollback and not is_over,
        recall=recall,
        may_recall=recall is None and _may_recall(now.control, found, is_over=is_over),
        grows=grows(call, now.control, found),
        may_approve=may_approve(call, found),
        failed=failed,
        reasons=rollout_failures.grouped(failed.failures),
        orders=[(words_of(each.recorded.event), each) for each in orders],
        pause=_pause_of(found, orders),
    )


async def _still_bad(call: AnyCall, now: ConsistentRead, found: RolloutState) -> int | None:
    """Returns how many devices still run the bad version of a recall; None for a rollout."""
    if not found.is_rollback:
        return None
    return await rollout_devices.running_bad(now.reader, call.log_id, found)


def _recall_of(control: Control, found: RolloutState) -> RolloutState | None:
    """Returns the newest recall of the version that a rollout leads to, or that a recall leads away
    from, if there is one, and the version that this leads to was not withdrawn."""
    bad = found.bad_version or found.version
    newest = next(iter(control.deciding.get((found.model, bad), ())), None)
    return None if newest is None or is_over(control, newest) else newest


def _may_recall(control: Control, found: RolloutState, *, is_over: bool) -> bool:
    """Returns whether the page offers to recall the version that a rollout leads to, or once more
    the one that a recall led away from."""
    if not found.is_rollback:
        return True
    return is_over and ReleaseKey(found.model, found.bad_version or "") in control.releases


async def _counted(call: AnyCall, now: ConsistentRead) -> tuple[Counts, int]:
    """Returns the counts of the rollout's devices, and the size of the log that they are for."""
    return await counts_of(call, now, rollout_of(call, now.control)), now.size


async def _shared_counts(call: AnyCall) -> tuple[Counts, int]:
    """Returns what a part of an open page has counted a moment ago. The states of up to
    `WALKED_MAX` devices are computed one by one, so open pages share them."""

    async def read() -> tuple[Counts, int]:
        async with consistent_read(call) as now:
            return await _counted(call, now)

    return await call.services.shared.get(("rollout", call.log_id, call.path("id")), read)


def _times(
    call: AnyCall, control: Control, found: RolloutState, orders: list[GivenOrder], *, seen: Counted
) -> RolloutTimes:
    """Returns when the rollout does what. Without a plan it has no phases."""
    over_ms, opening_ms = ended_at_ms(control, found), opens_at_ms(call, control, found)
    if not found.plan:
        return RolloutTimes((), over_ms, opening_ms)
    now_ms = call.services.access.now_ms()
    at = last_time(control, found, now_ms)
    past = past_of(control, found, (each.recorded for each in reversed(orders)), now_ms)
    lines = plan_steps.steps(past.state, at, past.times, outlook(control, found, at, seen))
    return RolloutTimes(lines, over_ms, opening_ms)


async def counts_of(call: AnyCall, now: ConsistentRead, found: RolloutState) -> Counts:
    """Returns how many devices are in each state. A rollout for many devices, or for a few that
    only a long walk finds, has only the outcomes, and `waiting` for all others."""
    matching = await rollout_devices.matching(now.reader, call.log_id, found)
    if matching <= WALKED_MAX:
        walked = await rollout_states.page(
            call, now, found, wanted=None, after="", limit=WALKED_MAX
        )
        if walked.last is None:
            counted = rollout_states.counted(walked.devices)
            return Counts(matching, {name: counted[name] for name in KINDS if name in counted})
    max_attempts = now.control.settings.max_attempts
    _, ends = await device_offers.counts(now.reader, call.log_id, found.id, max_attempts)
    outcomes = {name: ends[name] for name in ("installed", "failed", "exhausted")}
    offered = max(0, ends["offered"] - sum(outcomes.values()))
    waiting = max(0, matching - ends["offered"])
    return Counts(matching, {**outcomes, "offered": offered, "waiting": waiting})


def words_of(event: Event) -> str:
    """Returns what an order to a rollout says, after the name of who gave it."""
    match event:
        case RolloutStarted():
            pause = ""
            if event.failed_percent is not None:
                share = f"{event.failed_percent} % of at least {event.min_reports}"
                pause = f", to pause when more than {share} fail"
            plan = f" by a plan of {len(event.plan)} phases" if event.plan else ""
            return f"started it at {event.reach / 100:g} %{plan}{pause}"
        case RollbackStarted():
            way = f"to {event.version}" if event.version else "each to its previous version"
            return f"sent the devices that run {event.bad_version} back, {way}"
        case RolloutPlanChanged(plan=plan):
            return f"gave it a plan of {len(plan)} further phases"
        case RolloutAdvanced(reach):
            return f"advanced it to {reach / 100:g} %"
        case RolloutPaused() if event.failed is not None:
            outcomes = event.failed + (event.installed or 0)
            return f"paused it: {event.failed} of {outcomes} outcomes failed"
    return _WORDS.get(type(event), "changed it")


_WORDS = {
    RolloutPaused: "paused it",
    RolloutResumed: "resumed it",
    RolloutAborted: "aborted it",
    RolloutApproved: "approved it",
    RolloutRejected: "rejected it",
    RolloutPhaseMet: "began the next phase of its plan",
}


def _pause_of(found: RolloutState, orders: list[GivenOrder]) -> GivenOrder | None:
    """Returns the order by which the rollout paused, its own or a person's, if it is paused."""
    if found.phase != "paused":
        return None
    return next((each for each in orders if isinstance(each.recorded.event, RolloutPaused)), None)


async def get_rollout_devices(call: Call[RolloutDevicesPage, None]) -> web.Response:
    """Show the devices of a rollout that are in one state."""
    query = call.query
    async with consistent_read(call) as now:
        found = rollout_of(call, now.control)
        listed = await rollout_states.page(
            call,
            now,
            found,
            wanted=query.state,
            after=query.after or "",
            limit=DEVICES_SHOWN_MAX,
        )
    return render.page(
        call,
        "rollout_devices.html",
        title=f"Devices of the {name_of(found)}",
        moment=Moment(now.size),
        rollout=found,
        state=query.state,
        states=[name for name in KINDS if name != "waiting"],
        kinds=KINDS,
        listed=listed,
        is_continued=query.after is not None,
    )


ROUTES = (
    page(ROLLOUTS, get_rollouts, query=RolloutsQuery, is_view=True),
    page(ROLLOUT, get_rollout, is_view=True),
    page(f"{ROLLOUT}/devices", get_rollout_devices, query=RolloutDevicesPage, is_view=True),
)
