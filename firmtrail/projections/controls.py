"""Reads each project's `Control` from the views, and caches it while it is current.

A `Control` is all that decides which device gets which version: releases, rollouts, settings and
halts. A log's head counts its control events, so a process that has read the head knows whether the
`Control` that it has cached is current. A `Control` that was read from views of another revision
than this code's is returned, but not cached: it is not current once these views are rebuilt. If
views of this revision are rebuilt, because their rows were wrong, the count stays the same: so each
cached `Control` has the generation of its views, and `forget_rebuilt` compares it regularly.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import ClassVar, NamedTuple, override

from cachetools import LRUCache
from uuid_utils import uuid7

from firmtrail.database import shared_work
from firmtrail.database.database import Database, Given, Reader, Row, Script, Statement
from firmtrail.events.entry import decode
from firmtrail.eventstore import lineage, log, short_streams
from firmtrail.eventstore.lineage import Segment
from firmtrail.projections import fold, releases, rollouts
from firmtrail.projections.view import listed
from firmtrail.rules import control
from firmtrail.rules.control import Control
from firmtrail.rules.rollout import Recent
from firmtrail.rules.settings import Settings

NAMED_MAX = 128
"""The number of processes whose caches are kept where scripts are played: those of processes that
have ended give way."""

_VIEWS = (releases.NAME, rollouts.NAME)


class _Found(NamedTuple):
    """Holds a `Control` that was read from the views."""

    control: Control
    is_lasting: bool
    """Whether the views were in this code's revisions."""
    generation: int
    """The newest generation of the views that it was read from, or that a commit wrote."""

    def is_after(self, other: "_Found | None") -> bool:
        """Returns whether this one is of newer views than the other, or of more control events."""
        if other is None:
            return True
        return (self.generation, self.control.count) > (other.generation, other.control.count)


_REBUILT = f"""\
SELECT DISTINCT given.log_id
FROM given
JOIN views ON views.log_id = given.log_id
WHERE views.name IN {listed(_VIEWS)}
    AND views.generation > given.generation
ORDER BY given.log_id"""


def generation_of(live: Mapping[str, int]) -> int:
    """Returns the newest of the live generations of the views that a `Control` is read from. A
    rebuild of any of them makes it higher."""
    return max(live[name] for name in _VIEWS)


