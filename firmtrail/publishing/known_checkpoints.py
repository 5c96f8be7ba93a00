"""Knows, for one process, the last checkpoint of each log that anybody may have seen.

The store outside the database has most of them. A row of the database may be newer, but anybody who
can write to the database can invent one. So a row can only demand more of a log, and never replaces
what the store says.
"""

import time
from collections.abc import Mapping

from firmtrail.database.database import Database
from firmtrail.publishing import checkpoint, published
from firmtrail.publishing.checkpoint import BadNote, Checkpoint
from firmtrail.publishing.checkpoint_store import CheckpointStore, NoteChange, Notes
from firmtrail.publishing.minimum_sizes import LogName, MinimumSizes
from firmtrail.publishing.published import LogState, PublishedNote, SignedCheckpoint
from firmtrail.publishing.signer import Signer


class KnownCheckpoints:
    """Caches the content of the store, and raises the minimum sizes with all that it learns."""

    def __init__(
        self, db: Database, minimum_sizes: MinimumSizes, signer: Signer, store: CheckpointStore
    ) -> None:
        self.store = store
        self._db = db
        self._minimum_sizes = minimum_sizes
        self._signer = signer
        self._read_at_s = -store.idle_read_s
        self._notes: Notes = {}
        self._stored: dict[LogName, SignedCheckpoint] = {}

    @property
    def is_due(self) -> bool:
        """Returns whether the store is to be read again although no log has grown."""
        return self._read_at_s + self.store.idle_read_s <= time.monotonic()

    async def read(self) -> None:
        """Reads the store. Raises OSError, `BadStore`, or `BadNote` for another key's notes."""
        notes = await self.store.read()
        self._read_at_s = time.monotonic()
        known = self._notes
        self._learn({origin: note for origin, note in notes.items() if known.get(origin) != note})
        self._notes = notes

    async def change(self, notes: Mapping[str, str]) -> frozenset[str]:
        """Replaces each note in the store that is still as it was last read; returns the
        origins."""
        changes = {
            origin: NoteChange(self._notes.get(origin), note) for origin, note in notes.items()
        }
        made = await self.store.compare_and_set(changes)
        self._learn({origin: notes[origin] for origin in made})
        return made

    def _learn(self, notes: Mapping[str, str]) -> None:
        for origin, note in notes.items():
            name = self._signer.name(origin)
            if name is not None:
                verified = checkpoint.verify_note(note, self._signer.verifier(name))
                self._stored[name] = SignedCheckpoint(verified, note)
                self._minimum_sizes.note_published(name, verified)
        self._notes = {**self._notes, **notes}

    def stored(self, name: LogName) -> SignedCheckpoint | None:
        """Returns the log's last checkpoint in the store."""
        return self._stored.get(name)

    async def of(self, log: LogState) -> list[SignedCheckpoint]:
        """Returns what a log has to continue: its last checkpoint in the store, and the last one in
        the database where that is larger."""
        stored = self._stored.get(log.name)
        known = [stored] if stored else []
        if log.published > (stored.checkpoint.size if stored else 0):
            row = await published.of_size(self._db, log.log_id, log.published)
            if row is not None:  # else another server has published much more since
                known.append(_claimed(row))
                self._minimum_sizes.note_published(log.name, known[-1].checkpoint)
        return known


def _claimed(row: PublishedNote) -> SignedCheckpoint:
    """Returns the checkpoint that a row claims. An unreadable row claims a root that no log has."""
    try:
        root = checkpoint.parse(row.note).root
    except BadNote:
        root = b""
    return SignedCheckpoint(Checkpoint("", row.size, root), row.note)
