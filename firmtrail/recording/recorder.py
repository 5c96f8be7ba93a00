"""The shell round the rules: one queue a log, group commit.

While one commit is in flight, the next batch gathers by itself until it holds the log's head: a
lone report commits at once, a flood commits in bulk, and no delay is ever added. What this
guarantees:

- An answer is given only after the commit returned: what is acknowledged is durable.
- The reports of one call are one unit: never torn over two commits.
- A report that a rule refuses fails alone. A transaction that fails, fails its whole batch with
  `Unavailable`, and nothing of it is written.
- Whether a caller still waits changes nothing: an append is never cancelled.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import NamedTuple

from firmtrail.database.database import Database, OutcomeUnknown, Script, Transaction, Unavailable
from firmtrail.eventstore import continued, log
from firmtrail.projections import fold
from firmtrail.projections.controls import Controls, Held
from firmtrail.publishing.minimum_sizes import Floors, LogName, LogRefused
from firmtrail.recording.check_ins import CheckIn, offering
from firmtrail.recording.commit import Commit, Committed, LogContext, begin
from firmtrail.recording.reports import IdentifiedReport, ReportOutcome, identified, recording
from firmtrail.rules.device import Refused, ReportCommand
from firmtrail.rules.target import Decision

BATCH_COMMANDS_MAX = 500
BATCH_BYTES_MAX = 1024 * 1024
BATCH_COMMANDS_WHOLE = 64
"""Where the next batch is sent ahead, so many are one. Of more it takes half of what is not
answered, or commit and callers would take turns: all waiting for one batch, then none at work."""
QUEUE_COMMANDS_MAX = 20_000

REPORT_BYTES = 400
"""What a report without detail takes in the log, about."""


type LogCommand[Answer] = Callable[[Commit], Awaitable[Answer]]


class _Reports(NamedTuple):
    """Reports that are recorded together."""

    items: Sequence[IdentifiedReport]
    answer: asyncio.Future[list[ReportOutcome]]


class _CheckIn(NamedTuple):
    """A device that is to be told something new."""

    check_in: CheckIn
    answer: asyncio.Future[Decision]


class _Act(NamedTuple):
    """A command that has a commit to itself."""

    command: LogCommand[object]
    answer: asyncio.Future[object]


type _Unit = _Reports | _CheckIn | _Act


class _Line:
    """What waits for the head of one log."""

    def __init__(self) -> None:
        self.units: deque[_Reports | _Act] = deque()
        self.waiting = 0
        """How many commands the units hold."""
        self.under_way = 0
        """How many commits of units."""
        self.is_acting = False
        self.check_ins: deque[_CheckIn] = deque()
        """Apart from the units, so that neither tears the other's batches."""
        self.is_draining = False
        self.commands = 0
        """How many are not answered."""
        self.name: LogName | None = None
        self.old: list[continued.Part] = []
        """The logs that it goes on from. Read once, before the first commit: neither changes."""
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def half(self) -> int:
        """Of the commands that are not answered, check-ins and acts among them."""
        return min(BATCH_COMMANDS_MAX, max(BATCH_COMMANDS_WHOLE, self.commands // 2))

    def add(self, unit: _Reports | _Act) -> None:
        self.units.append(unit)
        self.waiting += _commands(unit)

    def take_act(self) -> _Act:
        act = self.units.popleft()
        assert isinstance(act, _Act)
        self.waiting -= 1
        return act

    def take_reports(self, commands_max: int) -> list[_Reports]:
        """Whole units from the front, until the batch is full or an act comes."""
        batch: list[_Reports] = []
        commands = body_bytes = 0
        while self.units and commands < commands_max and body_bytes < BATCH_BYTES_MAX:
            unit = self.units[0]
            if isinstance(unit, _Act):
                break
            self.units.popleft()
            batch.append(unit)
            commands += len(unit.items)
            body_bytes += sum(REPORT_BYTES + len(item.report.detail or "") for item in unit.items)
        self.waiting -= commands
        return batch

    def start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class _Batch:
    """The reports of one commit: those that wait when they are first asked for."""

    def __init__(self, line: _Line, commands_max: int) -> None:
        self._line = line
        self._commands_max = commands_max
        self._units: list[_Reports] | None = None

    def take(self) -> list[_Reports]:
        if self._units is None:
            self._units = self._line.take_reports(self._commands_max)
        return self._units

    def items(self) -> list[Sequence[IdentifiedReport]]:
        return [unit.items for unit in self.take()]


class Recorder:
    """The only way into the logs, for one process; open until `close`."""

    def __init__(self, db: Database, floors: Floors | None = None) -> None:
        self.floors = floors or Floors()
        """What each log must be at least; this process's commits raise it."""
        self.controls = Controls(db)
        self._held = Held()
        self._db = db
        self._lines: dict[int, _Line] = {}

    async def report(self, log_id: int, reports: Sequence[ReportCommand]) -> list[ReportOutcome]:
        """Record reports as one unit: a receipt or a refusal for each, in their order.

        Raises `Unavailable`: nothing of this call was recorded, unless it is `OutcomeUnknown`;
        then the same call again finds out.
        """
        answer: asyncio.Future[list[ReportOutcome]] = asyncio.get_running_loop().create_future()
        unit = _Reports([identified(report) for report in reports], answer)
        line = self._line(log_id, len(unit.items))
        line.add(unit)
        self._gather(log_id, line)
        return await answer

    async def check_in(self, log_id: int, check_in: CheckIn) -> Decision:
        """Decide what a device should run, and record the offer if it is a new one.

        Raises `Refused` for a device that is none, and `Unavailable` as `report` does.
        """
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        line = self._line(log_id, 1)
        line.check_ins.append(_CheckIn(check_in, answer))
        self._drain(log_id, line)
        return await answer

    async def act[Answer](self, log_id: int, command: LogCommand[Answer]) -> Answer:
        """Run `command` in a commit of its own; raises what it raises, having written nothing."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        line = self._line(log_id, 1)
        line.add(_Act(command, answer))  # type: ignore[arg-type] # its own Answer
        self._gather(log_id, line)
        return await answer

    def _line(self, log_id: int, commands: int) -> _Line:
        line = self._lines.setdefault(log_id, _Line())
        if line.commands + commands > QUEUE_COMMANDS_MAX:
            raise Unavailable("too much is waiting to be recorded")
        line.commands += commands
        return line

    async def close(self) -> None:
        """Record what is waiting, then end."""
        while tasks := set().union(*(line.tasks for line in self._lines.values())):
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # what is done leaves `tasks` in a turn of its own

    def _gather(self, log_id: int, line: _Line) -> None:
        """Begin a commit of what waits: at once where none is under way, and one ahead where
        scripts are played in turn and enough has gathered, so that nothing waits for a turn of the
        event loop between the two."""
        while line.units and (not line.under_way or self._may_go_ahead(line)):
            line.under_way += 1
            if isinstance(line.units[0], _Act):
                line.start(self._commit_act(log_id, line, line.take_act()))
            else:
                line.start(self._commit_reports(log_id, line, self._batch(line)))

    def _may_go_ahead(self, line: _Line) -> bool:
        is_next = self._db.plays_in_turn and line.under_way == 1 and not line.is_acting
        return is_next and line.waiting >= line.half and isinstance(line.units[0], _Reports)

    def _batch(self, line: _Line) -> "_Batch":
        """What has gathered when it is sent, for it may be sent to another process; where scripts
        are not played in turn, when the head is held."""
        if not self._db.plays_in_turn:
            return _Batch(line, BATCH_COMMANDS_MAX)
        batch = _Batch(line, line.half)
        batch.take()
        return batch

    async def _commit_act(self, log_id: int, line: _Line, act: _Act) -> None:
        line.is_acting = True
        await _settle(line, lambda: [act], self._act(log_id, act))
        line.is_acting = False
        line.under_way -= 1
        self._gather(log_id, line)

    async def _commit_reports(self, log_id: int, line: _Line, batch: "_Batch") -> None:
        """Only the end of the process cancels it, when nobody waits for an answer."""
        await _settle(line, batch.take, self._record(log_id, line, batch))
        line.under_way -= 1
        self._gather(log_id, line)

    def _drain(self, log_id: int, line: _Line) -> None:
        if line.check_ins and not line.is_draining:
            line.is_draining = True
            line.start(self._commit_check_ins(log_id, line))

    async def _commit_check_ins(self, log_id: int, line: _Line) -> None:
        batch = _taken_check_ins(line.check_ins)
        await _settle(line, lambda: batch, self._offer(log_id, line, batch))
        line.is_draining = False
        self._drain(log_id, line)

    async def _act(self, log_id: int, act: _Act) -> list[object]:
        async with self._db.transaction() as tx:
            commit = await begin(tx, log_id, self.floors)
            answer = await act.command(commit)
            await commit.finish()
        self._committed(log_id, commit.committed)
        return [answer]

    async def _offer(
        self, log_id: int, line: _Line, batch: Sequence[_CheckIn]
    ) -> list[Decision | Refused]:
        """A crash or an unknown outcome needs no care: the next check-in decides anew."""
        return await self._play(log_id, line, offering, [each.check_in for each in batch])

    async def _record(self, log_id: int, line: _Line, batch: _Batch) -> list[list[ReportOutcome]]:
        """After an unknown outcome the same identities again: those that were recorded answer as
        duplicates."""
        take = partial(list, batch.items()) if self._db.plays_in_turn else batch.items
        try:
            return await self._play(log_id, line, recording, take)
        except OutcomeUnknown:
            try:
                return await self._play(log_id, line, recording, take)
            except Unavailable as error:
                raise OutcomeUnknown(str(error), error.retry_after_s) from error

    async def _play[Batch, Answers](
        self,
        log_id: int,
        line: _Line,
        make: Callable[[int, LogContext, Batch], Script[tuple[Committed, Answers]]],
        batch: Batch,
    ) -> Answers:
        """One commit; it may be made in another process, so what this one knows is taken there, and
        what is new brought back."""
        if line.name is None:
            head = await log.head(self._db, log_id)
            line.old = continued.parts_of(await self._db.read(continued.parts(log_id)))
            line.name = LogName(head.project, head.number)
        before = LogContext(self.floors.of(line.name), self._held, line.old)
        try:
            committed, answers = await self._db.play(make, log_id, before, batch)
        except LogRefused:
            self.floors.check(await log.head(self._db, log_id))
            raise
        self._committed(log_id, committed)
        return answers

    def _committed(self, log_id: int, committed: Committed) -> None:
        self.floors.acknowledge(committed.log, committed.size)
        if committed.control is not None:
            self.controls.publish(log_id, committed.control)


async def _settle(
    line: _Line, take: Callable[[], Sequence[_Unit]], work: Awaitable[Sequence[object]]
) -> None:
    """Give each unit its answer, or all of them the error: nobody is left waiting."""
    try:
        answers = await work
    except BaseException as error:
        answers = [error] * len(take())
        if isinstance(error, asyncio.CancelledError):
            raise
    finally:
        for unit, answer in zip(take(), answers, strict=True):
            line.commands -= _commands(unit)
            if unit.answer.done():  # its caller was cancelled; it is recorded all the same
                continue
            if isinstance(answer, BaseException):
                unit.answer.set_exception(answer)
            else:
                unit.answer.set_result(answer)  # type: ignore[arg-type] # made for this unit


def _commands(unit: _Unit) -> int:
    return len(unit.items) if isinstance(unit, _Reports) else 1


def _taken_check_ins(waiting: deque[_CheckIn]) -> list[_CheckIn]:
    return [waiting.popleft() for _ in range(min(len(waiting), BATCH_COMMANDS_MAX))]


async def start_log(
    tx: Transaction, project: str, *, above: int = 0, recorded_at_ms: int = 0
) -> int:
    """A new, empty log of the project, with its views; the caller makes it the project's own.

    Its number is greater than `above`, its first event not before `recorded_at_ms`.
    """
    log_id = await log.create(tx, project, above=above, recorded_at_ms=recorded_at_ms)
    await tx.run(*fold.start(log_id))
    return log_id
