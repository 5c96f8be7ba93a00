"""What decides in a project, as its log says: read from the views, kept in memory while it holds.

A log's head counts its control events, so a process that has read the head knows whether what it
keeps is still all that decides.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import ClassVar, override

from uuid_utils import uuid7

from firmtrail.database.database import Database, Reader, Row, Statement
from firmtrail.events.entry import decode
from firmtrail.eventstore import lineage, log
from firmtrail.eventstore.lineage import Segment
from firmtrail.projections import fold, releases, rollouts
from firmtrail.rules import control
from firmtrail.rules.control import Control
from firmtrail.rules.rollout import Recent


class Controls:
    """What decides in each log that this process has to do with."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[int, Control] = {}
        self._reading: dict[int, asyncio.Task[Control]] = {}

    def known(self, log_id: int) -> Control | None:
        """Returns it as this process saw it last."""
        return self._known.get(log_id)

    def publish(self, log_id: int, decides: Control) -> None:
        """Takes what decides after a commit, which has returned."""
        before = self._known.get(log_id)
        if before is None or before.count < decides.count:
            self._known[log_id] = decides

    async def at(self, log_id: int, count: int) -> Control:
        """Returns what decides after at least so many control events; reads it again if it is
        not known, once for all callers that wait for it."""
        while (found := self._known.get(log_id)) is None or found.count < count:
            if log_id not in self._reading:
                self._reading[log_id] = asyncio.create_task(self._read(log_id))
            await asyncio.shield(self._reading[log_id])  # others wait for it, too
        return found

    async def at_moment(self, reader: Reader, log_id: int) -> tuple[log.Head, Control]:
        """Returns the log's head as this reader of one moment sees it, and exactly what decided
        then."""
        head = await log.head(reader, log_id)
        known = self._known.get(log_id)
        if known is not None and known.count == head.control_count:
            return head, known
        found = await _at(reader, head)
        self.publish(log_id, found)
        return head, found

    async def _read(self, log_id: int) -> Control:
        try:
            found = await read(self._db, log_id)
            self.publish(log_id, found)
            return found
        finally:
            del self._reading[log_id]


class Held:
    """What decided in each log when its head was last locked, kept where scripts are played.

    It is what had been committed before, so it holds whatever became of that transaction. Taken to
    another process it is that one's own: what crosses is a name for it.
    """

    _named: ClassVar[dict[str, "Held"]] = {}

    def __init__(self, name: str | None = None) -> None:
        self._name = name or uuid7().hex
        self._known: dict[int, Control] = {}

    @override
    def __reduce__(self) -> tuple[Callable[[str], "Held"], tuple[str]]:
        return Held.named, (self._name,)

    @classmethod
    def named(cls, name: str) -> "Held":
        return cls._named.setdefault(name, cls(name))

    def get(self, log_id: int, count: int) -> Control | None:
        """Returns what decides after so many control events, if that is known."""
        known = self._known.get(log_id)
        return known if known is not None and known.count == count else None

    def put(self, log_id: int, decides: Control) -> None:
        self._known[log_id] = decides


def load(head: log.Head, generations: Mapping[str, int], old: Iterable[Segment]) -> list[Statement]:
    """Read it with `of`. `old` are the logs that this one continues."""
    stream = f"project/{head.project}"
    return [
        releases.load(head.log_id, generations[releases.NAME]),
        rollouts.load(head.log_id, generations[rollouts.NAME]),
        *(log.of_stream(part.log_id, stream, part.size) for part in old),
        log.of_stream(head.log_id, stream),
    ]


def of(count: int, results: Sequence[Sequence[Row]]) -> Control:
    """Returns what decides after `count` control events. Settings and halts are few: they are
    folded."""
    of_releases, of_rollouts, *of_project = results
    found = Control()
    for position, _, text in chain.from_iterable(of_project):
        found = control.evolve(found, decode(position, text))
    return Control(
        count,
        found.settings,
        found.halt,
        releases.state(of_releases),
        rollouts.state(of_rollouts),
    )


def recent(results: Sequence[Sequence[Row]]) -> dict[str, Recent]:
    """Returns the counts of rollouts, out of the same rows."""
    return rollouts.recent(results[1])


async def read(db: Database, log_id: int) -> Control:
    """Returns what decides now."""
    async with db.moment() as reader:
        return await _at(reader, await log.head(reader, log_id))


async def _at(reader: Reader, head: log.Head) -> Control:
    """Returns what decides at the moment of this reader, which read the head."""
    live = {name: generation for name, _, generation in await reader.read(fold.live(head.log_id))}
    old = lineage.segments_of(await reader.read(lineage.segments(head.log_id)))
    rows = [await reader.read(statement) for statement in load(head, live, old)]
    return of(head.control_count, rows)
