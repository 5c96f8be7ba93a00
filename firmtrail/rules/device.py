"""Decides on devices and their reports. Pure: time and ids come in as arguments.

`evolve_…` folds a device's events to its state. `decide_…` returns the meaning of a command for a
device in that state: an event to record, a duplicate of a recorded one, or a refusal with a reason.

The order of a device's reports (`device_order`) decides the status, the current version and the
history. So `evolve_report` takes, with each report, the next report of a running version in that
order, if one is recorded already: a late report costs one look-up, however long the history is.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple, override

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import (
    REPORTS,
    DeviceAccepted,
    DeviceChanged,
    DeviceDecommissioned,
    DeviceKeyAccepted,
    DeviceKeyOffered,
    DeviceKeyRejected,
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
from firmtrail.rules.report import KnownReport, ReportCommand, claim, is_bare, is_counted

LAST_PLACE = (1 << 63) - 2
"""The highest place that fits into a row. Only a device with a thousand countings, each of which
used the highest seq, reaches it; from then on its reports are ordered by position."""

MOVING: frozenset[Status] = frozenset({"installed", "running"})
"""The statuses that say which version runs."""

FAILING: tuple[Status, ...] = ("failed", "rejected")
"""The statuses that say that the device did not get to a version."""

INSTALLING: frozenset[Status] = frozenset({"installing", "rebooting"})
"""The statuses that say that the device is about to run another version."""

type ClockFault = Literal["unset", "ahead", "behind"]
"""The reason why the time that a report claims is not believed."""


class Duplicate(msgspec.Struct, frozen=True, gc=False):
    """Says where a report was recorded before."""

    position: int
    recorded_at_ms: int


class Refused(Exception):
    """Reports that a rule refuses a command. `code` is stable, `status` is its HTTP status, and
    `member` names the member of the command that is at fault, if there is one."""

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
    """Returns the refusal of a command on a device that does not exist."""
    return Refused("unknown_device", f"There is no device {name}.", status=404)


def device_decommissioned(name: str) -> Refused:
    """Returns the refusal of a command that a decommissioned device does not take."""
    return Refused(
        "device_decommissioned", f"Device {name} is decommissioned. Restore the device first."
    )


class DeviceState(msgspec.Struct, frozen=True, gc=False):
    """Holds the state of a device after its events; a row of the view device_current."""

    device: str
    model: str | None = None
    cohort: str | None = None
    tags: tuple[str, ...] = ()
    pinned: str | None = None
    decommissioned: bool = False
    pending: bool = False
    """Whether it waits to be accepted, and is offered nothing."""
    offered_key: str | None = None
    """The SHA-256 of a public key that waits to be accepted as the device's own."""
    version: str | None = None
    """The version that it runs: that of its last installed/running report, in its own order."""
    since_ms: int | None = None
    """The time of the first report of the current run of that version."""
    previous_version: str | None = None
    run_place: int = -1
    run_position: int = -1
    """The first report of the current run: `run_place` and `run_position`."""
    last_place: int = -1
    last_position: int | None = None
    last_version: str | None = None
    status: Status | None = None
    clock: ClockFault | None = None
    """The last report of any status, in the device's own order: from `last_place` to `clock`."""
    recorded_position: int | None = None
    recorded_at_ms: int | None = None
    """The report that was recorded last: `recorded_position` and `recorded_at_ms`."""
    counting_place: int = 0
    """Where the present counting begins: the place of a seq or a time is higher by this much. All
    places of earlier countings are lower."""
    registered_at_ms: int = 0
    is_ordered: bool = False
    """Whether an offer or a retry of `last_version` was recorded after the report recorded last."""
    installing_version: str | None = None
    installing_ms: int | None = None
    """The version that the device installs by the report recorded last, and the time of that
    report; None if it says something else."""


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
    """Holds an installed/running report that comes after another one in the device's order."""

    place: int
    position: int
    version: str
    time_ms: int


class Placed(msgspec.Struct, frozen=True, gc=False):
    """Holds the place of a report in its device's order."""

    place: int
    position: int
    time_ms: int
    """Its occurred_at if that is believed, else the time of its recording."""
    occurred_at_ms: int | None
    clock: ClockFault | None
    late: bool
    """Whether a report with a later place was recorded before it."""


