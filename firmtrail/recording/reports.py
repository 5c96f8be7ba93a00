"""Records one commit of reports. Reports that were recorded before are found by their identity; new
ones are decided on in order.

It begins with the lock of the log's head. A report that a rule refuses fails alone. Each report is
decided on with what the reports before it in the batch have recorded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
from uuid_utils import uuid7

from firmtrail.database import stubs
from firmtrail.database.database import Row, Script
from firmtrail.database.entry_archive import Stub
from firmtrail.events.entry import decode
from firmtrail.events.fleet import REPORTS
from firmtrail.eventstore import lineage, log
from firmtrail.recording.commit import Committed, Draft, Load, LogContext, begin_draft, loaded
from firmtrail.rules import action, ask, device, device_order
from firmtrail.rules.device import DeviceState, Duplicate, Refused
from firmtrail.rules.report import (
    KnownReport,
    ReportCommand,
    claim,
    claim_of,
    identity,
    is_bare,
    is_counted,
)


class ReportReceipt(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Says where in which log a report was recorded."""

    log: int
    position: int
    duplicate: bool
    recorded_at_ms: int


class EntriesNeeded(NamedTuple):
    """Says that a unit was not decided on: entries that its reports may repeat were pruned."""

    stubs: Sequence[Stub]
    """The unit is decided on when it has the texts of these."""


type ReportOutcome = ReportReceipt | Refused
type UnitOutcome = list[ReportOutcome] | EntriesNeeded
type _Identity = tuple[str, str]
type _KnownReports = dict[_Identity, KnownReport | Stub]
"""The reports that are recorded under these identities; a stub for one whose text is needed."""


