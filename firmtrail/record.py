"""The shell round the rules: one queue a log, group commit.

While one commit is in flight, the next batch gathers by itself: a lone report commits at once, a
flood commits in bulk, and no delay is ever added. What this guarantees:

- An answer is given only after the commit returned: what is acknowledged is durable.
- The reports of one call are one unit: never torn over two commits.
- A report that a rule refuses fails alone. A transaction that fails, fails its whole batch with
  `Unavailable`, and nothing of it is written.
- Whether a caller still waits changes nothing: an append is never cancelled.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
from uuid_utils import uuid7

from firmtrail import device, events
from firmtrail.commit import Commit, Paper, begin, opened
from firmtrail.device import Duplicate, Known, Refused, Report
from firmtrail.eventstore import continued, log
from firmtrail.eventstore.database import Database, OutcomeUnknown, Script, Transaction, Unavailable
from firmtrail.eventstore.floors import Floors, LogName
from firmtrail.offering import CheckIn, offering
from firmtrail.projections import fold
from firmtrail.projections.controls import Controls
from firmtrail.steering import ask
from firmtrail.steering.control import Control
from firmtrail.steering.target import Decision

BATCH_COMMANDS_MAX = 500
BATCH_BYTES_MAX = 1024 * 1024
QUEUE_COMMANDS_MAX = 20_000

REPORT_BYTES = 400
"""What a report without detail takes in the log, about."""


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """Where a report stands in the log."""

    log: int
    position: int
    duplicate: bool
    recorded_at_ms: int


type Outcome = Receipt | Refused
type _KnownReports = dict[tuple[str, str], Known]
type _Recording = Script[tuple[Paper, list[list[Outcome]]]]
type Command[Answer] = Callable[[Commit], Awaitable[Answer]]


class _Item(msgspec.Struct, frozen=True, gc=False):
    """A report with the identity that its event gets.

    A bare report's is made up on arrival, not in the commit: tried again after an unknown outcome,
    it is found under it.
    """

    stream: str
    event_id: str
    report: Report


class _Reports(NamedTuple):
    """Reports that are recorded together."""

    items: Sequence[_Item]
    answer: asyncio.Future[list[Outcome]]


class _CheckIn(NamedTuple):
    """A device that is to be told something new."""

    check_in: CheckIn
    answer: asyncio.Future[Decision]


class _Act(NamedTuple):
    """A command that has a commit to itself."""

    command: Command[object]
    answer: asyncio.Future[object]


type _Unit = _Reports | _CheckIn | _Act


class _Line:
    """The queue of one log."""

    def __init__(self) -> None:
        self.units: deque[_Reports | _Act] = deque()
        self.check_ins: deque[_CheckIn] = deque()
        """Apart from the units, so that neither tears the other's batches."""
        self.commands = 0
        self.old: list[continued.Part] | None = None
        """The logs that it goes on from, once they were asked for: they never change."""
        self.task: asyncio.Task[None] | None = None


