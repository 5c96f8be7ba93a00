"""Who signs the heads of the logs, and sees to it that no log is ever shown to have forked?

A publisher belongs to one server. Every `INTERVAL_S` it looks which logs moved, and publishes a
checkpoint of each. It guarantees:

- Signed is only what is committed: heads are read by `Database.read`.
- Every checkpoint of a log is consistent with the one published before it, which lies outside the
  database, and is verified so before it is signed. Of several servers, one makes each step.
- A log that ends before its last checkpoint, or had another root at its size, is neither published
  nor written to: the publisher tells `Floors`, which every append asks.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmtrail.database.coalesce import Coalescer
from firmtrail.database.database import Contended, Database, Unavailable
from firmtrail.eventstore import log, merkle, tree
from firmtrail.eventstore.proofs import TreeHead, verify_consistency
from firmtrail.publishing import checkpoint, minimum_sizes, published, published_file
from firmtrail.publishing.checkpoint import BadNote, Checkpoint
from firmtrail.publishing.minimum_sizes import Floors, LogName
from firmtrail.publishing.published import Published, Signed, Standing
from firmtrail.publishing.published_file import BadFile, Move

INTERVAL_S = 0.4
"""A commit is published within a second: a wait for the next round, and the round."""

_log = structlog.get_logger("firmtrail.publisher")


class Signer(NamedTuple):
    """The key of an installation, which signs all its logs."""

    instance: str
    key: Ed25519PrivateKey

    def origin(self, name: LogName) -> str:
        return checkpoint.origin(self.instance, *name)

    def verifier(self, name: LogName) -> checkpoint.Verifier:
        return checkpoint.verifier(self.origin(name), self.key.public_key())

    def sign(self, name: LogName, head: TreeHead) -> Signed:
        """Returns the checkpoint of this head; whoever calls knows that it is the log's."""
        signed = Checkpoint(self.origin(name), *head)
        return Signed(signed, checkpoint.sign(signed, self.key))

    def name(self, origin: str) -> LogName | None:
        """Returns the log of an origin; None for another installation's."""
        project, _, number = origin.removeprefix(f"{self.instance}/").rpartition("/")
        found = LogName(project, int(number)) if number.isdecimal() else LogName("", 0)
        return found if self.origin(found) == origin and "/" not in project else None


class _Step(NamedTuple):
    """The next checkpoint of a log, behind those that it goes on from."""

    log_id: int
    before: Sequence[Signed]
    after: Signed


