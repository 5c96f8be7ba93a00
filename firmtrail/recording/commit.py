"""Collects what one commit of one log records, and writes it when the transaction ends.

A `Draft` is the uncommitted state of a log while its head is locked. The rules decide on the states
that it has loaded, events get their positions in it, and `statements` writes events, texts, views
and head together. A `Commit` is a draft with an open transaction.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import NamedTuple, override

from msgspec.structs import replace
from uuid_utils import uuid7

from firmtrail.database.database import LogUnavailable, Row, Script, Statement, Transaction, played
from firmtrail.events.entry import encode
from firmtrail.events.event import Event, Recorded
from firmtrail.events.times import time_text
from firmtrail.eventstore import lineage, log
from firmtrail.projections import (
    controls,
    device_asks,
    device_current,
    device_history,
    device_offers,
    fold,
    history_lines,
    rollouts,
)
from firmtrail.publishing.minimum_sizes import LogName, MinimumSizes
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState

CALENDAR_END_MS = 253_402_300_799_999
"""The last moment of the year 9999."""

SALT_BYTES = 16

SYSTEM = "system"
"""The actor of what the service does automatically."""


class ClockAhead(LogUnavailable):
    """Reports that a log takes no appends yet: its last event is more than 5 minutes ahead of the
    clock."""

    def __init__(self, project: str, until_ms: int) -> None:
        super().__init__(
            f"The log of project {project} takes no appends until {until_text(until_ms)}: its "
            "last event is over 5 minutes ahead of the clock. Set the clock right, wait, or "
            f"accept the time: `firmtrail log accept-clock --project {project}`.",
            retry_after_s=60,
        )
        self._arguments = project, until_ms

    @override
    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        return ClockAhead, self._arguments


class LogClosed(LogUnavailable):
    """Reports that a log takes no events: there is a newer one, or the project moves or moved."""

    def __init__(self, project: str) -> None:
        super().__init__("The log is closed: there is a new log, or the project is moving.", 1)
        self.project = project

    @override
    def __reduce__(self) -> tuple[type, tuple[str]]:
        return LogClosed, (self.project,)


def _storable(text: str) -> bytes:
    """Returns the text as every database stores it. A protocol that lets a NUL or half of a pair
    through must not make the commit fail, which may hold the reports of other devices."""
    return text.replace("\0", " ").encode(errors="replace")


def until_text(until_ms: int) -> str:
    """Returns the time until which a clock keeps a log from taking appends, before the year
    10000."""
    return time_text(min(until_ms, CALENDAR_END_MS))


class LogContext(NamedTuple):
    """Holds what a process knows of a log before it locks the log's head."""

    minimum_sizes: MinimumSizes
    controls: controls.CommittedControls
    earlier_logs: Sequence[lineage.Segment]
    """The logs that this one continues."""


class Committed(NamedTuple):
    """Holds what a process keeps of a commit that has returned."""

    log: LogName
    size: int
    control: Control | None
    """The new control; None if it did not change."""
    generation: int
    """The generation of the views that the control is read from."""
    types: dict[str, int]
    """The number of events of each type."""


class Load(NamedTuple):
    """Pairs a statement with the function that takes its rows."""

    statement: Statement
    take: Callable[[list[Row]], None]


def loaded(loads: Sequence[Load]) -> Script[None]:
    """Runs the statements in one step, and gives each function its rows, in order."""
    results = yield [each.statement for each in loads]
    for each, rows in zip(loads, results, strict=True):
        each.take(rows)


