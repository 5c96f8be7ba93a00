"""Folds one rollout or rollback. `rollout_decisions` decides which commands it takes.

A rollback is a rollout of another kind: it names a bad version, reaches the devices that run it,
and sends each to a given version or to the device's previous one.

How many devices a rollout with a plan reaches depends on the time, so it is asked for with a
`PlanTime`: the time, and the halts that do not count.
"""

from hashlib import sha256
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from firmtrail.events.event import Recorded
from firmtrail.events.steering import (
    PlanPhase,
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
    Window,
)
from firmtrail.events.times import time_ms
from firmtrail.rules import plan
from firmtrail.rules.device import DeviceState
from firmtrail.rules.plan import Halts, PlanClock

BUCKETS = 10_000
"""The number of buckets, of which each device has one in a rollout: hundredths of a percent."""

type Phase = Literal["running", "paused", "aborted"]
type LiveState = Literal["running", "paused", "aborted", "waiting", "scheduled"]
"""The state at a time: a rollout may also wait for approval, or for its start."""


class PlanTime(NamedTuple):
    """Holds a time, and the halts of the project up to then."""

    now_ms: int
    halts: Halts = ()


class Recent(NamedTuple):
    """Counts the devices of a rollout by their latest outcome since its start or last resume."""

    installed: int = 0
    failed: int = 0
    phase: int = -1
    """The phase of the plan that the two counts below are for."""
    phase_installed: int = 0
    phase_failed: int = 0

    def in_phase(self, index: int) -> "Recent":
        """Returns the counts for this phase: they begin again with each one."""
        if self.phase == index:
            return self
        return self._replace(phase=index, phase_installed=0, phase_failed=0)


class RolloutState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the state of a rollout after its events; a rollback has a `bad_version`."""

    id: str
    model: str
    version: str | None
    """The version that it sends devices to. None sends each to its previous version, or if it has
    none to the fallback."""
    reach: int
    cohort: str | None = None
    tag: str | None = None
    failed_percent: int | None = None
    min_reports: int | None = None
    bad_version: str | None = None
    fallback: str | None = None
    phase: Phase = "running"
    position: int
    """The position of its start: the newer of two rollouts has the higher position."""
    started_at_ms: int
    phase_position: int
    """The position of the event that began its phase, or that began or ended its last wait for
    approval."""
    phase_at_ms: int
    resumed_position: int
    """The position of its start or last resume: outcomes after it count towards pausing."""
    silent_after_s: int | None = None
    """How long a device that was offered the version may be silent before it counts as failed."""
    plan: tuple[PlanPhase, ...] = ()
    clock: PlanClock | None = None
    """Where the plan was after the last event of the rollout; None without a plan, and until the
    rollout is approved for the first time. While a changed plan waits for approval, it names the
    phase that begins with the approval."""
    start_at_ms: int | None = None
    window_times: Window | None = None
    approvals: int = 0
    """The number of members who have to approve it."""
    approved_by: tuple[str, ...] = ()
    started_by: str | None = None
    release_position: int | None = None
    changed_by: str | None = None
    """The person who last changed the plan, if that needs approval."""

    @property
    def is_rollback(self) -> bool:
        return self.bad_version is not None

    @property
    def watches(self) -> bool:
        """Returns whether its outcomes are counted, as it may pause because of them."""
        return self.min_reports is not None and self.phase == "running"

    @property
    def has_conditions(self) -> bool:
        """Returns whether the outcomes of a phase are counted, as they may end the phase."""
        is_over = self.phase == "aborted"
        return not is_over and any(each.min_reports is not None for each in self.plan)

    @property
    def is_approved(self) -> bool:
        return len(self.approved_by) >= self.approvals

    @property
    def is_ticking(self) -> bool:
        """Returns whether the time of its plan passes, unless the project is halted."""
        return self.phase == "running" and self.is_approved


def stream(rollout_id: str) -> str:
    return f"rollout/{rollout_id}"


def bucket(rollout_id: str, device: str) -> int:
    """Returns the device's bucket, below `BUCKETS`. It never changes in one rollout."""
    digest = sha256(f"{rollout_id}/{device}".encode()).digest()
    return int.from_bytes(digest) % BUCKETS


