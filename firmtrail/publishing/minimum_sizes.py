"""How far must a log have come? What this process knows of it, and holds every append to.

A log never gets shorter and never changes, so one that ends before what was acknowledged or
published, or whose root is another than the published one, is not the log any more: a backup was
restored, a file exchanged, a tail deleted. Appending to it would give positions a second time, and
publishing it would be a fork. Whoever appends asks `check` while it holds the head; the publisher
(publisher.py) brings what is published, and what it found.
"""

from collections.abc import Mapping
from typing import NamedTuple, override

from firmtrail.database.database import Unavailable
from firmtrail.eventstore import merkle
from firmtrail.eventstore.log import Head
from firmtrail.publishing.checkpoint import Checkpoint

RETRY_AFTER_S = 60


class LogName(NamedTuple):
    """A log, whatever database it lies in."""

    project: str
    number: int

    def __str__(self) -> str:
        return f"{self.project}/{self.number}"


class LogRefused(Unavailable):
    """The log is not the one that was acknowledged or published: it takes no appends."""

    def __init__(self, name: LogName, reason: str) -> None:
        super().__init__(
            f"log {name} takes no appends: {reason}. Bring the right database back, or go on in a "
            f"new log: `firmtrail log continue --project {name.project}`.",
            RETRY_AFTER_S,
        )
        self.log = name
        self._arguments = name, reason

    @override
    def __reduce__(self) -> tuple[type, tuple[LogName, str]]:
        return LogRefused, self._arguments


class Floors:
    """The least that each log must be, for one process; grows and never shrinks."""

    def __init__(self) -> None:
        self.refused: dict[LogName, str] = {}
        """Logs that are not what was acknowledged or published, and why."""
        self.is_checking = False
        """Set while the database, which was away, is not yet compared with what is published."""
        self._acknowledged: dict[LogName, int] = {}
        self._published: dict[LogName, Checkpoint] = {}

    def of(self, name: LogName) -> "Floors":
        """Returns the same for one log, to be taken to another process."""
        floors = Floors()
        floors.is_checking = self.is_checking
        floors.refused = _only(name, self.refused)
        floors._acknowledged = _only(name, self._acknowledged)
        floors._published = _only(name, self._published)
        return floors

    def acknowledge(self, name: LogName, size: int) -> None:
        """This process saw a commit up to `size`."""
        self._acknowledged[name] = max(size, self._acknowledged.get(name, 0))

    def publish(self, name: LogName, checkpoint: Checkpoint) -> None:
        """This was published, by whichever server."""
        known = self._published.get(name)
        if known is None or known.size <= checkpoint.size:
            self._published[name] = checkpoint

    def published(self, name: LogName) -> Checkpoint | None:
        return self._published.get(name)

    def number(self, project: str) -> int:
        """The highest number of the project's logs that was ever published; 0: none."""
        return max((name.number for name in self._published if name.project == project), default=0)

    def check(self, head: Head) -> None:
        """Raises `LogRefused` for a head that is not the log's, `Unavailable` before it is known.

        Only what the head itself shows: the root of an earlier size is the publisher's to compare.
        """
        if self.is_checking:
            raise Unavailable("the database was away, and is compared with what was published", 1)
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
    return f"it ends at {size}, but its checkpoint of size {published.size} is out"


def differs(published: Checkpoint, root: bytes) -> str | None:
    """Why a root at the size of a checkpoint is not its root; None: it is."""
    if root == published.root:
        return None
    return (
        f"its root at size {published.size} is {root.hex()[:16]}…, "
        f"but the checkpoint of that size has {published.root.hex()[:16]}…"
    )