def decide_report(
    state: DeviceState | None,
    report: ReportCommand,
    known: KnownReport | None,
    *,
    is_awaited: bool = False,
) -> ReportEvent | Duplicate:
    """Returns the event that records a report, or the report that it repeats. Raises `Refused`.

    `known` is the report recorded under the same `identity`. `is_awaited` says that something was
    asked or ordered of the device since its last report. Then a bare report is new even if it
    repeats the last one: it answers an open question, or its rollout was resumed.
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
        f"The report was not recorded: report_id {report.report_id} was used at position "
        f"{known.position} for another version, status, seq or occurred_at. Send a new report_id.",
    )


def _repeats_last(state: DeviceState, report: ReportCommand) -> bool:
    """Returns whether a bare report repeats the last one, both as recorded and in order, and no
    offer or retry of its version came in between."""
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


def evolve_report(
    state: DeviceState, report: Recorded, at: Placed, later: LaterReport | None
) -> DeviceState:
    """Returns the device after a report; `later` is the next installed/running report after it."""
    event = report.event
    assert isinstance(event, REPORTS)
    if event.status in MOVING:
        state = _moved(state, event.version, at, later)
    if not at.late:
        state = replace(
            state,
            last_place=at.place,
            last_position=at.position,
            last_version=event.version,
            status=event.status,
            clock=at.clock,
        )
    return replace(
        state,
        recorded_position=at.position,
        recorded_at_ms=report.recorded_at_ms,
        is_ordered=False,
        installing_version=event.version if event.status in INSTALLING else None,
        installing_ms=at.time_ms if event.status in INSTALLING else None,
    )


def _moved(state: DeviceState, version: str, at: Placed, later: LaterReport | None) -> DeviceState:
    """Returns the device with its current run (the last reports in its order, as far as of one
    version) after an installed/running report. The report can begin a new run, become the first of
    this one, come right before it, or split it; an earlier one changes only the history."""
    if later is None:
        if version == state.version:
            return state
        return replace(
            state,
            version=version,
            since_ms=at.time_ms,
            previous_version=state.version,
            run_place=at.place,
            run_position=at.position,
        )
    following, first = (later.place, later.position), (state.run_place, state.run_position)
    if following == first and version == state.version:
        return replace(state, since_ms=at.time_ms, run_place=at.place, run_position=at.position)
    if following == first:
        return replace(state, previous_version=version)
    if following > first and version != state.version:
        return replace(
            state,
            since_ms=later.time_ms,
            previous_version=version,
            run_place=later.place,
            run_position=later.position,
        )
    return state


def evolve_attributes(
    state: DeviceState | None, device: str, event: Event, recorded_at_ms: int = 0
) -> DeviceState:
    """Returns the device after an event about the device itself. Its state has no secrets; a secret
    that begins a new counting changes it."""
    if isinstance(event, DeviceRegistered):
        return DeviceState(
            device,
            event.model,
            event.cohort,
            event.tags,
            pending=event.pending,
            registered_at_ms=recorded_at_ms,
        )
    assert state is not None, f"{device} is not registered"
    changed = _changed(state, event)
    return replace(state, **changed) if changed else state


def _changed(state: DeviceState, event: Event) -> dict[str, object]:
    """Returns the members of the state that the event sets."""
    changed: dict[str, object] = {}
    match event:
        case DeviceChanged():
            changed = _present(event)
        case DeviceDecommissioned():
            changed = {"decommissioned": True, "pending": False, "offered_key": None}
        case DeviceRestored():
            changed = {"decommissioned": False}
        case DeviceAccepted():
            changed = {"pending": False}
        case DeviceKeyOffered(key):
            changed = {"offered_key": key}
        case DeviceKeyAccepted() | DeviceKeyRejected():
            changed = {"offered_key": None}
        case DeviceSecretIssued(new_counting=True):
            changed = {"counting_place": min(state.last_place + 1, LAST_PLACE)}
    return changed


def evolve_ordered(state: DeviceState, version: str) -> DeviceState:
    """Returns the device after an offer or a retry of a version: a bare report of that version no
    longer repeats the last one."""
    if version != state.last_version or state.is_ordered:
        return state
    return replace(state, is_ordered=True)


def _present(event: DeviceChanged) -> dict[str, object]:
    members = msgspec.structs.asdict(event)
    return {name: value for name, value in members.items() if value is not UNSET}


def decide_registration(
    state: DeviceState | None, registration: DeviceRegistered, device: str
) -> DeviceRegistered:
    """Returns the event of a registration. Raises `Refused` if the device exists; a decommissioned
    one is restored by a change."""
    if state is None:
        return registration
    if state.decommissioned:
        raise device_decommissioned(device)
    raise Refused("device_exists", f"Device {device} is already registered.")


def decide_change(
    state: DeviceState,
    change: DeviceChanged,
    decommissioned: bool | UnsetType = UNSET,  # noqa: FBT001 (a value to set, not a switch)
) -> list[Event]:
    """Returns the events of a change of attributes; none if nothing would change."""
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
