"""Answers with checkpoints: the last one of a log, one that covers a size, one of any past size."""

import asyncio
from collections.abc import Callable

from firmtrail.database.coalesce import Coalescer
from firmtrail.database.database import Database
from firmtrail.eventstore import log, tree
from firmtrail.eventstore.proofs import TreeHead, verify_consistency
from firmtrail.publishing import arrivals, checkpoint, published
from firmtrail.publishing.checkpoint import Checkpoint, Verifier
from firmtrail.publishing.known_checkpoints import KnownCheckpoints
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.publishing.published import PublishedNote, SignedCheckpoint
from firmtrail.publishing.signer import Signer


class ServedCheckpoints:
    """Reads the checkpoints that one server answers with: only rows of the database."""

    def __init__(
        self,
        db: Database,
        known: KnownCheckpoints,
        signer: Signer,
        next_round: Callable[[], asyncio.Event],
    ) -> None:
        self._db = db
        self._known = known
        self._signer = signer
        self._next_round = next_round
        self._latest: Coalescer[tuple[int]] = Coalescer(db, published.latest)

    async def latest(self, log_id: int) -> PublishedNote | None:
        """Returns the last checkpoint of a log that is served."""
        return published.checkpoint_of(await self._latest.get((log_id,)))

    async def newest_known(self, name: LogName) -> SignedCheckpoint | None:
        """Returns the last checkpoint of a log that anybody has seen, in the database or not."""
        [state] = await published.named_logs(self._db, [name])
        return next(reversed(await self._known.of(state)), None)

    async def covering(self, log_id: int, size: int) -> PublishedNote:
        """Waits until the last checkpoint covers `size` events; the caller limits the wait."""
        while True:
            round_over = self._next_round()
            last = await self.latest(log_id)
            if last is not None and last.size >= size:
                return last
            await round_over.wait()

    async def at_size(self, log_id: int, name: LogName, size: int) -> PublishedNote | None:
        """Returns the checkpoint of any size up to the last published one; None for a larger size.
        One that was never published is proven consistent with the published one, and signed now.
        Of a log that was moved here, only those can be had that came with it: None for others."""
        last = await self.latest(log_id)
        if last is None or size > last.size:
            return None
        if row := await published.of_size(self._db, log_id, size):
            return row
        if await arrivals.key_of_log(self._db, name) is not None:
            return None
        anchor = self._anchor(name, last, size)
        head = TreeHead(size, await tree.root(self._db, log_id, size))
        proof = await tree.consistency(self._db, log_id, size, anchor.size)
        if not verify_consistency(proof, head, TreeHead(anchor.size, anchor.root)):
            raise log.Corrupt(f"log {name} is not what its checkpoint of size {anchor.size} signs")
        return PublishedNote(size, self._signer.sign(name, head).note)

    async def verifier(self, name: LogName) -> Verifier:
        """Returns the key that verifies the checkpoints of a log."""
        return await arrivals.key_of_log(self._db, name) or self._signer.verifier(name)

    def _anchor(self, name: LogName, last: PublishedNote, size: int) -> Checkpoint:
        """Returns a checkpoint that this key signed, of this size or larger. A row of the database
        counts by its signature, not because it is there."""
        stored = self._known.stored(name)
        if stored is not None and size <= stored.checkpoint.size:
            return stored.checkpoint
        return checkpoint.verify_note(last.note, self._signer.verifier(name))
