"""One commit of one log: what it holds, and what it writes when it ends.

The working paper between the head's lock and COMMIT: the rules decide on the states kept here,
events are given their positions here, and `statements` writes events, texts, views and head in one
go.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, override

from msgspec.structs import replace
from uuid_utils import uuid7

from firmtrail.database.database import Row, Script, Statement, Transaction, Unavailable
from firmtrail.events.entry import encode
from firmtrail.events.event import Event, Recorded
from firmtrail.events.times import time_text
from firmtrail.eventstore import continued, log
from firmtrail.projections import (
    controls,
    device_asks,
    device_current,
    device_history,
    device_offers,
    fold,
    rollouts,
)
from firmtrail.publishing.minimum_sizes import Floors, LogName
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState

AHEAD_MS_MAX = 5 * 60 * 1000
"""How far the last event's time may be ahead of the clock before appends are refused."""

CALENDAR_END_MS = 253_402_300_799_999
"""The last moment of the year 9999."""

SALT_BYTES = 16

SYSTEM = "system"
"""The actor of what the service does automatically."""


class ClockAhead(Unavailable):
    """The log's last event is more than 5 minutes ahead of its clock: it takes no appends yet."""

    def __init__(self, project: str, until_ms: int) -> None:
        super().__init__(
            f"the log of project {project} takes no appends until {until_text(until_ms)}: the "
            "last event is over 5 minutes ahead of the clock. Set the clock right, wait, or "
            f"accept it: `firmtrail log accept-clock --project {project}`.",
            retry_after_s=60,
        )
        self._arguments = project, until_ms

    @override
    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        return ClockAhead, self._arguments


def until_text(until_ms: int) -> str:
    """Returns the time until which a clock keeps a log from taking appends, before the year
    10000."""
    return time_text(min(until_ms, CALENDAR_END_MS))


class LogContext(NamedTuple):
    """What a process knows of a log before it holds its head."""

    floors: Floors
    held: controls.Held
    old: Sequence[continued.Part]
    """The logs that it continues."""


class Committed(NamedTuple):
    """What a process keeps of a commit that returned."""

    log: LogName
    size: int
    control: Control | None
    """What decides from here on; None: what decided before."""


class Draft:
    """Collects what is recorded while the head is locked. Pure but for salts and ids."""

    def __init__(
        self,
        head: log.Head,
        generations: Mapping[str, int],
        decides: Control,
        *,
        is_news: bool = False,
    ) -> None:
        self._generations = generations
        self._known = None if is_news else decides
        self._entries: list[log.Entry] = []
        self._texts: list[log.Text] = []
        self.head = head
        self.now_ms = max(head.now_ms, head.recorded_at_ms)
        self.fold = fold.Fold()
        self.fold.steering.control = decides

    @property
    def log_id(self) -> int:
        return self.head.log_id

    @property
    def project(self) -> str:
        return self.head.project

    def load_devices(self, names: Iterable[str]) -> Statement:
        return device_current.load(self.log_id, self._generations[device_current.NAME], names)

    def take_devices(self, rows: Iterable[Row]) -> None:
        """Takes the rows of `load_devices`."""
        self.fold.states.update(device_current.states(rows))

    def load_later(self, places: Sequence[tuple[str, int]]) -> Statement:
        """Reads for `fold.add_later` the reports that come after these (device, place)."""
        generation = self._generations[device_history.NAME]
        return device_history.later(self.log_id, generation, places)

    @property
    def control(self) -> Control:
        """Returns what decides, with what is recorded here."""
        return self.fold.steering.control

    def load_told(
        self, names: Iterable[str], questions: Iterable[tuple[str, str]] = ()
    ) -> list[Statement]:
        """What these devices were offered, what outcomes count for, and which of these (device,
        question) were asked. Nothing was offered in a project that has no release."""
        statements: list[Statement] = []
        if self.control.releases:
            generation = self._generations[device_offers.NAME]
            statements.append(device_offers.load(self.log_id, generation, names))
        if self.control.watching:
            generation = self._generations[rollouts.NAME]
            statements.append(rollouts.load_recent(self.log_id, generation))
        if asked := list(questions):
            generation = self._generations[device_asks.NAME]
            statements.append(device_asks.load(self.log_id, generation, asked))
        return statements

    def take_told(self, results: Iterable[Sequence[Row]]) -> None:
        """Takes the rows of `load_told`, before anything is recorded."""
        rows, steering = iter(results), self.fold.steering
        if self.control.releases:
            steering.offers.update(device_offers.state(next(rows)))
        if self.control.watching:
            for name, counts in rollouts.recent(next(rows)).items():
                steering.recent.setdefault(name, counts)
        for asks in rows:
            steering.asks.update(device_asks.state(asks))

    def load_runs(self, wanted: Sequence[tuple[str, str]]) -> Statement:
        """What these (device, bad version) ran before the bad one; `device_history.runs_of`."""
        keys = [(self.log_id, *each, device_history.END) for each in wanted]
        return device_history.runs(keys, self._generations[device_history.NAME])

    def record(
        self,
        stream: str,
        event: Event,
        *,
        actor: str,
        event_id: str | None = None,
        text: str | None = None,
    ) -> int:
        """Adds an event at the next position, and returns that position.

        `text` is free text kept outside the log; the event gets its salted hash as the member that
        its TEXT names. A device's state must have been loaded, where there is one.
        """
        position = self.head.size + len(self._entries)
        if text is not None:
            event = self._with_text(position, event, text)
        recorded = Recorded(
            position, self.now_ms, stream, event_id or f"s.{uuid7().hex}", actor, event
        )
        entry = encode(self.project, recorded)
        self._entries.append(
            log.Entry(stream, recorded.event_id, entry, event.IS_CONTROL, event.IS_NUDGE)
        )
        self.fold.apply(recorded)
        if self.fold.steering.outcomes:
            for rollout, pause in self.fold.steering.own_pauses():
                self.record(rollout, pause, actor=SYSTEM)
        return position

    def _with_text(self, position: int, event: Event, text: str) -> Event:
        assert event.TEXT is not None, f"{event} has no text"
        salt = secrets.token_bytes(SALT_BYTES)
        self._texts.append(log.Text(position, salt.hex(), text))
        return replace(event, **{event.TEXT: sha256(salt + text.encode()).hexdigest()})

    @property
    def size(self) -> int:
        """The log's size with what is recorded here."""
        return self.head.size + len(self._entries)

    @property
    def committed(self) -> Committed:
        """Returns what a process keeps of it, once it is written."""
        control = None if self.control is self._known else self.control
        return Committed(LogName(self.project, self.head.number), self.size, control)

    def statements(self) -> list[Statement]:
        """What writes everything that is recorded here: events, texts, head and views."""
        if not self._entries:
            return []
        return [
            *log.append(self.head, self._entries, self._texts, self.now_ms),
            *self.fold.statements(self.log_id, self._generations),
        ]