class Draft:
    """Collects what is recorded while the log's head is locked. Pure, except for salts and ids."""

    def __init__(
        self,
        head: log.Head,
        generations: Mapping[str, int],
        control: Control,
        known: Control | None = None,
    ) -> None:
        """Begins a draft; `known` is the control that the process has, if that is still current."""
        self._generations = generations
        self._known = known
        self._entries: list[log.NewEntry] = []
        self._texts: list[log.ErasableText] = []
        self._types: dict[str, int] = {}
        self.head = head
        self.now_ms = max(head.now_ms, head.recorded_at_ms)
        self.fold = fold.Fold()
        self.fold.steering.control = control

    @property
    def log_id(self) -> int:
        return self.head.log_id

    @property
    def project(self) -> str:
        return self.head.project

    @property
    def control(self) -> Control:
        """Returns the control after the events that are recorded here."""
        return self.fold.steering.control

    @property
    def size(self) -> int:
        """Returns the log's size with the events that are recorded here."""
        return self.head.size + len(self._entries)

    @property
    def committed(self) -> Committed:
        """Returns what a process keeps of the draft, once it is written."""
        control = None if self.control is self._known else self.control
        name = LogName(self.project, self.head.number)
        generation = controls.generation_of(self._generations)
        return Committed(name, self.size, control, generation, self._types)

    def load_devices(
        self, names: Iterable[str], questions: Iterable[tuple[str, str]] = ()
    ) -> list[Load]:
        """Loads these devices before anything is recorded of them: their states, what they were
        offered, the outcomes that count for rollouts, and which of these (device, question) were
        asked. In a project without a release nothing was ever offered."""
        log_id, live, steering = self.log_id, self._generations, self.fold.steering
        loads = [
            Load(
                device_current.load(log_id, live[device_current.NAME], names),
                lambda rows: self.fold.states.update(device_current.states(rows)),
            )
        ]
        if self.control.releases:
            statement = device_offers.load(log_id, live[device_offers.NAME], names)
            loads.append(
                Load(statement, lambda rows: steering.offers.update(device_offers.state(rows)))
            )
        if self.control.watching:
            statement = rollouts.load_recent(log_id, live[rollouts.NAME])
            loads.append(Load(statement, self._take_recent))
        if asked := list(questions):
            statement = device_asks.load(log_id, live[device_asks.NAME], asked)
            loads.append(
                Load(statement, lambda rows: steering.asks.update(device_asks.state(rows)))
            )
        return loads

    def _take_recent(self, rows: Iterable[Row]) -> None:
        steering = self.fold.steering
        steering.recent = rollouts.recent(rows) | steering.recent

    def load_later(self, places: Sequence[tuple[str, int]]) -> Load:
        """Loads the reports that come after these (device, place)."""
        generation = self._generations[device_history.NAME]
        statement = device_history.later(self.log_id, generation, places)
        return Load(statement, partial(self.fold.add_later, places))

    def load_runs(self, wanted: Sequence[tuple[str, str]]) -> Statement:
        """Reads what each of these (device, bad version) ran before the bad version; the rows are
        for `device_history.runs_of`."""
        keys = [(self.log_id, *each, history_lines.END) for each in wanted]
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

        `text` is free text that is kept outside the log; the event gets its salted hash as the
        member that its TEXT names. The state of a device must have been loaded, if it has one.
        """
        position = self.head.size + len(self._entries)
        name = type(event).__name__
        self._types[name] = self._types.get(name, 0) + 1
        if text is not None:
            event = self._with_text(position, event, text)
        recorded = Recorded(
            position, self.now_ms, stream, event_id or f"s.{uuid7().hex}", actor, event
        )
        entry = encode(self.project, recorded)
        self._entries.append(
            log.NewEntry(stream, recorded.event_id, entry, event.IS_CONTROL, event.IS_NUDGE)
        )
        self.fold.apply(recorded)
        if self.fold.steering.outcomes:
            self._record_own_orders()
        return position

    def _record_own_orders(self) -> None:
        """Records the pauses and phases that follow from the outcomes."""
        for rollout, order in self.fold.steering.own_orders(self.now_ms):
            self.record(rollout, order, actor=SYSTEM)

    def _with_text(self, position: int, event: Event, text: str) -> Event:
        assert event.TEXT is not None, f"{event} has no text"
        salt, stored = secrets.token_bytes(SALT_BYTES), _storable(text)
        self._texts.append(log.ErasableText(position, salt.hex(), stored.decode()))
        return replace(event, **{event.TEXT: sha256(salt + stored).hexdigest()})

    def statements(self) -> list[Statement]:
        """Returns the statements that write everything recorded here: events, texts, head and
        views."""
        if not self._entries:
            return []
        return [
            *log.append(self.head, self._entries, self._texts, self.now_ms),
            *self.fold.statements(self.log_id, self._generations),
        ]

    def continue_at(self, head: log.Head) -> None:
        """Continues at the head that the statements have left, with the states that are known."""
        self.head, self._entries, self._texts = head, [], []
        self.fold = self.fold.continued()


class Commit:
    """Holds a draft and its transaction, for a command that has a commit of its own."""

    def __init__(self, tx: Transaction, draft: Draft) -> None:
        self.draft = draft
        self._tx = tx

    async def run(self, *statements: Statement) -> list[list[Row]]:
        """Runs statements of the caller in this transaction."""
        return await self._tx.run(*statements)

    async def devices(self, names: Iterable[str]) -> dict[str, DeviceState]:
        """Returns the states of all loaded devices, these among them if they exist. Each is loaded
        once; events of it can be recorded from here on."""
        states = self.draft.fold.states
        if missing := [name for name in names if name not in states]:
            await played(self._tx, loaded(self.draft.load_devices(missing)))
        return states

    async def flush(self) -> None:
        """Writes what is recorded so far, and continues from there in the same transaction.

        A command that records very much does it in pieces, so that none of them occupies the event
        loop for long. Only the end of the transaction commits them, all together.
        """
        await self.finish()
        [locked] = await self._tx.run(log.lock(self.draft.log_id))
        self.draft.continue_at(log.head_of(locked))

    async def finish(self) -> None:
        """Writes everything that was recorded; the transaction's end commits it."""
        await self._tx.run(*self.draft.statements())