class Publisher:
    """Publishes the logs of one database by one key, for one server."""

    def __init__(
        self, db: Database, known: Floors, signer: Signer, store: published_file.Store
    ) -> None:
        self.signer = signer
        self.floors = known
        self.problem: str | None = None
        """Why the last round failed; None: it did not."""
        self._db = db
        self._store = store
        self._read_at_s = -store.idle_read_s
        self._notes: published_file.Notes = {}
        self._outside: dict[LogName, Signed] = {}
        self._given_up: set[LogName] = set()
        """Closed logs that can't be published any further."""
        self._one_at_a_time = asyncio.Lock()
        self._round_over = asyncio.Event()
        self._latest: Coalescer[tuple[int]] = Coalescer(db, published.latest)

    async def run(self) -> None:
        """Publish until cancelled. A round that fails is tried again as the next."""
        while True:
            await self.round()
            await asyncio.sleep(INTERVAL_S)

    async def round(self) -> None:
        """Publish once. What keeps it from doing so is told in `problem`.

        After the database was away it may be another: nobody writes until it is compared.
        """
        try:
            if self.floors.is_checking:
                await self.check()
            await self.publish()
        except (Contended, OSError, BadFile, BadNote) as error:
            self._failed(str(error))
        except Unavailable as error:
            self.floors.is_checking = True
            self._failed(str(error))
        else:
            self.problem = None
        self._round_over.set()
        self._round_over = asyncio.Event()

    def _failed(self, reason: str) -> None:
        if self.problem is None:
            _log.warning("nothing can be published", reason=reason)
        self.problem = reason

    async def look_outside(self) -> None:
        """Raise OSError or `BadFile` where checkpoints can't be read or written."""
        await self._store.check()

    async def check(self) -> None:
        """Compare every log with its last checkpoint; refuse those that are not what it says.

        At the start, and after the database was away. Raises `Unavailable`, OSError, `BadFile`,
        or `BadNote` where the checkpoints outside are signed by another key.
        """
        async with self._one_at_a_time:
            await self._read_outside()
            async for page in published.every(self._db):
                for standing in page:
                    self._note_fault(standing, await self._fault(standing))
            self.floors.is_checking = False

    async def publish(self) -> None:
        """Publish the head of every log that moved. Raises as `check` does."""
        async with self._one_at_a_time:
            await self._publish()

    async def _publish(self) -> None:
        if await self._is_idle():
            return
        # What is outside is read before the heads: it was committed before it was published, so a
        # head that is behind it was rolled back, and not merely read too early.
        await self._read_outside()
        if self.floors.refused:
            for standing in await published.named(self._db, list(self.floors.refused)):
                self._note_fault(standing, await self._fault(standing))
        async for page in published.moved(self._db):
            steps = [
                step
                for standing in page
                if not self._is_refused(standing.name)
                if (step := await self._step(standing)) is not None
            ]
            await self._take(steps)

    async def _is_idle(self) -> bool:
        """Returns whether this round can be left out: a store whose every read costs a request."""
        if self.floors.refused or self._read_at_s + self._store.idle_read_s <= time.monotonic():
            return False
        async for page in published.moved(self._db):
            if any(standing.name not in self._given_up for standing in page):
                return False
        return True

    async def _take(self, steps: list[_Step]) -> None:
        """Make the steps, each proven consistent with the checkpoint before it.

        The order is what keeps a crash from forking a log:

        1. Outside, if what is there is what the step was proven against. A server that loses
           here, because another one published or its database is an older copy, publishes nothing.
           A crash before it leaves nothing; the head is signed again, to the same text.
        2. In the database. A crash before it leaves a checkpoint that nobody was shown: the log
           counts as moved, and the next round adds the row, or goes on behind it.
        3. Only what is a row is served. There is no state in which somebody has a checkpoint that
           is not outside.
        """
        moves = {
            step.after.checkpoint.origin: Move(
                self._notes.get(step.after.checkpoint.origin), step.after.note
            )
            for step in steps
        }
        if not moves:
            return
        made = await self._store.compare_and_set(moves)
        done = [step for step in steps if step.after.checkpoint.origin in made]
        self._take_notes({step.after.checkpoint.origin: step.after.note for step in done})
        rows = {  # a step to where the file is already has one row
            (step.log_id, each.checkpoint.size): each.note
            for step in done
            for each in (*step.before, step.after)
        }
        if rows:
            async with self._db.transaction() as tx:
                await tx.run(published.add([(*key, note) for key, note in rows.items()]))

    async def _step(self, standing: Standing) -> _Step | None:
        """Returns the step to a log's head; None, and the log is refused, where it has no right to
        it."""
        before = await self._known(standing)
        head = TreeHead(standing.size, merkle.root(standing.frontier))
        fault = _fault_of_head(standing, before)
        try:
            if fault is None and not await self._goes_on(standing.log_id, before, head):
                fault = "it does not go on from its last checkpoint"
        except log.Corrupt as error:
            fault = str(error)
        if fault is not None:
            self._note_fault(standing, fault)
            return None
        return _Step(standing.log_id, before, self.signer.sign(standing.name, head))

    async def _goes_on(self, log_id: int, before: Sequence[Signed], head: TreeHead) -> bool:
        """Returns whether the entries prove that this head is theirs and goes on from those
        before."""
        for each in before:
            old = TreeHead(each.checkpoint.size, each.checkpoint.root)
            proof = await tree.consistency(self._db, log_id, old.size, head.size)
            if not verify_consistency(proof, old, head):
                return False
        return bool(before) or await tree.root(self._db, log_id, head.size) == head.root

    async def _fault(self, standing: Standing) -> str | None:
        """Why a log is not what its last checkpoint says; None: it is."""
        known = await self._known(standing)
        if fault := _fault_of_head(standing, known):
            return fault
        try:
            for each in known:
                root = await self._root(standing, each.checkpoint.size)
                if fault := minimum_sizes.differs(each.checkpoint, root):
                    return fault
        except log.Corrupt as error:
            return str(error)
        return None

    async def _root(self, standing: Standing, size: int) -> bytes:
        if size == standing.size:
            return merkle.root(standing.frontier)
        return await tree.root(self._db, standing.log_id, size)

    def _note_fault(self, standing: Standing, fault: str | None) -> None:
        name, refused = standing.name, self.floors.refused
        if fault is None:
            refused.pop(name, None)
        elif standing.is_closed:
            refused.pop(name, None)
            self._given_up.add(name)
        else:
            if name not in refused:
                _log.error("log refused", log=str(name), reason=fault)
            refused[name] = fault

    def _is_refused(self, name: LogName) -> bool:
        return name in self.floors.refused or name in self._given_up

    async def _known(self, standing: Standing) -> list[Signed]:
        """Returns what a log has to go on from: its last checkpoint outside, and the database's own
        where that is larger.

        Who can write to the database can make up the latter: so it may ask for more, and never
        takes the other's place.
        """
        outside_ = self._outside.get(standing.name)
        known = [outside_] if outside_ else []
        if standing.published > (outside_.checkpoint.size if outside_ else 0):
            row = await published.one(self._db, standing.log_id, standing.published)
            assert row is not None, "a checkpoint is never deleted"
            known.append(_claimed(row))
            self.floors.publish(standing.name, known[-1].checkpoint)
        return known

    async def _read_outside(self) -> None:
        notes = await self._store.read()
        self._read_at_s = time.monotonic()
        known = self._notes
        self._take_notes({at: note for at, note in notes.items() if known.get(at) != note})
        self._notes = notes

    def _take_notes(self, notes: Mapping[str, str]) -> None:
        for origin, note in notes.items():
            name = self.signer.name(origin)
            if name is not None:
                signed = Signed(checkpoint.opened(note, self.signer.verifier(name)), note)
                self._outside[name] = signed
                self.floors.publish(name, signed.checkpoint)
        self._notes = {**self._notes, **notes}

    async def latest(self, log_id: int) -> Published | None:
        """Returns the last checkpoint of a log, as everybody gets it."""
        return published.found(await self._latest.get((log_id,)))

    async def last(self, name: LogName) -> Signed | None:
        """The last checkpoint of a log that anybody has seen, be it in the database or not."""
        [standing] = await published.named(self._db, [name])
        return next(reversed(await self._known(standing)), None)

    async def covering(self, log_id: int, size: int) -> Published:
        """Returns the last checkpoint once it covers `size` events; the caller limits the wait."""
        while True:
            round_over = self._round_over
            last = await self.latest(log_id)
            if last is not None and last.size >= size:
                return last
            await round_over.wait()

    async def signed(self, log_id: int, name: LogName, size: int) -> Published | None:
        """Returns the checkpoint of any size up to the last published one; None behind that.

        One that was never published is signed now. That claims nothing new: it is proven
        consistent with the published one first.
        """
        last = await self.latest(log_id)
        if last is None or size > last.size:
            return None
        if row := await published.one(self._db, log_id, size):
            return row
        anchor = self._anchor(name, last, size)
        head = TreeHead(size, await tree.root(self._db, log_id, size))
        proof = await tree.consistency(self._db, log_id, size, anchor.size)
        if not verify_consistency(proof, head, TreeHead(anchor.size, anchor.root)):
            raise log.Corrupt(f"log {name} is not what its checkpoint of size {anchor.size} signs")
        return Published(size, self.signer.sign(name, head).note)

    def _anchor(self, name: LogName, last: Published, size: int) -> Checkpoint:
        """Returns a checkpoint of ours, of this size or larger: of the database's word its
        signature counts, not that it is there."""
        outside_ = self._outside.get(name)
        if outside_ is not None and size <= outside_.checkpoint.size:
            return outside_.checkpoint
        return checkpoint.opened(last.note, self.signer.verifier(name))


def _fault_of_head(standing: Standing, known: Sequence[Signed]) -> str | None:
    """Returns what the head of a log shows to be wrong, beside the checkpoints that it goes on
    from."""
    end = min(standing.size, standing.stored)
    for each in known:
        if end < each.checkpoint.size:
            return minimum_sizes.ends_before(each.checkpoint, end)
    if standing.stored != standing.size:
        return f"its head says {standing.size} events, but {standing.stored} are there"
    return None


def _claimed(row: Published) -> Signed:
    """Returns what a row of the database claims; one that can't be read claims a root that no log
    has."""
    try:
        root = checkpoint.parse(row.note).root
    except BadNote:
        root = b""
    return Signed(Checkpoint("", row.size, root), row.note)
