"""One commit of reports: what was recorded before is told from what is new, and decided in order.

From the lock of the log's head on. A report that a rule refuses fails alone; what one report
records is known to those behind it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from uuid_utils import uuid7

from firmtrail import device, events
from firmtrail.commit import Before, Committed, Paper, opened
from firmtrail.device import Duplicate, Known, Refused, Report
from firmtrail.eventstore import continued, log
from firmtrail.eventstore.database import Script
from firmtrail.steering import ask


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """Where a report stands in the log."""

    log: int
    position: int
    duplicate: bool
    recorded_at_ms: int


type Outcome = Receipt | Refused
type Recording = Script[tuple[Committed, list[list[Outcome]]]]
type _KnownReports = dict[tuple[str, str], Known]


class Item(msgspec.Struct, frozen=True, gc=False):
    """A report with the identity that its event gets.

    A bare report's is made up on arrival, not in the commit: tried again after an unknown outcome,
    it is found under it.
    """

    stream: str
    event_id: str
    report: Report


def recording(
    log_id: int, before: Before, take: Callable[[], Sequence[Sequence[Item]]]
) -> Recording:
    """One commit, from the head's lock on, of what can be taken when it is held; gives the outcomes
    of each unit too."""
    paper = yield from opened(log_id, before)
    batch = take()
    items = [item for unit in batch for item in unit]
    identities = [(item.stream, item.event_id) for item in items]
    names = {item.report.device for item in items}
    told = paper.load_told(names, _questions(items))
    devices, found, *rest = yield [
        paper.load_devices(names),
        log.find(log_id, identities),
        *told,
        *(log.find(part.log_id, identities) for part in before.old),
    ]
    found_in_old = rest[len(told) :]
    paper.take_devices(devices)
    paper.take_told(rest[: len(told)])
    if late := _late(paper, (item.report for item in items)):
        [behind] = yield [paper.load_later(late)]
        paper.fold.add_later(late, behind)
    known = {key: _known(event) for key, event in log.found(identities, found).items()}
    for part, rows in zip(before.old, found_in_old, strict=True):
        known |= _known_in_old(part, log.found(identities, rows))
    outcomes = [_decide_unit(paper, unit, known) for unit in batch]
    yield paper.statements()
    return paper.committed, [
        [_as_first_given(before.old, each) for each in unit] for unit in outcomes
    ]


def _known_in_old(
    part: continued.Part, found: Mapping[tuple[str, str], log.Found]
) -> _KnownReports:
    """What an old log knows, of as much of it as counts, at positions below 0."""
    return {
        key: _known(event._replace(position=part.start + event.position))
        for key, event in found.items()
        if event.position < part.size
    }


def _as_first_given(old: Sequence[continued.Part], outcome: Outcome) -> Outcome:
    """A receipt of a log that this one goes on from, as that log gave it."""
    if isinstance(outcome, Refused) or outcome.position >= 0:
        return outcome
    number, position = continued.place_of(old, outcome.position)
    return msgspec.structs.replace(outcome, log=number, position=position)


def _questions(items: Iterable[Item]) -> set[tuple[str, str]]:
    reports = [item.report for item in items]
    return {(each.device, each.question) for each in reports if each.question is not None}


def identified(report: Report) -> Item:
    event_id = device.identity(report) or f"s.{uuid7().hex}"
    return Item(f"device/{report.device}", event_id, report)


def _known(found: log.Found) -> Known:
    event = events.decode(found.position, found.text).event
    assert isinstance(event, events.REPORTS)
    return Known(found.position, found.recorded_at_ms, device.claim_of(event))


def _late(paper: Paper, reports: Iterable[Report]) -> list[tuple[str, int]]:
    """The (device, place) of each report that may not be the last in its device's order.

    `last` is never below the last place that the device will have: a report behind one that turns
    out to be refused, or one that takes its place from the device's seq, is looked up for nothing.
    """
    last = {name: state.last_place for name, state in paper.fold.states.items()}
    late = []
    for report in reports:
        place = device.claimed_place(report, paper.now_ms)
        if place < last.get(report.device, -1):
            late.append((report.device, place))
        else:
            last[report.device] = place
    return late


def _decide_unit(paper: Paper, items: Iterable[Item], known: _KnownReports) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for item in items:
        try:
            outcomes.append(_decide(paper, item, known))
        except Refused as refused:
            outcomes.append(refused)
    return outcomes


def _decide(paper: Paper, item: Item, known: _KnownReports) -> Receipt:
    """Decide on one report; what it records is known to the reports behind it in the batch."""
    stream, event_id, report = item.stream, item.event_id, item.report
    before = known.get((stream, event_id))
    answers = _answers(paper, report)
    decided = device.decide_report(
        paper.fold.states.get(report.device), report, before, answers=answers
    )
    if isinstance(decided, Duplicate):
        return Receipt(paper.head.number, decided.position, True, decided.recorded_at_ms)  # noqa: FBT003
    position = paper.record(
        stream, decided, actor=report.actor, event_id=event_id, text=report.detail
    )
    known[stream, event_id] = Known(position, paper.now_ms, device.claim(report))
    return Receipt(paper.head.number, position, False, paper.now_ms)  # noqa: FBT003


def _answers(paper: Paper, report: Report) -> bool:
    """Whether it answers a question to its device, which is open."""
    if report.question is None or not ask.answers(report.status):
        return False
    asked = paper.fold.steering.asks.get((report.device, report.question))
    return ask.is_open(asked, paper.now_ms)