def is_meant(rollout: RolloutState, device: DeviceState) -> bool:
    """Returns whether the rollout is for devices of this model, cohort and tags."""
    return (
        rollout.model == device.model
        and rollout.cohort in {None, device.cohort}
        and (rollout.tag is None or rollout.tag in device.tags)
    )


def counts(rollout: RolloutState, device: DeviceState | None) -> bool:
    """Returns whether a device with an offer of the rollout counts for it: in its lists, in its
    progress, and in the outcomes that it may pause because of."""
    return device is not None and not device.decommissioned and is_meant(rollout, device)


def reaches(rollout: RolloutState, device: str, at: PlanTime) -> bool:
    return bucket(rollout.id, device) < reach_at(rollout, at)


def reach_at(rollout: RolloutState, at: PlanTime) -> int:
    """Returns the number of buckets that the rollout reaches at this time."""
    clock = rollout.clock
    if clock is None or not rollout.is_approved:
        return rollout.reach
    if not rollout.is_ticking:
        return rollout.plan[clock.phase].reach
    *_, last = plan.clocks(rollout.plan, clock, at.halts, at.now_ms)
    return rollout.plan[last.phase].reach


def clock_at(rollout: RolloutState, at: PlanTime) -> PlanClock | None:
    """Returns where the plan is at this time; None without a plan, or before its first
    approval."""
    if rollout.clock is None or not rollout.is_ticking:
        return rollout.clock
    return plan.at(rollout.plan, rollout.clock, at.halts, at.now_ms)


def state_at(rollout: RolloutState, now_ms: int) -> LiveState:
    """Returns the state at this time."""
    if rollout.phase == "aborted":
        return "aborted"
    if not rollout.is_approved:
        return "waiting"
    if rollout.phase == "paused":
        return "paused"
    is_early = rollout.start_at_ms is not None and now_ms < rollout.start_at_ms
    return "scheduled" if is_early else "running"


def state_since_ms(rollout: RolloutState, now_ms: int) -> int:
    """Returns when the state at this time began."""
    if state_at(rollout, now_ms) == "running" and rollout.start_at_ms is not None:
        return max(rollout.phase_at_ms, rollout.start_at_ms)
    return rollout.phase_at_ms


def started(recorded: Recorded) -> RolloutState:
    """Returns the rollout that a RolloutStarted or RollbackStarted begins."""
    event = recorded.event
    assert isinstance(event, RolloutStarted | RollbackStarted)
    position, at_ms = recorded.position, recorded.recorded_at_ms
    members = msgspec.structs.asdict(event)
    members.pop("reason", None)
    start_at, times = members.pop("start_at", None), members.pop("window", None)
    members |= {"plan": members.get("plan") or (), "approvals": members.get("approvals") or 0}
    begun = RolloutState(
        id=recorded.stream.removeprefix("rollout/"),
        position=position,
        started_at_ms=at_ms,
        phase_position=position,
        phase_at_ms=at_ms,
        resumed_position=position,
        start_at_ms=None if start_at is None else time_ms(start_at),
        window_times=times,
        **members,
    )
    return _with_clock(begun, at_ms)


def _with_clock(rollout: RolloutState, at_ms: int) -> RolloutState:
    """Returns the rollout with its plan begun, if it has one and is approved."""
    if not rollout.plan or not rollout.is_approved:
        return rollout
    first = 0 if rollout.clock is None else rollout.clock.phase
    return replace(rollout, clock=plan.begun(first, max(at_ms, rollout.start_at_ms or 0)))


