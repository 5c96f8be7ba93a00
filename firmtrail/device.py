"""The rules of devices and their reports. Pure: time and ids come in as arguments.

`evolve` folds a device's events to its state; `decide_…` says what a command means for a device in
that state: an event to record, a duplicate of one recorded, or a refusal with its reason.

A device's reports have an order of their own, (place, position), since they may arrive in any:

- a report's place is its `seq` once the device has sent one (a report without takes the highest
  so far, and all from before the first seq come first),
- else its `occurred_at` if that can be believed, else the time of recording.

That order decides the status, the current version and the history. So `evolve` takes, with each
report, the nearest report of an installed version behind it in that order, if one was recorded
before it: with it, a late report costs one look-up, however long the history is.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Literal, NamedTuple, override

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from firmtrail import events
from firmtrail.events import Event, Recorded, ReportEvent, Status

EARLIEST_BELIEVED_MS = 1_420_070_400_000
"""2015-01-01T00:00Z: a clock before it was never set."""

AHEAD_MS_MAX = 5 * 60 * 1000
"""How far a device's clock may be ahead of the log's and still be believed."""

SEQ_PLACE = 1 << 60
"""The place of seq 0: behind every place that is a time."""

MOVING: frozenset[Status] = frozenset({"installed", "running"})
"""The statuses that say which version runs."""

type Clock = Literal["unset", "ahead"]


class Report(msgspec.Struct, frozen=True, gc=False):
    """The command to record what a device reports."""

    device: str
    version: str
    status: Status
    actor: str
    report_id: str | None = None
    seq: int | None = None
    occurred_at_ms: int | None = None
    question: str | None = None
    rollout: str | None = None
    detail: str | None = None
    sent: str | None = None


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What two reports with one report_id must have in common."""

    version: str
    status: Status
    seq: int | None
    occurred_at_ms: int | None


class Known(msgspec.Struct, frozen=True, gc=False):
    """A report already recorded under the same identity."""

    position: int
    recorded_at_ms: int
    claim: Claim


class Duplicate(msgspec.Struct, frozen=True, gc=False):
    """This was recorded before; here is where."""

    position: int
    recorded_at_ms: int


class Refused(Exception):
    """A rule says no. `code` is stable; `status` is the HTTP status that it means; `member` is what
    of the command it says no to, if it is one thing."""

    def __init__(self, code: str, detail: str, status: int = 409, *, member: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
        self.member = member

    @override
    def __reduce__(self) -> tuple[Callable[..., "Refused"], tuple[str, str, int]]:
        return partial(Refused, member=self.member), (self.code, self.detail, self.status)


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
    clock: Clock | None = None
    """The last report of whatever status, in the device's own order."""
    recorded_position: int | None = None
    recorded_at_ms: int | None = None
    """The report recorded last."""


class Later(NamedTuple):
    """An installed/running report behind another one in the device's order."""

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
    clock: Clock | None
    late: bool
    """A report of a later place was recorded before it."""


def claim(report: Report) -> Claim:
    return Claim(report.version, report.status, report.seq, report.occurred_at_ms)


def claim_of(event: ReportEvent) -> Claim:
    occurred_at_ms = events.time_ms(event.occurred_at) if event.occurred_at else None
    return Claim(event.version, event.status, event.seq, occurred_at_ms)


def identity(report: Report) -> str | None:
    """The event id under which the same report is the same; None for a bare report.

    Its report_id; else its seq; else (version, status, occurred_at), a clock never set counting
    as no time.
    """
    if report.report_id is not None:
        return f"r.{report.report_id}"
    if report.seq is not None:
        return _content_id("seq", report.seq)
    if is_bare(report):
        return None
    assert report.occurred_at_ms is not None
    return _content_id(report.version, report.status, report.occurred_at_ms)


def is_bare(report: Report) -> bool:
    """Whether nothing in the report tells it from another of the same version and status."""
    return (
        report.report_id is None
        and report.seq is None
        and (report.occurred_at_ms is None or report.occurred_at_ms < EARLIEST_BELIEVED_MS)
    )


def _content_id(*content: str | int) -> str:
    digest = sha256(msgspec.json.encode(content)).digest()[:16]
    return f"c.{urlsafe_b64encode(digest).decode().rstrip('=')}"


def decide_report(
    state: DeviceState | None, report: Report, known: Known | None, *, answers: bool = False
) -> ReportEvent | Duplicate:
    """What to record of a report, or what it repeats. Raises `Refused`.

    `known` is the report recorded under the same `identity`; `answers` says that it answers an
    open question, which is news even where the version is not.
    """
    if state is None:
        raise Refused("unknown_device", f"there is no device {report.device}", status=404)
    if known is not None:
        if report.report_id is not None and known.claim != claim(report):
            raise Refused(
                "report_id_reused",
                f"report_id {report.report_id} was used at position {known.position} "
                "for another version, status, seq or occurred_at",
            )
        return Duplicate(known.position, known.recorded_at_ms)
    if state.decommissioned:
        raise Refused("device_decommissioned", f"device {report.device} is decommissioned")
    if not answers and is_bare(report) and _repeats_last(state, report):
        assert state.recorded_position is not None and state.recorded_at_ms is not None
        return Duplicate(state.recorded_position, state.recorded_at_ms)
    return _event(report)


def _repeats_last(state: DeviceState, report: Report) -> bool:
    """Whether a bare report says nothing that the last one, recorded and in order, did not."""
    if state.recorded_position is None or state.recorded_position != state.last_position:
        return False
    if report.version != state.last_version:
        return False
    return report.status == state.status or (report.status in MOVING and state.status in MOVING)


def _event(report: Report) -> ReportEvent:
    occurred_at = None
    if report.occurred_at_ms is not None:
        occurred_at = events.time_text(report.occurred_at_ms)
    claims = (report.version, report.seq, occurred_at, report.question, report.rollout)
    match report.status:
        case "installed":
            return events.FirmwareInstalled(*claims, sent=report.sent)
        case "running":
            return events.FirmwareRunning(*claims, sent=report.sent)
        case "failed" | "rejected" as failure:
            return events.UpdateFailed(*claims, sent=report.sent, status=failure)
        case progress:
            return events.UpdateProgressed(*claims, sent=report.sent, status=progress)


def placed(state: DeviceState, report: Recorded) -> Placed:
    """Where a report stands in the device's order, the device being in `state` before it."""
    event = report.event
    assert isinstance(event, events.REPORTS)
    occurred_at_ms = events.time_ms(event.occurred_at) if event.occurred_at else None
    time_ms, clock = _time(occurred_at_ms, report.recorded_at_ms)
    if event.seq is not None:
        place = SEQ_PLACE + event.seq
    elif state.last_place >= SEQ_PLACE:
        place = state.last_place
    else:
        place = time_ms
    late = place < state.last_place
    return Placed(place, report.position, time_ms, occurred_at_ms, clock, late)


def claimed_place(report: Report, now_ms: int) -> int:
    """The place that a report recorded at `now_ms` takes, if its device never sent a seq; with a
    seq of its own, whether or not."""
    if report.seq is not None:
        return SEQ_PLACE + report.seq
    return _time(report.occurred_at_ms, now_ms)[0]


def _time(occurred_at_ms: int | None, recorded_at_ms: int) -> tuple[int, Clock | None]:
    """A report's time, and what is wrong with the device's clock if that is not its own claim."""
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
    state: DeviceState, report: Recorded, at: Placed, later: Later | None
) -> DeviceState:
    """The device after a report at its place; `later` is the next installed/running behind it."""
    event = report.event
    assert isinstance(event, events.REPORTS)
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
    )


