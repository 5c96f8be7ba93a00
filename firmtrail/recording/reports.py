"""Records one commit of reports: known ones are found by their identity, new ones decided in order.

From the lock of the log's head on. A report that a rule refuses fails alone; what one report
records is known to those after it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from uuid_utils import uuid7

from firmtrail.database.database import Row, Script, Statement
from firmtrail.events.entry import decode
from firmtrail.events.fleet import REPORTS
from firmtrail.eventstore import continued, log
from firmtrail.recording.commit import Committed, Draft, LogContext, opened
from firmtrail.rules import ask, device
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


class ReportReceipt(msgspec.Struct, frozen=True, gc=False):
    """Where a report stands in the log."""

    log: int
    position: int
    duplicate: bool
    recorded_at_ms: int


type ReportOutcome = ReportReceipt | Refused
type Recording = Script[tuple[Committed, list[list[ReportOutcome]]]]
type _KnownReports = dict[tuple[str, str], KnownReport]


class IdentifiedReport(msgspec.Struct, frozen=True, gc=False):
    """A report with the identity that its event gets.

    A bare report's is made up on arrival, not in the commit: tried again after an unknown outcome,
    it is found under it.
    """

    stream: str
    event_id: str
    report: ReportCommand


def recording(
    log_id: int, before: LogContext, take: Callable[[], Sequence[Sequence[IdentifiedReport]]]
) -> Recording:
    """Plays one commit from the head's lock on, of what can be taken when the head is locked;
    returns the outcomes of each unit too."""
    paper = yield from opened(log_id, before)
    batch = take()
    items = [item for unit in batch for item in unit]
    known = yield from _loaded(paper, before, items)
    counted: list[IdentifiedReport] = []
    if any(state.counting_place for state in paper.fold.states.values()):
        batch = [[_in_counting(paper, item) for item in unit] for unit in batch]
        counted = [item for unit in batch for item in unit if _counting_place(paper, item.report)]
    known |= yield from _loaded_further(paper, before, items, counted)
    outcomes = [_decide_unit(paper, unit, known) for unit in batch]
    yield paper.statements()
    return paper.committed, [
        [_as_first_given(before.old, each) for each in unit] for unit in outcomes
    ]


def _loaded(
    paper: Draft, before: LogContext, items: Sequence[IdentifiedReport]
) -> Script[_KnownReports]:
    """Loads the devices that the reports name, what these were offered and asked, and the reports
    recorded under the same identities."""
    names = {item.report.device for item in items}
    told = paper.load_told(names, _questions(items))
    identities = _identities(items)
    devices, *rest = yield [
        paper.load_devices(names),
        *told,
        *_find(paper, before, identities),
    ]
    paper.take_devices(devices)
    paper.take_told(rest[: len(told)])
    return _found(before, identities, rest[len(told) :])


def _loaded_further(
    paper: Draft,
    before: LogContext,
    items: Sequence[IdentifiedReport],
    counted: Sequence[IdentifiedReport],
) -> Script[_KnownReports]:
    """Loads what only a device's state shows to be needed, in one more step if there is any: the
    reports after a late one, and those of a further counting under the identities of `counted`."""
    late = _late(paper, (item.report for item in items))
    if not late and not counted:
        return {}
    identities = _identities(counted)
    later = [paper.load_later(late)] if late else []
    rows = yield [*later, *(_find(paper, before, identities) if counted else ())]
    if late:
        paper.fold.add_later(late, rows[0])
    return _found(before, identities, rows[len(later) :]) if counted else {}


def _identities(items: Iterable[IdentifiedReport]) -> list[tuple[str, str]]:
    return [(item.stream, item.event_id) for item in items]


def _find(
    paper: Draft, before: LogContext, identities: Sequence[tuple[str, str]]
) -> list[Statement]:
    """Looks in this log and in those that it continues; read the rows with `_found`."""
    log_ids = (paper.log_id, *(part.log_id for part in before.old))
    return [log.find(log_id, identities) for log_id in log_ids]


def _found(
    before: LogContext, identities: Sequence[tuple[str, str]], results: Sequence[Sequence[Row]]
) -> _KnownReports:
    known = {key: _known(event) for key, event in log.found(identities, results[0]).items()}
    for part, rows in zip(before.old, results[1:], strict=True):
        known |= _known_in_old(part, log.found(identities, rows))
    return known


def _counting_place(paper: Draft, report: ReportCommand) -> int:
    """Returns where the counting begins that a report's seq belongs to; 0 for the first counting,
    and for a report that its seq does not identify."""
    state = paper.fold.states.get(report.device)
    return state.counting_place if state is not None and is_counted(report) else 0


def _in_counting(paper: Draft, item: IdentifiedReport) -> IdentifiedReport:
    """Returns the report with the identity that it has in the present counting of its device."""
    place = _counting_place(paper, item.report)
    event_id = identity(item.report, place) if place else None
    return msgspec.structs.replace(item, event_id=event_id) if event_id else item


def _known_in_old(
    part: continued.Part, found: Mapping[tuple[str, str], log.Found]
) -> _KnownReports:
    """Returns what an old log knows, of as much of it as counts, at positions below 0."""
    return {
        key: _known(event._replace(position=part.start + event.position))
        for key, event in found.items()
        if event.position < part.size
    }


def _as_first_given(old: Sequence[continued.Part], outcome: ReportOutcome) -> ReportOutcome:
    """Returns a receipt of a log that this one continues, as that log gave it."""
    if isinstance(outcome, Refused) or outcome.position >= 0:
        return outcome
    number, position = continued.place_of(old, outcome.position)
    return msgspec.structs.replace(outcome, log=number, position=position)


def _questions(items: Iterable[IdentifiedReport]) -> set[tuple[str, str]]:
    reports = [item.report for item in items]
    return {(each.device, each.question) for each in reports if each.question is not None}


def identified(report: ReportCommand) -> IdentifiedReport:
    event_id = identity(report) or f"s.{uuid7().hex}"
    return IdentifiedReport(f"device/{report.device}", event_id, report)


def _known(found: log.Found) -> KnownReport:
    event = decode(found.position, found.text).event
    assert isinstance(event, REPORTS)
    return KnownReport(found.position, found.recorded_at_ms, claim_of(event))


def _late(paper: Draft, reports: Iterable[ReportCommand]) -> list[tuple[str, int]]:
    """Returns the (device, place) of each report that may not be the last in its device's order.

    `last` is never below the last place that the device will have: a report after one that turns
    out to be refused, or one that takes its place from the device's seq, is looked up for nothing.
    """
    states = paper.fold.states
    last = {name: state.last_place for name, state in states.items()}
    late = []
    for report in reports:
        if (state := states.get(report.device)) is None:
            continue
        place = device.claimed_place(state, report, paper.now_ms)
        if place < last[report.device]:
            late.append((report.device, place))
        else:
            last[report.device] = place
    return late


def _decide_unit(
    paper: Draft, items: Iterable[IdentifiedReport], known: _KnownReports
) -> list[ReportOutcome]:
    outcomes: list[ReportOutcome] = []
    for item in items:
        try:
            outcomes.append(_decide(paper, item, known))
        except Refused as refused:
            outcomes.append(refused)
    return outcomes


def _decide(paper: Draft, item: IdentifiedReport, known: _KnownReports) -> ReportReceipt:
    """Decides on one report; what it records is known to the reports after it in the batch."""
    stream, event_id, report = item.stream, item.event_id, item.report
    before = known.get((stream, event_id))
    state = paper.fold.states.get(report.device)
    is_awaited = state is not None and is_bare(report) and _is_awaited(paper, state, report)
    decided = device.decide_report(state, report, before, is_awaited=is_awaited)
    if isinstance(decided, Duplicate):
        return ReportReceipt(paper.head.number, decided.position, True, decided.recorded_at_ms)  # noqa: FBT003
    position = paper.record(
        stream, decided, actor=report.actor, event_id=event_id, text=report.detail
    )
    known[stream, event_id] = KnownReport(position, paper.now_ms, claim(report))
    return ReportReceipt(paper.head.number, position, False, paper.now_ms)  # noqa: FBT003


def _is_awaited(paper: Draft, state: DeviceState, report: ReportCommand) -> bool:
    """Returns whether a bare report is news although it says the same: it answers an open question,
    or a rollout that offered its version was resumed after the device's last report."""
    steering = paper.fold.steering
    return _answers(paper, state, report) or steering.is_resumed(state, report.version)


def _answers(paper: Draft, state: DeviceState, report: ReportCommand) -> bool:
    if report.question is None or not ask.answers(report.status):
        return False
    asked = paper.fold.steering.asks.get((report.device, report.question))
    place = device.place_of(state, None, paper.now_ms)
    return ask.is_answered_by(asked, place, paper.now_ms)
