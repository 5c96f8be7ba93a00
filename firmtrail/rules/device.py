"""The rules of devices and their reports. Pure: time and ids come in as arguments.

`evolve` folds a device's events to its state; `decide_…` says what a command means for a device in
that state: an event to record, a duplicate of one recorded, or a refusal with its reason.

A device's reports have an order of their own, (place, position), since they may arrive in any:

- a report's place is its `seq` once the device has sent one (a report without takes the highest
  so far, and all from before the first seq come first),
- else its `occurred_at` if that can be believed, else the time of recording.

A restored device, or one with new hardware, begins a new counting, whose places are all later than
those before: its seq begins again.

That order decides the status, the current version and the history. So `evolve` takes, with each
report, the nearest report of an installed version after it in that order, if one was recorded
before it: with it, a late report costs one look-up, however long the history is.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple, override

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from firmtrail.events import times
from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import (
    REPORTS,
    DeviceChanged,
    DeviceDecommissioned,
    DeviceRegistered,
    DeviceRestored,
    DeviceSecretIssued,
    FirmwareInstalled,
    FirmwareRunning,
    ReportEvent,
    Status,
    UpdateFailed,
    UpdateProgressed,
)
from firmtrail.events.times import time_text
from firmtrail.rules.report import EARLIEST_BELIEVED_MS, KnownReport, claim, is_bare, is_counted
from firmtrail.rules.report import ReportCommand as ReportCommand  # noqa: PLC0414 (callers find it next to the rules)

AHEAD_MS_MAX = 5 * 60 * 1000
"""How far a device's clock may be ahead of the log's and still be believed."""

SEQ_PLACE = 1 << 48
"""The place of seq 0 within a counting: after every place that is a time (of a year before 10000).
"""

LAST_PLACE = (1 << 63) - 2
"""The highest place that a row can hold. Only a device with a thousand countings, each of which
used up the highest seq, comes there; from then on its reports are ordered by position."""

MOVING: frozenset[Status] = frozenset({"installed", "running"})
"""The statuses that say which version runs."""

AT_IT: frozenset[Status] = frozenset({"installing", "rebooting"})
"""The statuses that say that the device is about to run another version."""

FAILED: frozenset[Status] = frozenset({"failed", "rejected"})
"""The statuses that say that the device did not get to a version."""

type ClockFault = Literal["unset", "ahead", "behind"]
"""Why the time that a report claims is not believed."""


class Duplicate(msgspec.Struct, frozen=True, gc=False):
    """A command that was recorded before, and where."""

    position: int
    recorded_at_ms: int


class Refused(Exception):
    """A rule refuses a command. `code` is stable, `status` is the HTTP status that it means, and
    `member` names the member of the command that is refused, if it is one."""

    def __init__(self, code: str, detail: str, status: int = 409, *, member: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
        self.member = member

    @override
    def __reduce__(self) -> tuple[Callable[..., "Refused"], tuple[str, str, int]]:
        return partial(Refused, member=self.member), (self.code, self.detail, self.status)


def unknown_device(name: str) -> Refused:
    return Refused("unknown_device", f"There is no device {name}.", status=404)


def device_decommissioned(name: str) -> Refused:
    return Refused(
        "device_decommissioned", f"Device {name} is decommissioned. Restore the device first."
    )


class DeviceState(msgspec.Struct, frozen=True, gc=False):
    """A device as its events leave it; a row of the view device_current."""

    device: str
    model: str | None = None
    cohort: str | None = None
    tags: tuple[str, ...] = ()
    pinned: str | None = None
    decommissioned: bool = False
    version: str | None = None
    """What it runs: the version of its last installed/running report, in its own order."""
    since_ms: int | None = None
    """The time of the first report of the current run of that version."""
    previous_version: str | None = None
    run_place: int = -1
    run_position: int = -1
    """The current run's first report."""
    last_place: int = -1
    last_position: int | None = None
    last_version: str | None = None
    status: Status | None = None
    clock: ClockFault | None = None
    """The last report of whatever status, in the device's own order."""
    recorded_position: int | None = None
    recorded_at_ms: int | None = None
    """The report recorded last."""
    counting_place: int = 0
    """Where the present counting begins: a seq or a time stands for the place that is so much
    higher. All places of the countings before it are lower."""
    registered_at_ms: int = 0
    is_ordered: bool = False
    """Whether an offer or a retry of `last_version` was recorded after the report recorded last."""


def existing_device(states: Mapping[str, DeviceState], name: str) -> DeviceState:
    """Returns the device's state. Raises `Refused` if there is no such device."""
    if name not in states:
        raise unknown_device(name)
    return states[name]


def active_device(states: Mapping[str, DeviceState], name: str) -> DeviceState:
    """Returns the device's state. Raises `Refused` if it is unknown or decommissioned."""
    state = existing_device(states, name)
    if state.decommissioned:
        raise device_decommissioned(name)
    return state


class LaterReport(NamedTuple):
    """An installed/running report that comes after another one in the device's order."""

    place: int
    position: int
    version: str
    time_ms: int


