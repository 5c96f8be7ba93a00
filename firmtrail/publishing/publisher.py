"""Publishes a signed checkpoint of each log that grew, and never lets a log appear to have forked.

The publisher is a follower: one server runs one, every `INTERVAL_S`. A log's position is its last
published checkpoint. It guarantees:

- It signs only what is committed: heads are read by `Database.read`.
- Each checkpoint of a log is verified to be consistent with the one published before it, which is
  kept outside the database, before it is signed. Only one of several servers makes each step.
- A log that ends before its last checkpoint, or had another root at that size, is neither published
  nor written to: the publisher reports it to `MinimumSizes`, which every append asks.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import NamedTuple

import structlog

from firmtrail.database.database import Contended, Database, Unavailable
from firmtrail.eventstore import merkle
from firmtrail.eventstore.proofs import TreeHead
from firmtrail.followers.following import Following
from firmtrail.publishing import comparison, published
from firmtrail.publishing.checkpoint import BadNote
from firmtrail.publishing.checkpoint_store import BadStore, CheckpointStore
from firmtrail.publishing.known_checkpoints import KnownCheckpoints
from firmtrail.publishing.minimum_sizes import LogName, MinimumSizes
from firmtrail.publishing.published import LogState, SignedCheckpoint
from firmtrail.publishing.served import ServedCheckpoints
from firmtrail.publishing.signer import Signer

INTERVAL_S = 0.4
"""A commit is published within a second: a wait for the next round, and the round."""

_log = structlog.get_logger("firmtrail.publisher")


class _Step(NamedTuple):
    """Holds the next checkpoint of a log, and those that it continues."""

    log_id: int
    before: Sequence[SignedCheckpoint]
    after: SignedCheckpoint

    @property
    def origin(self) -> str:
        return self.after.checkpoint.origin


class Publisher:
    """Publishes the logs of one database by one key, for one server: a `Follower`."""

    name = "publisher"
    interval_s = idle_s = retry_s_max = INTERVAL_S
    passing_errors: tuple[type[Exception], ...] = (Unavailable, OSError, BadStore, BadNote)

    def __init__(
        self, db: Database, minimum_sizes: MinimumSizes, signer: Signer, store: CheckpointStore
    ) -> None:
        self.signer = signer
        self.minimum_sizes = minimum_sizes
        self.following: Following[list[LogState]] = Following(self)
        self._db = db
        self._known = KnownCheckpoints(db, minimum_sizes, signer, store)
        self.served = ServedCheckpoints(db, self._known, signer, self.following.next_round)
        self._given_up: set[LogName] = set()
        """Closed logs that can't be published any further."""
        self._one_at_a_time = asyncio.Lock()

    async def check_store(self) -> None:
        """Raises OSError or `BadStore` where checkpoints can't be read or written."""
        await self._known.store.check()

    async def check(self) -> None:
        """Compares every log with its last checkpoint, and refuses those that differ from it.

        Runs at the start, and after the database was away. Raises `Unavailable`, OSError,
        `BadStore`, or `BadNote` where the checkpoints in the store are signed by another key.
        """
        async with self._one_at_a_time:
            await self._known.read()
            async for page in published.all_logs(self._db):
                for state in page:
                    await self._compare(state)
            self.minimum_sizes.is_checking = False

    async def pending(self) -> AsyncGenerator[list[LogState]]:
        """Yields the logs that grew since their last checkpoint, a page at a time."""
        with self._noticing_absence():
            if self.minimum_sizes.is_checking:
                await self.check()
            async with self._one_at_a_time:
                if await self._is_idle():
                    return
                # The store is read before the heads. A checkpoint was committed before it was
                # published, so a head that ends before it was rolled back, and not read too early.
                await self._known.read()
                if refused := list(self.minimum_sizes.refused):
                    for state in await published.named_logs(self._db, refused):
                        await self._compare(state)
                async for page in published.unpublished_logs(self._db):
                    refused_names = self.minimum_sizes.refused.keys() | self._given_up
                    yield [state for state in page if state.name not in refused_names]

    async def follow(self, work: list[LogState]) -> None:
        """Publishes the heads of these logs."""
        with self._noticing_absence():
            steps = [step for state in work if (step := await self._step(state)) is not None]
            if steps:
                await self._take(steps)

    @contextlib.contextmanager
    def _noticing_absence(self) -> Iterator[None]:
        """Stops all writes where the database was away: it may be another one when it is back. They
        continue after the next round has compared it."""
        try:
            yield
        except Contended:
            raise
        except Unavailable:
            self.minimum_sizes.is_checking = True
            raise

    async def _is_idle(self) -> bool:
        """Returns whether nothing is to be published, and reading the store can wait: reading a
        bucket costs a request each time."""
        if self.minimum_sizes.refused or self._known.is_due:
            return False
        async for page in published.unpublished_logs(self._db):
            if any(state.name not in self._given_up for state in page):
                return False
        return True

    async def _take(self, steps: Sequence[_Step]) -> None:
        """Takes the steps, each proven consistent with the checkpoint before it.

        This order keeps a crash from forking a log:

        1. The note in the store outside the database is replaced, if it is still the one that the
           step was proven against. A server that loses here, because another one published first or
           because its database is an older copy, publishes nothing. A crash before this leaves
           nothing; the head is signed again, which gives the same text.
        2. The rows are added to the database. A crash before this leaves a checkpoint in the store
           that nobody was shown: the log still counts as moved, and the next round adds the row, or
           continues after it.
        3. Only rows are served. So in no state does anybody have a checkpoint that is not
           in the store.
        """
        made = await self._known.change({step.origin: step.after.note for step in steps})
        rows = {  # a step to a checkpoint that the store had already gives one row, not two
            (step.log_id, each.checkpoint.size): each.note
            for step in steps
            if step.origin in made
            for each in (*step.before, step.after)
        }
        if rows:
            async with self._db.transaction() as tx:
                await tx.run(published.insert([(*key, note) for key, note in rows.items()]))

    async def _step(self, state: LogState) -> _Step | None:
        """Returns the step to a log's head; None if the log has no right to it, and is refused."""
        before = await self._known.of(state)
        if fault := await comparison.fault_of_step(self._db, state, before):
            self._note_fault(state, fault)
            return None
        head = TreeHead(state.size, merkle.root(state.frontier))
        return _Step(state.log_id, before, self.signer.sign(state.name, head))

    async def _compare(self, state: LogState) -> None:
        known = await self._known.of(state)
        self._note_fault(state, await comparison.fault_of_log(self._db, state, known))

    def _note_fault(self, state: LogState, fault: str | None) -> None:
        name, refused = state.name, self.minimum_sizes.refused
        if fault is None:
            refused.pop(name, None)
        elif state.is_closed:
            refused.pop(name, None)
            self._given_up.add(name)
        else:
            if name not in refused:
                _log.error("log refused", log=str(name), reason=fault)
            refused[name] = fault
