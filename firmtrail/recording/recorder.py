"""Takes in every command on every log of a process: one queue for each log, and group commit.

While one commit is in flight, the next batch gathers until it can lock the log's head: a single
report commits immediately, a flood commits in bulk, and no delay is ever added. It guarantees:

- An answer is given only after the commit returned: acknowledged events are durable.
- The reports of one call are one unit: never split over two commits.
- A report that a rule refuses fails alone. A transaction that fails, fails its whole batch with
  `Unavailable`, and nothing of it is written.
- Whether a caller still waits changes nothing: an append is never cancelled.
- Reports that may repeat a pruned entry wait for the archive, at most `ARCHIVE_S`, and then for a
  later commit. No other report waits for them.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import batched

from firmtrail.database import stubs
from firmtrail.database.database import (
    Database,
    LogUnavailable,
    OutcomeUnknown,
    Script,
    Transaction,
    Unavailable,
)
from firmtrail.database.entry_archive import Stub
from firmtrail.database.stubs import NoArchive
from firmtrail.eventstore import lineage, log
from firmtrail.projections import fold
from firmtrail.projections.controls import CommittedControls, Controls
from firmtrail.publishing.minimum_sizes import LogName, LogRefused, MinimumSizes
from firmtrail.recording.check_ins import CheckIn, record_check_ins
from firmtrail.recording.commit import Commit, Committed, LogContext, begin
from firmtrail.recording.crossing import SentUnits, record_sent
from firmtrail.recording.queues import (
    BATCH_COMMANDS_MAX,
    Batch,
    CheckInUnit,
    CommandUnit,
    Queue,
    ReportsUnit,
    Unit,
    commands_of,
    undecided,
)
from firmtrail.recording.reports import (
    EntriesNeeded,
    ReportOutcome,
    ReportReceipt,
    UnitOutcome,
    identified,
    record_reports,
)
from firmtrail.rules.device import Refused
from firmtrail.rules.report import ReportCommand
from firmtrail.rules.situation import Decision

QUEUE_COMMANDS_MAX = 20_000

ARCHIVE_S = 30.0
"""How long a unit of reports may wait for the archive."""
ARCHIVE_PART_S = 5.0
"""How long it may wait for the next `ARCHIVE_PART` entries: an archive that does not answer is
given up then, and one that is slow is not."""
ARCHIVE_PART = 32

_LATER = object()
"""Stands for the answer of a unit that is not decided on yet."""

_SLOW = "the archive did not answer"
_NOT_NAMED = "this server was not given one: its operator names it by --archive"


type LogCommand[Answer] = Callable[[Commit], Awaitable[Answer]]
"""Runs inside one commit of one log, and returns its answer or raises."""


class Recorder:
    """Appends to the logs, for one process: there is no other way into them. Open until `close`."""

    def __init__(self, db: Database, minimum_sizes: MinimumSizes | None = None) -> None:
        self.minimum_sizes = minimum_sizes or MinimumSizes()
        """The size that each log must have at least; this process's commits raise it."""
        self.on_commit: list[Callable[[], None]] = []
        """Called after each commit: they wake the followers of the logs."""
        self.on_committed: Callable[[Mapping[str, int], float], None] | None = None
        """Called after each commit with the number of events of each type, and its seconds."""
        self.on_failed: Callable[[], None] | None = None
        """Called after each commit that the database did not make."""
        self.controls = Controls(db)
        self._controls_of_scripts = CommittedControls()
        self._db = db
        self._queues: dict[int, Queue] = {}

    async def report(self, log_id: int, reports: Sequence[ReportCommand]) -> list[ReportOutcome]:
        """Records reports as one unit; returns a receipt or a refusal for each, in order. Raises
        `Unavailable`: nothing was recorded; or `OutcomeUnknown`: the same call again finds out."""
        return await self._queue_reports(log_id, reports)

    async def report_one(self, log_id: int, report: ReportCommand) -> ReportReceipt:
        """Records a report. Raises its refusal, and what `report` raises."""
        [outcome] = await self._queue_reports(log_id, [report])
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    def _queue_reports(
        self, log_id: int, reports: Sequence[ReportCommand]
    ) -> asyncio.Future[list[ReportOutcome]]:
        """Queues reports as one unit, and returns its answer that is to come. Raises `Unavailable`
        if the queue is full."""
        answer: asyncio.Future[list[ReportOutcome]] = asyncio.get_running_loop().create_future()
        unit = ReportsUnit([identified(report) for report in reports], answer, texts={})
        queue = self._queue(log_id, len(unit.items))
        queue.add(unit)
        self._commit_units(log_id, queue)
        return answer

    async def check_in(self, log_id: int, check_in: CheckIn) -> Decision:
        """Decides what a device should run, and records the offer if it is new. Raises `Refused` if
        there is no such device, and `Unavailable` as `report` does."""
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        queue = self._queue(log_id, 1)
        queue.check_ins.append(CheckInUnit(check_in, answer))
        self._commit_check_ins(log_id, queue)
        return await answer

    async def act[Answer](self, log_id: int, command: LogCommand[Answer]) -> Answer:
        """Runs `command` in a commit of its own. If it raises, nothing is written."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        queue = self._queue(log_id, 1)
        queue.add(CommandUnit(command, answer))  # type: ignore[arg-type] # its own Answer
        self._commit_units(log_id, queue)
        return await answer

    def _queue(self, log_id: int, commands: int) -> Queue:
        """Returns the log's queue with room for so many commands. Raises `Unavailable`."""
        queue = self._queues.get(log_id) or self._queues.setdefault(log_id, Queue())
        if queue.unanswered + commands > QUEUE_COMMANDS_MAX:
            raise Unavailable("Too many commands wait to be recorded. Try again later.")
        queue.unanswered += commands
        return queue

    async def close(self) -> None:
        """Records everything that waits, then ends."""
        while tasks := set().union(*(queue.tasks for queue in self._queues.values())):
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # a task that is done leaves `tasks` in a turn of its own

    def _commit_units(self, log_id: int, queue: Queue) -> None:
        """Begins a commit of the units that wait: immediately if none is in flight. Where scripts
        are played in turn and enough has gathered, one more is sent ahead, so that nothing waits
        for a turn of the event loop between the two."""
        while queue.units and (not queue.in_flight or self._may_send_ahead(queue)):
            queue.in_flight += 1
            if isinstance(queue.units[0], CommandUnit):
                queue.start(self._commit_command(log_id, queue, queue.take_command()))
            else:
                queue.start(self._commit_reports(log_id, queue, self._batch(queue)))

    def _may_send_ahead(self, queue: Queue) -> bool:
        if not self._db.plays_in_turn or queue.in_flight != 1 or queue.is_command_in_flight:
            return False
        return queue.waiting >= queue.half and isinstance(queue.units[0], ReportsUnit)

    def _batch(self, queue: Queue) -> Batch:
        """Returns the reports of the next commit. Where scripts are played in turn, they are taken
        now, as they may be sent to another process; elsewhere once the head is locked."""
        if not self._db.plays_in_turn:
            return Batch(queue, BATCH_COMMANDS_MAX)
        batch = Batch(queue, queue.half)
        batch.take()
        return batch

    async def _commit_command(self, log_id: int, queue: Queue, unit: CommandUnit) -> None:
        queue.is_command_in_flight = True
        await _answer(queue, lambda: [unit], self._run(log_id, unit.command))
        queue.is_command_in_flight = False
        queue.in_flight -= 1
        self._commit_units(log_id, queue)

    async def _commit_reports(self, log_id: int, queue: Queue, batch: Batch) -> None:
        """Commits the batch. Only the end of the process cancels it, when no caller waits."""
        await _answer(queue, batch.take, self._record(log_id, queue, batch))
        queue.in_flight -= 1
        self._commit_units(log_id, queue)

    def _commit_check_ins(self, log_id: int, queue: Queue) -> None:
        if queue.check_ins and not queue.is_check_in_in_flight:
            queue.is_check_in_in_flight = True
            queue.start(self._commit_next_check_ins(log_id, queue))

    async def _commit_next_check_ins(self, log_id: int, queue: Queue) -> None:
        """Commits the next check-ins. A crash or an unknown outcome needs no care: the next
        check-in of a device decides again."""
        batch = queue.take_check_ins()
        check_ins = [each.check_in for each in batch]
        work = self._play(log_id, queue, record_check_ins, check_ins)
        await _answer(queue, lambda: batch, work)
        queue.is_check_in_in_flight = False
        self._commit_check_ins(log_id, queue)

    async def _run(self, log_id: int, command: LogCommand[object]) -> list[object]:
        began_s = time.perf_counter()
        with self._counting_failures():
            async with self._db.transaction() as tx:
                commit = await begin(tx, log_id, self.minimum_sizes)
                answer = await command(commit)
                await commit.finish()
        self._learn(log_id, commit.draft.committed, began_s)
        return [answer]

    async def _record(self, log_id: int, queue: Queue, batch: Batch) -> list[object]:
        """Records the batch, and returns the answers of its units. A unit that needs texts of the
        archive gets its answer later."""
        outcomes = await self._record_batch(log_id, queue, batch)
        return [
            self._later(log_id, queue, unit, outcome.stubs)
            if isinstance(outcome, EntriesNeeded)
            else outcome
            for unit, outcome in zip(batch.take(), outcomes, strict=True)
        ]

    def _later(
        self, log_id: int, queue: Queue, unit: ReportsUnit, needed: Sequence[Stub]
    ) -> object:
        queue.start(self._record_with_texts(log_id, queue, unit, needed))
        return _LATER

    async def _record_with_texts(
        self, log_id: int, queue: Queue, unit: ReportsUnit, needed: Sequence[Stub]
    ) -> None:
        """Reads the texts that a unit needs, and queues the unit again with them. If the archive
        does not answer, the unit fails: a later attempt of the device finds out."""
        try:
            with queue.apart(commands_of(unit)):
                async with asyncio.timeout(ARCHIVE_S):
                    texts = await self._texts(needed)
        except TimeoutError:
            _give_answer(queue, unit, undecided(_SLOW))
        except NoArchive:
            _give_answer(queue, unit, undecided(_NOT_NAMED))
        except BaseException as error:
            _give_answer(queue, unit, error)
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            queue.add(unit._replace(texts={**unit.texts, **texts}))
            self._commit_units(log_id, queue)

    async def _texts(self, needed: Sequence[Stub]) -> dict[Stub, str]:
        """Reads the texts of pruned entries, those of one file of the archive after each other.
        Raises `EntriesAway`, or `TimeoutError` if no more of them arrive."""
        texts: dict[Stub, str] = {}
        for part in batched(sorted(set(needed)), ARCHIVE_PART):
            async with asyncio.timeout(ARCHIVE_PART_S):
                texts |= await stubs.texts(self._db.archive, part)
        return texts

    async def _record_batch(self, log_id: int, queue: Queue, batch: Batch) -> Sequence[UnitOutcome]:
        """Records the batch. After an unknown outcome the same identities are sent again: reports
        that were recorded answer as duplicates."""
        if self._db.plays_in_turn:
            play = partial(self._play, log_id, queue, record_sent, SentUnits(batch.reports()))
        else:
            play = partial(self._play, log_id, queue, record_reports, batch.reports)
        try:
            return await play()
        except OutcomeUnknown:
            try:
                return await play()
            except Unavailable as error:
                raise OutcomeUnknown(str(error), error.retry_after_s) from error

    async def _play[Batch, Answers](
        self,
        log_id: int,
        queue: Queue,
        make: Callable[[int, LogContext, Batch], Script[tuple[Committed, Answers]]],
        batch: Batch,
    ) -> Answers:
        """Makes one commit. It may be made in another process: the knowledge of this process is
        sent there, and new knowledge comes back."""
        if queue.name is None:
            head = await log.head(self._db, log_id)
            parts = await self._db.read(lineage.segments(log_id))
            queue.earlier_logs = lineage.segments_of(parts)
            queue.name = LogName(head.project, head.number)
        minimum_sizes = self.minimum_sizes.for_log(queue.name)
        context = LogContext(minimum_sizes, self._controls_of_scripts, queue.earlier_logs)
        began_s = time.perf_counter()
        try:
            with self._counting_failures():
                committed, answers = await self._db.play(make, log_id, context, batch)
        except LogRefused:
            self.minimum_sizes.check(await log.head(self._db, log_id))
            raise
        self._learn(log_id, committed, began_s)
        return answers

    @contextlib.contextmanager
    def _counting_failures(self) -> Iterator[None]:
        try:
            yield
        except LogUnavailable:
            raise
        except Unavailable:
            if self.on_failed is not None:
                self.on_failed()
            raise

    @property
    def unanswered(self) -> int:
        """Returns the number of commands that are not answered yet."""
        return sum(queue.unanswered for queue in self._queues.values())

    def _learn(self, log_id: int, committed: Committed, began_s: float) -> None:
        if self.on_committed is not None:
            self.on_committed(committed.types, time.perf_counter() - began_s)
        self.minimum_sizes.acknowledge(committed.log, committed.size)
        if committed.control is not None:
            self.controls.publish(log_id, committed.control, committed.generation)
        for wake in self.on_commit:
            wake()