class Placed(msgspec.Struct, frozen=True, gc=False):
    """A report where it stands in its device's order."""

    place: int
    position: int
    time_ms: int
    """Its occurred_at if believed, else its recording."""
    occurred_at_ms: int | None
    clock: ClockFault | None
    late: bool
    """A report of a later place was recorded before it."""


def decide_report(
    state: DeviceState | None,
    report: ReportCommand,
    known: KnownReport | None,
    *,
    is_awaited: bool = False,
) -> ReportEvent | Duplicate:
    """Returns the event that records a report, or what the report repeats. Raises `Refused`.

    `known` is the report recorded under the same `identity`. `is_awaited` says that something was
    asked or ordered of the device since its last report, so that a bare report is news even if it
    says the same: it answers an open question, or its rollout was resumed.
    """
    if state is None:
        raise unknown_device(report.device)
    if known is not None:
        if known.claim != claim(report):
            raise _reused(report, known)
        return Duplicate(known.position, known.recorded_at_ms)
    if state.decommissioned:
        raise device_decommissioned(report.device)
    if not is_awaited and is_bare(report) and _repeats_last(state, report):
        assert state.recorded_position is not None and state.recorded_at_ms is not None
        return Duplicate(state.recorded_position, state.recorded_at_ms)
    return _event(report)


def _reused(report: ReportCommand, known: KnownReport) -> Refused:
    """Returns the refusal of a report whose identity stands for a report with another claim."""
    if is_counted(report):
        return Refused(
            "seq_reused",
            f"The report was not recorded: seq {report.seq} was used at position {known.position} "
            "for another version, status or occurred_at. Send it with the next free seq; if the "
            'hardware was replaced, issue its secret with {"new_hardware": true} first.',
        )
    return Refused(
        "report_id_reused",
        f"report_id {report.report_id} was used at position {known.position} "
        "for another version, status, seq or occurred_at",
    )


def _repeats_last(state: DeviceState, report: ReportCommand) -> bool:
    """Returns whether a bare report says nothing that the last one, recorded and in order, did not,
    and no offer or retry of its version came in between."""
    if state.recorded_position is None or state.recorded_position != state.last_position:
        return False
    if report.version != state.last_version or state.is_ordered:
        return False
    return report.status == state.status or (report.status in MOVING and state.status in MOVING)


def _event(report: ReportCommand) -> ReportEvent:
    occurred_at = None
    if report.occurred_at_ms is not None:
        occurred_at = time_text(report.occurred_at_ms)
    claims = (report.version, report.seq, occurred_at, report.question, report.rollout)
    match report.status:
        case "installed":
            return FirmwareInstalled(*claims, sent=report.sent)
        case "running":
            return FirmwareRunning(*claims, sent=report.sent)
        case "failed" | "rejected" as failure:
            return UpdateFailed(*claims, sent=report.sent, status=failure)
        case progress:
            return UpdateProgressed(*claims, sent=report.sent, status=progress)


def placed(state: DeviceState, report: Recorded, offer_place: int = -1) -> Placed:
    """Returns where a report stands in the device's order, the device being in `state` before it.

    `offer_place` is the place of the newest offer of the report's version, -1 if there is none.
    """
    event = report.event
    assert isinstance(event, REPORTS)
    occurred_at_ms = times.time_ms(event.occurred_at) if event.occurred_at else None
    time_ms, clock = _time(occurred_at_ms, report.recorded_at_ms)
    place = place_of(state, event.seq, time_ms)
    if clock is None and place < state.last_place and _is_behind(state, event, place, offer_place):
        time_ms, clock = report.recorded_at_ms, "behind"
        place = max(state.last_place, place_of(state, None, time_ms))
    late = place < state.last_place
    return Placed(place, report.position, time_ms, occurred_at_ms, clock, late)


def place_of(state: DeviceState, seq: int | None, time_ms: int) -> int:
    """Returns the place of a report of this seq and time."""
    if seq is not None:
        place = state.counting_place + SEQ_PLACE + seq
    elif last_seq(state) is not None:
        return state.last_place
    else:
        place = state.counting_place + time_ms
    return min(place, LAST_PLACE)


def last_seq(state: DeviceState) -> int | None:
    """Returns the highest seq of the device's present counting; None if it sent none."""
    seq = state.last_place - state.counting_place - SEQ_PLACE
    return seq if seq >= 0 else None


def _is_behind(state: DeviceState, event: ReportEvent, place: int, offer_place: int) -> bool:
    """Returns whether the claimed time of an installed version cannot be: the device's last report
    is that it installs this very version (or an installed one whose clock is behind, too), yet the
    time is before the device's registration, or before the place of the offer.

    The report of the install has to stand after that bound itself: an update of long ago, whose
    reports arrive late, is believed.
    """
    if event.status not in MOVING or event.seq is not None or event.occurred_at is None:
        return False
    if event.version != state.last_version:
        return False
    if state.status not in AT_IT and state.clock != "behind":
        return False
    registered_place = state.counting_place + state.registered_at_ms
    bounds = (registered_place, offer_place)
    return any(place < bound <= state.last_place for bound in bounds)