class Controls:
    """Caches the `Control` of each log that this process serves."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[int, _Found] = {}
        self._reading: dict[int, asyncio.Task[Control]] = {}

    def known(self, log_id: int) -> Control | None:
        """Returns the `Control` that this process saw last, if any."""
        found = self._known.get(log_id)
        return None if found is None else found.control

    def publish(self, log_id: int, newest: Control, generation: int) -> None:
        """Caches the `Control` after a commit that has returned, which wrote views of this
        generation."""
        self._learn(log_id, _Found(newest, is_lasting=True, generation=generation))

    async def forget_rebuilt(self) -> None:
        """Forgets each `Control` whose views have been rebuilt since it was read."""
        known = [(log_id, found.generation) for log_id, found in self._known.items()]
        if not known:
            return
        given = Given("log_id bigint, generation bigint", known)
        for [log_id] in await self._db.read(Statement(_REBUILT, (), given)):
            self._known.pop(log_id, None)

    async def at(self, log_id: int, count: int) -> Control:
        """Returns the `Control` after at least `count` control events. If it is not cached, it is
        read once for all callers that wait for it."""
        found = self.known(log_id)
        while found is None or found.count < count:
            if log_id not in self._reading:
                self._reading[log_id] = shared_work.begin(partial(self._read, log_id))
            found = await shared_work.result_of(self._reading[log_id])
        return found

    async def at_moment(self, reader: Reader, log_id: int) -> tuple[log.Head, Control]:
        """Returns the log's head as of this reader's snapshot, and exactly the `Control` of that
        snapshot."""
        head = await log.head(reader, log_id)
        known = self.known(log_id)
        if known is not None and known.count == head.control_count:
            return head, known
        return head, self._learn(log_id, await _at(reader, head))

    async def settings_at(self, reader: Reader, log_id: int) -> Settings:
        """Returns the project's settings as of this reader's snapshot. They follow from the log, so
        no view is read."""
        head = await log.head(reader, log_id)
        known = self.known(log_id)
        if known is not None and known.count == head.control_count:
            return known.settings
        old = lineage.segments_of(await reader.read(lineage.segments(log_id)))
        return _folded([await reader.read(each) for each in _of_project(head, old)]).settings

    async def _read(self, log_id: int) -> Control:
        try:
            return self._learn(log_id, await _read(self._db, log_id))
        finally:
            del self._reading[log_id]

    def _learn(self, log_id: int, found: _Found) -> Control:
        if found.is_lasting and found.is_after(self._known.get(log_id)):
            self._known[log_id] = found
        return found.control


class CommittedControls:
    """Caches the `Control` of each log as of the last lock of its head, where scripts are played.

    It is what had been committed before the lock, so it stays valid whatever became of that
    transaction. Only its name is pickled: in another process the name stands for that process's own
    cache.
    """

    _named: ClassVar[LRUCache[str, "CommittedControls"]] = LRUCache(NAMED_MAX)

    def __init__(self, name: str | None = None) -> None:
        self._name = name or uuid7().hex
        self._known: dict[int, tuple[int, Control]] = {}

    @override
    def __reduce__(self) -> tuple[Callable[[str], "CommittedControls"], tuple[str]]:
        return CommittedControls.named, (self._name,)

    @classmethod
    def named(cls, name: str) -> "CommittedControls":
        return cls._named.setdefault(name, cls(name))

    def get(self, head: log.Head, live: Mapping[str, int]) -> Control | None:
        """Returns the `Control` of exactly this head and these live generations, if it is
        cached."""
        generation, known = self._known.get(head.log_id, (0, None))
        is_current = known is not None and known.count == head.control_count
        return known if is_current and generation == generation_of(live) else None

    def put(self, log_id: int, control: Control, live: Mapping[str, int]) -> None:
        self._known[log_id] = generation_of(live), control


def load(head: log.Head, generations: Mapping[str, int], old: Iterable[Segment]) -> list[Statement]:
    """Reads the parts of a `Control`; `of` decodes them. `old` are the logs that this one
    continues."""
    return [
        releases.load(head.log_id, generations[releases.NAME]),
        rollouts.load(head.log_id, generations[rollouts.NAME]),
        *_of_project(head, old),
    ]


def _of_project(head: log.Head, old: Iterable[Segment]) -> list[Statement]:
    """Reads the events of the project itself; `_folded` takes the rows."""
    stream = f"project/{head.project}"
    return [
        *(short_streams.of_stream(part.log_id, stream, part.size) for part in old),
        short_streams.of_stream(head.log_id, stream),
    ]


def _folded(of_project: Iterable[Iterable[Row]]) -> Control:
    """Returns a `Control` with the project's settings and halts. They are few, so they are folded
    from their events."""
    found = Control()
    for position, _, text in chain.from_iterable(of_project):
        found = control.evolve(found, decode(position, text))
    return found


def halted_before(log_id: int, project: str, position: int) -> Script[Control]:
    """Returns a `Control` with only the halts of the project that were recorded before a position,
    which may be below 0. Rollouts with a plan do not count the time of a halt."""
    [rows] = yield [lineage.segments(log_id)]
    own = Segment(log_id, 0, lineage.POSITION_MAX, 0)
    parts = yield [
        short_streams.of_stream(
            part.log_id, f"project/{project}", min(part.size, position - part.start)
        )
        for part in (*lineage.segments_of(rows), own)
    ]
    found = _folded(parts)
    return Control(halt=found.halt, halts=found.halts)


def of(count: int, results: Sequence[Sequence[Row]]) -> Control:
    """Returns the `Control` after `count` control events, from the rows of `load`."""
    of_releases, of_rollouts, *of_project = results
    return replace(
        _folded(of_project),
        count=count,
        releases=releases.state(of_releases),
        rollouts=rollouts.state(of_rollouts),
    )


def recent(results: Sequence[Sequence[Row]]) -> dict[str, Recent]:
    """Returns the recent outcomes of rollouts, from the rows of `load`."""
    return rollouts.recent(results[1])


async def read(db: Database, log_id: int) -> Control:
    return (await _read(db, log_id)).control


async def _read(db: Database, log_id: int) -> _Found:
    async with db.moment() as reader:
        return await _at(reader, await log.head(reader, log_id))


async def _at(reader: Reader, head: log.Head) -> _Found:
    """Returns the `Control` as of the reader's snapshot, from which the head was read."""
    live = await reader.read(fold.live(head.log_id))
    generations = {name: generation for name, _, generation in live}
    revisions = {name: revision for name, revision, _ in live}
    old = lineage.segments_of(await reader.read(lineage.segments(head.log_id)))
    rows = [await reader.read(statement) for statement in load(head, generations, old)]
    is_lasting = all(revisions[name] == fold.REVISIONS[name] for name in _VIEWS)
    return _Found(of(head.control_count, rows), is_lasting, generation_of(generations))
