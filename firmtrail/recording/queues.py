"""Queues what waits for the head of one log, in units, and forms the batches of its commits."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import NamedTuple

from firmtrail.database.entry_archive import Stub
from firmtrail.database.stubs import EntriesAway
from firmtrail.eventstore import lineage
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.recording.check_ins import CheckIn
from firmtrail.recording.commit import Commit
from firmtrail.recording.reports import IdentifiedReport, IdentifiedUnit, ReportOutcome
from firmtrail.rules.situation import Decision

BATCH_COMMANDS_MAX = 500
BATCH_BYTES_MAX = 1024 * 1024
BATCH_COMMANDS_WHOLE = 64
"""Up to so many commands form one early batch. Beyond that a batch takes half of the unanswered
commands; taking all would make the commit and its callers alternate, each idle while the other
works."""
APART_COMMANDS_MAX = 20_000
"""How many reports may wait for an archive."""
REPORT_BYTES = 400
"""The approximate size in the log of a report without detail."""


def undecided(reason: str) -> EntriesAway:
    """Returns the error of reports that were not decided on for this reason."""
    return EntriesAway(
        f"A report may repeat one whose entry is only in the archive, and {reason}. Nothing was "
        "recorded of this request. Send it again later."
    )


class ReportsUnit(NamedTuple):
    """Holds reports that are recorded together."""

    items: Sequence[IdentifiedReport]
    answer: asyncio.Future[list[ReportOutcome]]
    texts: Mapping[Stub, str]
    """The texts of pruned entries that an earlier attempt to record them found needed."""


class CheckInUnit(NamedTuple):
    """Holds a device's question what it should run."""

    check_in: CheckIn
    answer: asyncio.Future[Decision]


class CommandUnit(NamedTuple):
    """Holds a command that has a commit of its own."""

    command: Callable[[Commit], Awaitable[object]]
    answer: asyncio.Future[object]


type Unit = ReportsUnit | CheckInUnit | CommandUnit


class Queue:
    """Holds the units that wait for the head of one log."""

    def __init__(self) -> None:
        self.units: deque[ReportsUnit | CommandUnit] = deque()
        self.waiting = 0
        """The number of commands in `units`."""
        self.in_flight = 0
        """The number of commits of units that have begun and not ended."""
        self.is_command_in_flight = False
        self.check_ins: deque[CheckInUnit] = deque()
        """Apart from the units, so that neither splits the other's batches."""
        self.is_check_in_in_flight = False
        self.unanswered = 0
        """The number of commands that are not answered, whether they wait or are in flight; without
        those that are apart."""
        self._apart = 0
        self.name: LogName | None = None
        self.earlier_logs: list[lineage.Segment] = []
        """The logs that it continues. Like `name` it never changes, and is read once, before the
        first commit."""
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def half(self) -> int:
        """Returns the size of an early batch: half of the unanswered commands, of every kind."""
        return min(BATCH_COMMANDS_MAX, max(BATCH_COMMANDS_WHOLE, self.unanswered // 2))

    def add(self, unit: ReportsUnit | CommandUnit) -> None:
        self.units.append(unit)
        self.waiting += commands_of(unit)

    @contextlib.contextmanager
    def apart(self, commands: int) -> Iterator[None]:
        """Lets commands wait for an archive, and take no room from others meanwhile. Raises
        `EntriesAway` if too many wait."""
        if self._apart + commands > APART_COMMANDS_MAX:
            raise undecided("too many reports wait for the archive")
        self._apart += commands
        self.unanswered -= commands
        try:
            yield
        finally:
            self._apart -= commands
            self.unanswered += commands

    def take_command(self) -> CommandUnit:
        unit = self.units.popleft()
        assert isinstance(unit, CommandUnit)
        self.waiting -= 1
        return unit

    def take_reports(self, commands_max: int) -> list[ReportsUnit]:
        """Takes whole units from the front, until the batch is full or a command comes."""
        batch: list[ReportsUnit] = []
        commands = body_bytes = 0
        while self.units and commands < commands_max and body_bytes < BATCH_BYTES_MAX:
            unit = self.units[0]
            if isinstance(unit, CommandUnit):
                break
            self.units.popleft()
            batch.append(unit)
            commands += len(unit.items)
            for item in unit.items:
                body_bytes += REPORT_BYTES + len(item.report.detail or "")
        self.waiting -= commands
        return batch

    def take_check_ins(self) -> list[CheckInUnit]:
        count = min(len(self.check_ins), BATCH_COMMANDS_MAX)
        return [self.check_ins.popleft() for _ in range(count)]

    def start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Batch:
    """Holds the reports of one commit: those that wait when `take` is first called."""

    def __init__(self, queue: Queue, commands_max: int) -> None:
        self._queue = queue
        self._commands_max = commands_max
        self._units: list[ReportsUnit] | None = None

    def take(self) -> list[ReportsUnit]:
        if self._units is None:
            self._units = self._queue.take_reports(self._commands_max)
        return self._units

    def reports(self) -> list[IdentifiedUnit]:
        return [IdentifiedUnit(unit.items, unit.texts) for unit in self.take()]


def commands_of(unit: Unit) -> int:
    return len(unit.items) if isinstance(unit, ReportsUnit) else 1