def claimed_place(state: DeviceState, report: ReportCommand, now_ms: int) -> int:
    """Returns the place that a report recorded at `now_ms` takes by what it claims, if the device's
    present counting is by its clock; with a seq of its own, whichever it is by."""
    if report.seq is not None:
        return place_of(state, report.seq, now_ms)
    time_ms, _ = _time(report.occurred_at_ms, now_ms)
    return min(state.counting_place + time_ms, LAST_PLACE)


def _time(occurred_at_ms: int | None, recorded_at_ms: int) -> tuple[int, ClockFault | None]:
    """Returns a report's time, and what is wrong with the device's clock if it is not believed."""
    if occurred_at_ms is None:
        return recorded_at_ms, None
    if occurred_at_ms < EARLIEST_BELIEVED_MS:
        return recorded_at_ms, "unset"
    if occurred_at_ms > recorded_at_ms + AHEAD_MS_MAX:
        return recorded_at_ms, "ahead"
    return occurred_at_ms, None


class _Run(NamedTuple):
    """The current run: neighbours of one version at the end of the device's order."""

    version: str | None
    since_ms: int | None
    previous_version: str | None
    place: int
    position: int


def evolve_report(
    state: DeviceState, report: Recorded, at: Placed, later: LaterReport | None
) -> DeviceState:
    """Returns the device after a report; `later` is the next installed/running report after it."""
    event = report.event
    assert isinstance(event, REPORTS)
    run = _Run(
        state.version,
        state.since_ms,
        state.previous_version,
        state.run_place,
        state.run_position,
    )
    if event.status in MOVING:
        run = _moved(run, event.version, at, later)
    last = (state.last_place, state.last_position, state.last_version, state.status, state.clock)
    if not at.late:
        last = (at.place, at.position, event.version, event.status, at.clock)
    return DeviceState(
        state.device,
        state.model,
        state.cohort,
        state.tags,
        state.pinned,
        state.decommissioned,
        *run,
        *last,
        at.position,
        report.recorded_at_ms,
        state.counting_place,
        state.registered_at_ms,
    )


def _moved(run: _Run, version: str, at: Placed, later: LaterReport | None) -> _Run:
    """Returns the run after an installed/running report, which can begin a new one, lengthen it to
    the front, come right before it, or split it; farther back, it changes only the history."""
    if later is None:
        if version == run.version:
            return run
        return _Run(version, at.time_ms, run.version, at.place, at.position)
    behind, first = (later.place, later.position), (run.place, run.position)
    if behind == first and version == run.version:
        return _Run(version, at.time_ms, run.previous_version, at.place, at.position)
    if behind == first:
        return run._replace(previous_version=version)
    if behind > first and version != run.version:
        return _Run(run.version, later.time_ms, version, *behind)
    return run


def evolve_attributes(
    state: DeviceState | None, device: str, event: Event, recorded_at_ms: int = 0
) -> DeviceState:
    """Returns the device after an event about the device itself. Secrets are no part of its state,
    except one that begins a new counting."""
    if isinstance(event, DeviceRegistered):
        return DeviceState(
            device, event.model, event.cohort, event.tags, registered_at_ms=recorded_at_ms
        )
    assert state is not None, f"{device} is not registered"
    match event:
        case DeviceChanged():
            return replace(state, **_present(event))
        case DeviceDecommissioned():
            return replace(state, decommissioned=True)
        case DeviceRestored():
            return replace(state, decommissioned=False)
        case DeviceSecretIssued(new_counting=True):
            return replace(state, counting_place=min(state.last_place + 1, LAST_PLACE))
    return state


def evolve_ordered(state: DeviceState, version: str) -> DeviceState:
    """Returns the device after an offer or a retry of a version: its last report of that version no
    longer stands for a bare one."""
    if version != state.last_version or state.is_ordered:
        return state
    return replace(state, is_ordered=True)


def _present(event: DeviceChanged) -> dict[str, object]:
    members = msgspec.structs.asdict(event)
    return {name: value for name, value in members.items() if value is not UNSET}


def decide_registration(
    state: DeviceState | None, registration: DeviceRegistered, device: str
) -> DeviceRegistered:
    """Raises `Refused` where the device exists; a decommissioned one is restored by a change."""
    if state is None:
        return registration
    if state.decommissioned:
        raise device_decommissioned(device)
    raise Refused("device_exists", f"device {device} is registered already")


def decide_change(
    state: DeviceState,
    change: DeviceChanged,
    decommissioned: bool | UnsetType = UNSET,  # noqa: FBT001 (a wish for a value, not a switch)
) -> list[Event]:
    """Returns the events that a change of attributes means; none if nothing would change."""
    changed = {
        name: value for name, value in _present(change).items() if getattr(state, name) != value
    }
    if changed and state.decommissioned and decommissioned is not False:
        raise device_decommissioned(state.device)
    decided: list[Event] = []
    if decommissioned is False and state.decommissioned:
        decided.append(DeviceRestored())
    if changed:
        decided.append(replace(DeviceChanged(), **changed))
    if decommissioned is True and not state.decommissioned:
        decided.append(DeviceDecommissioned())
    return decided