class Recorder:
    """The only way into the logs, for one process; open until `close`."""

    def __init__(self, db: Database, floors: Floors | None = None) -> None:
        self.floors = floors or Floors()
        """What each log must be at least; this process's commits raise it."""
        self.controls = Controls(db)
        self._db = db
        self._lines: dict[int, _Line] = {}

    async def report(self, log_id: int, reports: Sequence[Report]) -> list[Outcome]:
        """Record reports as one unit: a receipt or a refusal for each, in their order.

        Raises `Unavailable`: nothing of this call was recorded, unless it is `OutcomeUnknown`;
        then the same call again finds out.
        """
        answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        items = [_identified(report) for report in reports]
        self._enqueue(log_id, _Reports(items, answer), len(items))
        return await answer

    async def check_in(self, log_id: int, check_in: CheckIn) -> Decision:
        """Decide what a device should run, and record the offer if it is a new one.

        Raises `Refused` for a device that is none, and `Unavailable` as `report` does.
        """
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._enqueue(log_id, _CheckIn(check_in, answer), 1)
        return await answer

    async def act[Answer](self, log_id: int, command: Command[Answer]) -> Answer:
        """Run `command` in a commit of its own; raises what it raises, having written nothing."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._enqueue(log_id, _Act(command, answer), 1)  # type: ignore[arg-type] # its own Answer
        return await answer

    def _enqueue(self, log_id: int, unit: _Unit, commands: int) -> None:
        line = self._lines.setdefault(log_id, _Line())
        if line.commands + commands > QUEUE_COMMANDS_MAX:
            raise Unavailable("too much is waiting to be recorded")
        if isinstance(unit, _CheckIn):
            line.check_ins.append(unit)
        else:
            line.units.append(unit)
        line.commands += commands
        if line.task is None:
            line.task = asyncio.create_task(self._drain(log_id, line))

    async def close(self) -> None:
        """Record what is waiting, then end."""
        tasks = [line.task for line in self._lines.values() if line.task is not None]
        await asyncio.gather(*tasks)

    async def _drain(self, log_id: int, line: _Line) -> None:
        try:
            while line.units or line.check_ins:
                if line.check_ins:
                    offers = _take_check_ins(line)
                    await self._settle(offers, self._offer(log_id, offers))
                if not line.units:
                    continue
                if isinstance(line.units[0], _Act):
                    act = line.units.popleft()
                    assert isinstance(act, _Act)
                    line.commands -= 1
                    await self._settle([act], self._act(log_id, act))
                else:
                    batch = _take_batch(line)
                    await self._settle(batch, self._record(log_id, line, batch))
        finally:
            line.task = None

    async def _settle(self, units: Sequence[_Unit], work: Awaitable[Sequence[object]]) -> None:
        """Give each unit its answer, or all of them the error: nobody is left waiting."""
        try:
            answers = await work
        except BaseException as error:
            for unit in units:
                if not unit.answer.done():
                    unit.answer.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        for unit, answer in zip(units, answers, strict=True):
            if unit.answer.done():  # its caller was cancelled; it is recorded all the same
                continue
            if isinstance(answer, Refused):
                unit.answer.set_exception(answer)
            else:
                unit.answer.set_result(answer)  # type: ignore[arg-type] # made for this unit

    async def _act(self, log_id: int, act: _Act) -> list[object]:
        async with self._db.transaction() as tx:
            commit = await begin(tx, log_id, self.floors)
            answer = await act.command(commit)
            await commit.finish()
        self._committed(commit)
        return [answer]

    async def _offer(self, log_id: int, batch: Sequence[_CheckIn]) -> list[Decision | Refused]:
        """A crash or an unknown outcome needs no care: the next check-in decides anew."""
        check_ins = [each.check_in for each in batch]
        script = offering(log_id, self.floors, self.controls.known(log_id), check_ins)
        paper, decisions = await self._db.play(script)
        self._committed(paper)
        return decisions

    async def _record(
        self, log_id: int, line: _Line, batch: Sequence[_Reports]
    ) -> list[list[Outcome]]:
        if line.old is None:
            line.old = continued.parts_of(await self._db.read(continued.parts(log_id)))
        before = _Before(self.floors, self.controls.known(log_id), line.old)
        script = partial(_recording, log_id, before, batch)
        try:
            return await self._record_once(script)
        except OutcomeUnknown:
            return await self._find_out(script)

    async def _find_out(self, script: Callable[[], _Recording]) -> list[list[Outcome]]:
        """The same identities again: those that were recorded answer as duplicates."""
        try:
            return await self._record_once(script)
        except Unavailable as error:
            raise OutcomeUnknown(str(error), error.retry_after_s) from error

    async def _record_once(self, script: Callable[[], _Recording]) -> list[list[Outcome]]:
        paper, outcomes = await self._db.play(script())
        self._committed(paper)
        return outcomes

    def _committed(self, paper: Paper) -> None:
        self.floors.acknowledge(LogName(paper.project, paper.head.number), paper.size)
        self.controls.publish(paper.log_id, paper.control)


class _Before(NamedTuple):
    """What a process knows of a log before it holds its head."""

    floors: Floors
    control: Control | None
    old: Sequence[continued.Part]


def _recording(log_id: int, before: _Before, batch: Sequence[_Reports]) -> _Recording:
    """One commit of a batch, from the head's lock on; gives its paper and the outcomes."""
    paper = yield from opened(log_id, before.floors, before.control)
    items = [item for unit in batch for item in unit.items]
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
    outcomes = [_decide_unit(paper, unit.items, known) for unit in batch]
    yield paper.statements()
    return paper, [[_as_first_given(before.old, each) for each in unit] for unit in outcomes]


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


def _questions(items: Iterable[_Item]) -> set[tuple[str, str]]:
    reports = [item.report for item in items]
    return {(each.device, each.question) for each in reports if each.question is not None}


def _identified(report: Report) -> _Item:
    event_id = device.identity(report) or f"s.{uuid7().hex}"
    return _Item(f"device/{report.device}", event_id, report)


def _take_check_ins(line: _Line) -> list[_CheckIn]:
    taken = min(len(line.check_ins), BATCH_COMMANDS_MAX)
    line.commands -= taken
    return [line.check_ins.popleft() for _ in range(taken)]


def _take_batch(line: _Line) -> list[_Reports]:
    """Whole units from the front, until the batch is full or an act comes."""
    batch: list[_Reports] = []
    commands = body_bytes = 0
    while line.units and commands < BATCH_COMMANDS_MAX and body_bytes < BATCH_BYTES_MAX:
        unit = line.units[0]
        if isinstance(unit, _Act):
            break
        line.units.popleft()
        batch.append(unit)
        commands += len(unit.items)
        body_bytes += sum(REPORT_BYTES + len(item.report.detail or "") for item in unit.items)
    line.commands -= commands
    return batch


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


def _decide_unit(paper: Paper, items: Iterable[_Item], known: _KnownReports) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for item in items:
        try:
            outcomes.append(_decide(paper, item, known))
        except Refused as refused:
            outcomes.append(refused)
    return outcomes


def _decide(paper: Paper, item: _Item, known: _KnownReports) -> Receipt:
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


async def start_log(
    tx: Transaction, project: str, *, above: int = 0, recorded_at_ms: int = 0
) -> int:
    """A new, empty log of the project, with its views; the caller makes it the project's own.

    Its number is greater than `above`, its first event not before `recorded_at_ms`.
    """
    log_id = await log.create(tx, project, above=above, recorded_at_ms=recorded_at_ms)
    await tx.run(*fold.start(log_id))
    return log_id