def evolve(rollout: RolloutState, recorded: Recorded, halts: Halts = ()) -> RolloutState:
    """Returns the rollout after a further event of its stream; `halts` are those before it."""
    now_ms = recorded.recorded_at_ms
    counted = replace(rollout, clock=clock_at(rollout, PlanTime(now_ms, halts)))
    match recorded.event:
        case RolloutPaused():
            return _in_phase(counted, "paused", recorded)
        case RolloutAborted() | RolloutRejected():
            return _in_phase(counted, "aborted", recorded)
        case RolloutResumed():
            resumed = replace(rollout, resumed_position=recorded.position)
            return _in_phase(_counting_again(resumed, now_ms), "running", recorded)
        case RolloutApproved(by=by):
            approved = replace(rollout, approved_by=(*rollout.approved_by, by))
            return _waiting_or_not(rollout, _with_clock(approved, now_ms), recorded)
        case RolloutPlanChanged() as event:
            replanned = _replanned(counted, event, PlanTime(now_ms, halts))
            return _waiting_or_not(rollout, replanned, recorded)
    return _in_plan(counted, recorded)


def _waiting_or_not(before: RolloutState, after: RolloutState, recorded: Recorded) -> RolloutState:
    """Returns the rollout with the time of the event, if this begins or ends a wait for
    approval."""
    if before.is_approved == after.is_approved:
        return after
    return _in_phase(after, after.phase, recorded)


def _replanned(rollout: RolloutState, event: RolloutPlanChanged, at: PlanTime) -> RolloutState:
    """Returns the rollout with the phases that it began, and those of the event after them."""
    begun, at_ms = begun_phases(rollout, at.now_ms), max(at.now_ms, rollout.start_at_ms or 0)
    has_begun = has_offered(rollout, at.now_ms)
    waits_first = rollout.clock is None and not rollout.is_approved
    return replace(
        rollout,
        plan=(*rollout.plan[:begun], *event.plan),
        reach=reach_at(rollout, at) if has_begun else event.plan[0].reach,
        clock=None if waits_first and event.approvals else plan.begun(begun, at_ms),
        approvals=event.approvals or 0,
        approved_by=(),
        changed_by=event.changed_by,
    )


def begun_phases(rollout: RolloutState, now_ms: int) -> int:
    """Returns how many phases of its plan the rollout has begun."""
    if rollout.clock is None:
        return 0
    is_current = rollout.is_approved and rollout.clock.began_at_ms <= now_ms
    return rollout.clock.phase + is_current


def has_offered(rollout: RolloutState, now_ms: int) -> bool:
    """Returns whether the rollout may have offered anything: it was approved, and has started."""
    was_approved = rollout.is_approved or rollout.clock is not None
    return was_approved and now_ms >= (rollout.start_at_ms or 0)


def _in_plan(rollout: RolloutState, recorded: Recorded) -> RolloutState:
    """Returns the rollout after an event that moves it to a higher percentage, or may do so."""
    match recorded.event:
        case RolloutAdvanced(reach, phase=phase):
            at_ms = max(recorded.recorded_at_ms, rollout.start_at_ms or 0)
            clock = None if phase is None else plan.begun(phase, at_ms)
            return replace(rollout, reach=reach, clock=clock)
        case RolloutPhaseMet() if rollout.clock is not None:
            return replace(rollout, clock=rollout.clock._replace(is_met=True))
    return rollout


def _counting_again(rollout: RolloutState, now_ms: int) -> RolloutState:
    """Returns the rollout with its clock running from now on: paused time does not count."""
    if rollout.clock is None:
        return rollout
    counted_at_ms = max(now_ms, rollout.clock.counted_at_ms)
    return replace(rollout, clock=rollout.clock._replace(counted_at_ms=counted_at_ms))


def _in_phase(rollout: RolloutState, phase: Phase, recorded: Recorded) -> RolloutState:
    return replace(
        rollout, phase=phase, phase_position=recorded.position, phase_at_ms=recorded.recorded_at_ms
    )