def _moved(run: _Run, version: str, at: Placed, later: Later | None) -> _Run:
    """The run after an installed/running report, which can begin a new one, lengthen it to the
    front, come right before it, or split it; farther back, it changes only the history."""
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


def evolve_attributes(state: DeviceState | None, device: str, event: Event) -> DeviceState:
    """The device after an event about the device itself. Secrets are no part of its state."""
    if isinstance(event, events.DeviceRegistered):
        return DeviceState(device, event.model, event.cohort, event.tags)
    assert state is not None, f"{device} is not registered"
    match event:
        case events.DeviceChanged():
            return replace(state, **_present(event))
        case events.DeviceDecommissioned():
            return replace(state, decommissioned=True)
        case events.DeviceRestored():
            return replace(state, decommissioned=False)
    return state


def _present(event: events.DeviceChanged) -> dict[str, object]:
    members = msgspec.structs.asdict(event)
    return {name: value for name, value in members.items() if value is not UNSET}


def decide_registration(
    state: DeviceState | None, registration: events.DeviceRegistered, device: str
) -> events.DeviceRegistered:
    """Raises `Refused` where the device exists; a decommissioned one is restored by a change."""
    if state is None:
        return registration
    if state.decommissioned:
        raise Refused("device_decommissioned", f"device {device} is decommissioned")
    raise Refused("device_exists", f"device {device} is registered already")


def decide_change(
    state: DeviceState,
    change: events.DeviceChanged,
    decommissioned: bool | UnsetType = UNSET,  # noqa: FBT001 (a wish for a value, not a switch)
) -> list[Event]:
    """The events that a change of attributes means; none if nothing would change."""
    changed = {
        name: value for name, value in _present(change).items() if getattr(state, name) != value
    }
    if changed and state.decommissioned and decommissioned is not False:
        raise Refused("device_decommissioned", f"device {state.device} is decommissioned")
    decided: list[Event] = []
    if decommissioned is False and state.decommissioned:
        decided.append(events.DeviceRestored())
    if changed:
        decided.append(replace(events.DeviceChanged(), **changed))
    if decommissioned is True and not state.decommissioned:
        decided.append(events.DeviceDecommissioned())
    return decided
