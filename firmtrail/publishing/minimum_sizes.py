"""Keeps the least that each log must be, and checks every append against it.

A log never gets shorter and never changes. So a log that ends before what was acknowledged or
published, or that has another root than the published one, is no longer the same log: a backup was
restored, a file replaced, a tail deleted. Appending to it would use positions a second time, and
publishing it would be a fork. A transaction that appends calls `check` while it has the head
locked; the publisher (publisher.py) reports what is published, and the faults that it finds.
"""

from collections.abc import Mapping
from typing import NamedTuple, override

from firmtrail.database.database import LogUnavailable
from firmtrail.eventstore import merkle
from firmtrail.eventstore.log import Head
from firmtrail.publishing.checkpoint import Checkpoint

RETRY_AFTER_S = 60


class LogName(NamedTuple):
    """Names a log, independent of the database that it is stored in."""

    project: str
    number: int

    def __str__(self) -> str:
        return f"{self.project}/{self.number}"


class LogRefused(LogUnavailable):
    """The log is not the one that was acknowledged or published: it takes no appends."""

    def __init__(self, name: LogName, reason: str) -> None:
        super().__init__(
            f"log {name} takes no appends: {reason}. Bring the right database back, or continue in "
            f"a new log: `firmtrail log continue --project {name.project}`.",
            RETRY_AFTER_S,
        )
        self.log = name
        self._arguments = name, reason

    @override
    def __reduce__(self) -> tuple[type, tuple[LogName, str]]:
        return LogRefused, self._arguments


class MinimumSizes:
    """Holds the minimum of each log, as one process knows it. A minimum only grows."""

    def __init__(self) -> None:
        self.refused: dict[LogName, str] = {}
        """Logs that are not what was acknowledged or published, and why."""
        self.is_checking = False
        """True while a database that was away is not yet compared with what is published."""
        self._acknowledged: dict[LogName, int] = {}
        self._published: dict[LogName, Checkpoint] = {}

    def for_log(self, name: LogName) -> "MinimumSizes":
        """Returns a copy for one log, which a script takes along to the process that writes."""
        copied = MinimumSizes()
        copied.is_checking = self.is_checking
        copied.refused = _only(name, self.refused)
        copied._acknowledged = _only(name, self._acknowledged)
        copied._published = _only(name, self._published)
        return copied

    def acknowledge(self, name: LogName, size: int) -> None:
        """Notes that a commit of this process brought the log to `size`."""
        self._acknowledged[name] = max(size, self._acknowledged.get(name, 0))

    def note_published(self, name: LogName, checkpoint: Checkpoint) -> None:
        """Notes a checkpoint that was published, by this server or another one."""
        known = self._published.get(name)
        if known is None or known.size <= checkpoint.size:
            self._published[name] = checkpoint

    def published(self, name: LogName) -> Checkpoint | None:
        return self._published.get(name)

    def highest_number(self, project: str) -> int:
        """Returns the highest number of the project's published logs; 0: none is published."""
        return max((name.number for name in self._published if name.project == project), default=0)

    def check(self, head: Head) -> None:
        """Raises `LogRefused` for a head that can't be the log's, `Unavailable` while the database
        is not yet compared. The publisher compares the roots of earlier sizes."""
        if self.is_checking:
            raise LogUnavailable(
                "the database was away, and is being compared with what was published", 1
            )
        name = LogName(head.project, head.number)
        if fault := self._fault(name, head):
            self.refused[name] = fault
        if fault := self.refused.get(name):
            raise LogRefused(name, fault)
        acknowledged = self._acknowledged.get(name, 0)
        if head.size < acknowledged:
            ends = f"it ends at {head.size}, but {acknowledged} events were acknowledged"
            raise LogRefused(name, ends)

    def _fault(self, name: LogName, head: Head) -> str | None:
        published = self._published.get(name)
        if published is None or head.size > published.size:
            return None
        if head.size < published.size:
            return ends_before(published, head.size)
        return differs(published, merkle.root(head.frontier))


def _only[Value](name: LogName, of_all: Mapping[LogName, Value]) -> dict[LogName, Value]:
    return {name: of_all[name]} if name in of_all else {}


def ends_before(published: Checkpoint, size: int) -> str:
    return f"it ends at {size}, but its checkpoint of size {published.size} is published"


def differs(published: Checkpoint, root: bytes) -> str | None:
    """Returns how a root at the size of a checkpoint differs from its root; None: it does not."""
    if root == published.root:
        return None
    return (
        f"its root at size {published.size} is {root.hex()[:16]}…, "
        f"but the checkpoint of that size has {published.root.hex()[:16]}…"
    )