class Commit(Draft):
    """A paper with its transaction, for a command that runs in a commit of its own."""

    def __init__(
        self, tx: Transaction, head: log.Head, generations: Mapping[str, int], decides: Control
    ) -> None:
        super().__init__(head, generations, decides)
        self._tx = tx

    async def run(self, *statements: Statement) -> list[list[Row]]:
        """Run statements of the caller's own in this transaction."""
        return await self._tx.run(*statements)

    async def devices(self, names: Iterable[str]) -> dict[str, DeviceState]:
        """Returns the states of those that exist, loaded once; they can be recorded on from
        here."""
        if missing := [name for name in names if name not in self.fold.states]:
            rows, *told = await self._tx.run(self.load_devices(missing), *self.load_told(missing))
            self.take_devices(rows)
            self.take_told(told)
        return self.fold.states

    async def flush(self) -> None:
        """Write what is recorded so far, and continue from there in the same transaction.

        A command that records very much does it in pieces, so that none of them occupies the event
        loop for long. Only the end of the transaction commits them, all together.
        """
        await self.finish()
        [locked] = await self._tx.run(log.lock(self.log_id))
        self.head = log.head_of(locked)
        self._entries, self._texts = [], []
        self.fold = self.fold.continued()

    async def finish(self) -> None:
        """Write everything that was recorded; the transaction's end commits it."""
        await self._tx.run(*self.statements())


def holding(log_id: int) -> list[Statement]:
    """Locks the log's head and reads which views are live; `held` reads the rows."""
    return [log.lock(log_id), fold.live(log_id)]


async def begin(tx: Transaction, log_id: int, floors: Floors) -> Commit:
    """Locks the log's head and opens a commit at it. Raises `Unavailable` as `held` does."""
    head, generations = held(await tx.run(*holding(log_id)), floors)
    [old] = await tx.run(continued.parts(log_id))
    rows = await tx.run(*controls.load(head, generations, continued.parts_of(old)))
    commit = Commit(tx, head, generations, controls.of(head.control_count, rows))
    commit.fold.steering.recent.update(controls.recent(rows))
    return commit


def opened(log_id: int, before: LogContext) -> Script[Draft]:
    """Locks the log's head and opens a paper at it. Reads what decides if it is not known.
    Raises `Unavailable` as `held` does."""
    head, generations = held((yield holding(log_id)), before.floors)
    if (known := before.held.get(log_id, head.control_count)) is not None:
        return Draft(head, generations, known)
    rows = yield controls.load(head, generations, before.old)
    decides = controls.of(head.control_count, rows)
    before.held.put(log_id, decides)
    return Draft(head, generations, decides, is_news=True)


def held(rows: Sequence[Sequence[Row]], floors: Floors) -> tuple[log.Head, dict[str, int]]:
    """Returns the head that `holding` locked, and the live generation of each view.

    Raises `Unavailable`, and the transaction must not go on, when

    - the log was closed, and the project has a newer one;
    - the log is not what was acknowledged or published (`LogRefused`): the database was rolled
      back or exchanged, and going on would give positions a second time;
    - the last event is far ahead of the clock: one of two clocks lies, and times never decrease;
    - a view is live in a form that this code doesn't write.
    """
    locked, views = rows
    head = log.head_of(locked)
    if head.closed:
        raise Unavailable("the project has started a new log", retry_after_s=1)
    floors.check(head)
    if (until_ms := head.refused_until_ms(AHEAD_MS_MAX)) is not None:
        raise ClockAhead(head.project, until_ms)
    return head, _generations(views)


def _generations(views: Iterable[Row]) -> dict[str, int]:
    live = {name: (revision, generation) for name, revision, generation in views}
    for name, revision in fold.REVISIONS.items():
        if name not in live or live[name][0] != revision:
            raise Unavailable(f"view {name} is not live in revision {revision}", retry_after_s=60)
    return {name: generation for name, (_, generation) in live.items()}