async def begin(tx: Transaction, log_id: int, minimum_sizes: MinimumSizes) -> Commit:
    """Locks the log's head and begins a commit at it. Raises `Unavailable` as `locked` does."""
    [rows] = await tx.run(lineage.segments(log_id))
    context = LogContext(minimum_sizes, controls.CommittedControls(), lineage.segments_of(rows))
    return Commit(tx, await played(tx, begin_draft(log_id, context)))


def begin_draft(log_id: int, context: LogContext) -> Script[Draft]:
    """Locks the log's head and begins a draft at it. Reads the project's control, and with it the
    recent outcomes of rollouts, unless the control is known. Raises `Unavailable` as `locked` does.
    """
    head, generations = locked((yield lock(log_id)), context.minimum_sizes)
    if (known := context.controls.get(head, generations)) is not None:
        return Draft(head, generations, known, known)
    rows = yield controls.load(head, generations, context.earlier_logs)
    control = controls.of(head.control_count, rows)
    context.controls.put(log_id, control, generations)
    draft = Draft(head, generations, control)
    draft.fold.steering.recent = controls.recent(rows)
    return draft


def lock(log_id: int) -> list[Statement]:
    """Locks the log's head and reads which views are live; `locked` takes the rows."""
    return [log.lock(log_id), fold.live(log_id)]


def locked(
    rows: Sequence[Sequence[Row]], minimum_sizes: MinimumSizes
) -> tuple[log.Head, dict[str, int]]:
    """Returns the head that `lock` has locked, and the live generation of each view.

    Raises `Unavailable`, and the transaction must not continue, if

    - the log was closed: the project has a newer one, or is being moved to another instance;
    - the log is smaller than, or differs from, what was acknowledged or published (`LogRefused`):
      the database was rolled back or exchanged, and further events would take positions that were
      given before;
    - the last event is far ahead of the clock: one of two clocks is wrong, and times never
      decrease;
    - a view is live in a form that this code does not write.
    """
    heads, views = rows
    head = log.head_of(heads)
    if head.closed:
        raise LogClosed(head.project)
    minimum_sizes.check(head)
    if (until_ms := head.refused_until_ms()) is not None:
        raise ClockAhead(head.project, until_ms)
    return head, _generations(views)


def _generations(views: Iterable[Row]) -> dict[str, int]:
    live = {name: (revision, generation) for name, revision, generation in views}
    for name, revision in fold.REVISIONS.items():
        if name not in live or live[name][0] != revision:
            reason = f"The view {name} is not yet rebuilt to revision {revision}. Try again later."
            raise LogUnavailable(reason, retry_after_s=60)
    return {name: generation for name, (_, generation) in live.items()}