class IdentifiedReport(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Holds a report with the identity that its event gets. That of a bare report is made up when
    it arrives, so that the report is found when it is tried again after an unknown outcome."""

    stream: str
    event_id: str
    report: ReportCommand


class IdentifiedUnit(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Holds reports that are recorded together, or none of them."""

    items: Sequence[IdentifiedReport]
    texts: Mapping[Stub, str]
    """The texts of pruned entries that they may repeat, if an earlier attempt found them needed."""


def identified(report: ReportCommand) -> IdentifiedReport:
    """Returns the report with its identity; one that is bare gets an identity of its own."""
    event_id = identity(report) or f"s.{uuid7().hex}"
    return IdentifiedReport(f"device/{report.device}", event_id, report)


def record_reports(
    log_id: int, context: LogContext, take: Callable[[], Sequence[IdentifiedUnit]]
) -> Script[tuple[Committed, list[UnitOutcome]]]:
    """Plays one commit, beginning with the lock of the head. It records the units that `take` gives
    once the head is locked; returns the outcomes of each unit too. Nothing is recorded of a unit
    that needs the texts of pruned entries: an archive is not read while the head is locked."""
    draft = yield from begin_draft(log_id, context)
    units = take()
    batch = [unit.items for unit in units]
    items = [item for unit in batch for item in unit]
    known: _KnownReports = {}
    found = _Found(known, {stub: text for unit in units for stub, text in unit.texts.items()})
    devices = draft.load_devices({item.report.device for item in items}, _questions(items))
    yield from loaded([*devices, *_find(draft, context, items, found)])
    further = _later(draft, items)  # needed only because of the states of devices
    if any(state.counting_place for state in draft.fold.states.values()):
        batch = [[_in_counting(draft, item) for item in unit] for unit in batch]
        counted = [item for unit in batch for item in unit if _counting_place(draft, item.report)]
        further += _find(draft, context, counted, found) if counted else []
    if further:
        yield from loaded(further)
    pruned = {key: each for key, each in known.items() if isinstance(each, Stub)}
    outcomes = [_needed(unit, pruned) or _decide_unit(draft, unit, known) for unit in batch]
    yield draft.statements()
    return draft.committed, [_first_given(context.earlier_logs, unit) for unit in outcomes]


class _Found(NamedTuple):
    """Collects the reports that a batch may repeat."""

    known: _KnownReports
    texts: Mapping[Stub, str]
    """The texts of pruned ones."""


def _find(
    draft: Draft, context: LogContext, items: Sequence[IdentifiedReport], found: _Found
) -> list[Load]:
    """Finds the reports recorded under these identities, in this log and in those that it
    continues, and adds them to those that are known."""
    identities = [(item.stream, item.event_id) for item in items]
    known, texts = found

    def take(earlier: lineage.Segment | None, rows: Iterable[Row]) -> None:
        log_id, start = (earlier.log_id, earlier.start) if earlier else (draft.log_id, 0)
        for key, entry in log.recorded_entries(identities, rows).items():
            if earlier is None or entry.position < earlier.size:  # it counts up to there, below 0
                known[key] = _known(log_id, entry, start, texts)

    return [
        Load(
            log.find(earlier.log_id if earlier else draft.log_id, identities),
            partial(take, earlier),
        )
        for earlier in (None, *context.earlier_logs)
    ]


def _known(
    log_id: int, found: log.RecordedEntry, start: int, texts: Mapping[Stub, str]
) -> KnownReport | Stub:
    """Returns the report, or what names its text in the archive: its own place, also if the stub
    names another one. `start` is added to its position."""
    stub = stubs.parse(found.text)
    if stub is not None:
        stub = stub._replace(log_id=log_id, position=found.position)
        if stub not in texts:
            return stub
    position = start + found.position
    event = decode(position, found.text if stub is None else texts[stub]).event
    assert isinstance(event, REPORTS)
    return KnownReport(position, found.recorded_at_ms, claim_of(event))


def _later(draft: Draft, items: Iterable[IdentifiedReport]) -> list[Load]:
    """Loads the reports that come after late ones, if there are any."""
    late = _late(draft, (item.report for item in items))
    return [draft.load_later(late)] if late else []


def _counting_place(draft: Draft, report: ReportCommand) -> int:
    """Returns where the counting begins that a report's seq belongs to; 0 for the first counting,
    and for a report that its seq does not identify."""
    state = draft.fold.states.get(report.device)
    return state.counting_place if state is not None and is_counted(report) else 0


def _in_counting(draft: Draft, item: IdentifiedReport) -> IdentifiedReport:
    """Returns the report with the identity that it has in the present counting of its device."""
    place = _counting_place(draft, item.report)
    event_id = identity(item.report, place) if place else None
    return msgspec.structs.replace(item, event_id=event_id) if event_id else item


def _first_given(earlier_logs: Sequence[lineage.Segment], unit: UnitOutcome) -> UnitOutcome:
    if isinstance(unit, EntriesNeeded) or not earlier_logs:
        return unit
    return [_as_first_given(earlier_logs, each) for each in unit]


def _as_first_given(
    earlier_logs: Sequence[lineage.Segment], outcome: ReportOutcome
) -> ReportOutcome:
    """Returns the receipt as the log that first gave it did, if that log is an earlier one."""
    if isinstance(outcome, Refused) or outcome.position >= 0:
        return outcome
    number, position = lineage.original_place(earlier_logs, outcome.position)
    return msgspec.structs.replace(outcome, log=number, position=position)


def _questions(items: Iterable[IdentifiedReport]) -> set[tuple[str, str]]:
    reports = [item.report for item in items]
    return {(each.device, each.question) for each in reports if each.question is not None}


def _late(draft: Draft, reports: Iterable[ReportCommand]) -> list[tuple[str, int]]:
    """Returns the (device, place) of each report that may not be the last in its device's order.

    `last` is never below the last place that the device will have. So a report after one that is
    then refused, or one that takes its place from the device's seq, may be looked up needlessly.
    """
    states = draft.fold.states
    last = {name: state.last_place for name, state in states.items()}
    late = []
    for report in reports:
        if (state := states.get(report.device)) is None:
            continue
        place = device_order.claimed_place(state, report, draft.now_ms)
        if place < last[report.device]:
            late.append((report.device, place))
        else:
            last[report.device] = place
    return late


def _needed(
    items: Iterable[IdentifiedReport], pruned: Mapping[_Identity, Stub]
) -> EntriesNeeded | None:
    """Returns the pruned entries that a unit may repeat; None if there are none."""
    keys = ((item.stream, item.event_id) for item in items) if pruned else ()
    found = [pruned[key] for key in keys if key in pruned]
    return EntriesNeeded(found) if found else None


def _decide_unit(
    draft: Draft, items: Iterable[IdentifiedReport], known: _KnownReports
) -> list[ReportOutcome]:
    outcomes: list[ReportOutcome] = []
    for item in items:
        try:
            outcomes.append(_decide(draft, item, known))
        except Refused as refused:
            outcomes.append(refused)
    return outcomes


def _decide(draft: Draft, item: IdentifiedReport, known: _KnownReports) -> ReportReceipt:
    """Decides on one report; the reports after it in the batch know what it records."""
    stream, event_id, report = item.stream, item.event_id, item.report
    if report.offer is not None:
        offers = list(draft.fold.steering.offers.get(report.device, {}).values())
        report = action.of_offer(report, offers, draft.control)
    before = known.get((stream, event_id))
    assert not isinstance(before, Stub), "a unit that needs texts is not decided on"
    state = draft.fold.states.get(report.device)
    is_awaited = state is not None and is_bare(report) and _is_awaited(draft, state, report)
    decided = device.decide_report(state, report, before, is_awaited=is_awaited)
    if isinstance(decided, Duplicate):
        return ReportReceipt(draft.head.number, decided.position, True, decided.recorded_at_ms)  # noqa: FBT003
    position = draft.record(
        stream, decided, actor=report.actor, event_id=event_id, text=report.detail
    )
    known[stream, event_id] = KnownReport(position, draft.now_ms, claim(report))
    return ReportReceipt(draft.head.number, position, False, draft.now_ms)  # noqa: FBT003


def _is_awaited(draft: Draft, state: DeviceState, report: ReportCommand) -> bool:
    """Returns whether a bare report is new although it repeats the last one: it answers an open
    question, or a rollout that offered its version was resumed after the device's last report."""
    steering = draft.fold.steering
    return _answers(draft, state, report) or steering.is_resumed(state, report.version)


def _answers(draft: Draft, state: DeviceState, report: ReportCommand) -> bool:
    if report.question is None or not ask.answers(report.status):
        return False
    asked = draft.fold.steering.asks.get((report.device, report.question))
    place = device_order.place_of(state, None, draft.now_ms)
    return ask.is_answered_by(asked, place, draft.now_ms)