async def _answer(
    queue: Queue, take: Callable[[], Sequence[Unit]], work: Awaitable[Sequence[object]]
) -> None:
    """Gives each unit its answer, or all of them the error, so that no caller waits for ever."""
    try:
        answers = await work
    except BaseException as error:
        answers = [error] * len(take())
        if isinstance(error, asyncio.CancelledError):
            raise
    finally:
        for unit, answer in zip(take(), answers, strict=True):
            if answer is not _LATER:
                _give_answer(queue, unit, answer)


def _give_answer(queue: Queue, unit: Unit, answer: object) -> None:
    queue.unanswered -= commands_of(unit)
    if unit.answer.done():  # its caller was cancelled; it is recorded all the same
        return
    if isinstance(answer, BaseException):
        unit.answer.set_exception(answer)
    else:
        unit.answer.set_result(answer)  # type: ignore[arg-type] # made for this unit


async def start_log(
    tx: Transaction, project: str, *, above: int = 0, recorded_at_ms: int = 0
) -> int:
    """Creates an empty log of the project, with its views, and returns its id; the caller makes it
    the project's. Its number is above `above`, no event of it earlier than `recorded_at_ms`."""
    log_id = await log.create(tx, project, above=above, recorded_at_ms=recorded_at_ms)
    await tx.run(*fold.start(log_id))
    return log_id
