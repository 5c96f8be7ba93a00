"""Follows the logs for the archive: writes full tiles, bundles and a checkpoint that covers them.

The archiver is a follower. A step extends one log by at most `STEP_BUNDLES` bundles:

1. The archive's own checkpoint says how far the log is archived.
2. The entries after it are read and hashed. The tree that they give must be the one that a
   checkpoint of this server signs, and must continue the archived one. Only then
3. tiles and bundles are written, each only where there is none; then the checkpoint is replaced, if
   it still is the one of step 1.

So the archive holds nothing that was not verified, is a whole log at every moment and after a
crash, and never gets shorter. A crash between two of these repeats the step, which finds the same
files. Free texts, which can be erased, are not in entries and do not get into the archive.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from uuid import uuid4

import structlog

from firmtrail.archive import layout, positions
from firmtrail.archive.positions import ArchiveWork
from firmtrail.archive.stores import ArchiveRefused, ArchiveStore
from firmtrail.audit import source as tlog
from firmtrail.audit.finding import Findings
from firmtrail.audit.source import CHECKPOINT, KEY, DatabaseSource
from firmtrail.audit.verify import HashedBundle, ServedLog, hashed_bundles, is_later
from firmtrail.database.database import Database, Unavailable
from firmtrail.database.stubs import EntriesAway
from firmtrail.eventstore.log import Corrupt
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.followers.following import Following
from firmtrail.publishing.checkpoint import BadNote, Checkpoint, key_line, verify_note
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.publishing.publisher import Publisher

INTERVAL_S = 2.0
IDLE_S = 30.0
RETRY_S_MAX = 60.0
STEP_BUNDLES = 16
"""The bundles of one step, which are in memory until they are verified: 32 MiB at most."""
WRITES_AT_ONCE = 8

_log = structlog.get_logger("firmtrail.archive")


class Archiver:
    """Archives the logs of one database, for one server: a `Follower`."""

    name = "archive"
    interval_s, idle_s, retry_s_max = INTERVAL_S, IDLE_S, RETRY_S_MAX
    passing_errors: tuple[type[Exception], ...] = (Unavailable, OSError, ArchiveRefused)

    def __init__(
        self,
        db: Database,
        publisher: Publisher,
        store: ArchiveStore,
        *,
        location: str,
        is_alone: bool,
    ) -> None:
        """`location` names the archive in the database. `is_alone`: no other process archives."""
        self.following: Following[ArchiveWork] = Following(self)
        self.location = location
        self.refused: dict[LogName, str] = {}
        """The logs that the archive does not agree with, and why."""
        self._db = db
        self._publisher = publisher
        self._store = store
        self._place = (location, uuid4().hex)
        self._is_alone = is_alone
        self._refused_before: dict[LogName, str] = {}
        self._given_up: set[int] = set()
        """Closed logs that the archive does not agree with: nothing will change that."""
        self._writing = asyncio.Semaphore(WRITES_AT_ONCE)

    async def pending(self) -> AsyncGenerator[ArchiveWork]:
        """Yields a step of each log that has something to archive, and again, until none moves.
        In the end raises `ArchiveRefused` if the archive does not agree with a log."""
        self._refused_before, self.refused = self.refused, {}
        done: dict[int, int] = {}
        after = 0
        while page := await positions.waiting(self._db, self.location, after=after):
            for work in page:
                if work.log_id not in self._given_up:
                    done[work.log_id] = work.archived
                    yield work
            after = page[-1].log_id
        while done:  # only these logs are asked for again
            again = await positions.waiting_of(self._db, self.location, list(done))
            moved = [work for work in again if work.archived != done[work.log_id]]
            done = {work.log_id: work.archived for work in moved}
            for work in moved:
                yield work
        if self.refused:
            raise ArchiveRefused("; ".join(self.refused.values()))

    async def follow(self, work: ArchiveWork) -> None:
        """Extends the archive of one log by a step, unless another server does."""
        if not await positions.take(self._db, work, self._place, is_alone=self._is_alone):
            return
        try:
            size = await self._extended(work)
        except (ArchiveRefused, BadNote, Corrupt, EntriesAway) as error:
            self._refuse(work, str(error), is_for_good=not isinstance(error, EntriesAway))
            await positions.release(self._db, work, self._place)
        else:
            await positions.save(self._db, work, self._place, size)

    def _refuse(self, work: ArchiveWork, reason: str, *, is_for_good: bool) -> None:
        if work.name not in self._refused_before:
            _log.error("a log can't be archived", log=str(work.name), reason=reason)
        if work.is_closed and is_for_good:
            self._given_up.add(work.log_id)
        else:
            self.refused[work.name] = f"log {work.name}: {reason}"

    async def _extended(self, work: ArchiveWork) -> int:
        """Extends the archive of a log by a step; returns the size that it has then."""
        note = await self._store.get(_path(work, CHECKPOINT))
        earlier = self._opened(work.name, note) if note is not None else None
        size = earlier.size if earlier else 0
        stop = max(size, min(work.target, size + STEP_BUNDLES * TILE_WIDTH))
        signed = await self._publisher.served.at_size(work.log_id, work.name, stop)
        if signed is None and work.is_closed:
            return size  # the database lost these entries, and the log can't get others
        if signed is None:
            raise ArchiveRefused(f"the archive has {size} entries, more than are published")
        checkpoint = self._opened(work.name, signed.note.encode())
        if earlier == checkpoint:
            return size
        bundles = await self._verified(work, earlier, signed.note)
        await asyncio.gather(
            *(self._add(_path(work, name), content) for name, content in _files(bundles))
        )
        await self._store.add(_path(work, KEY), self._key(work.name).encode())
        if not await self._store.replace(_path(work, CHECKPOINT), note, signed.note.encode()):
            raise OSError(f"another server has extended the archive of log {work.name}")
        return stop

    def _opened(self, name: LogName, note: bytes) -> Checkpoint:
        verifier = self._publisher.signer.verifier(name)
        return verify_note(note.decode(errors="replace"), verifier)

    def _key(self, name: LogName) -> str:
        return key_line(self._publisher.signer.verifier(name))

    async def _verified(
        self, work: ArchiveWork, earlier: Checkpoint | None, note: str
    ) -> list[HashedBundle]:
        """Returns the bundles from the archived size up to a checkpoint. Raises `ArchiveRefused` if
        they do not lead from one to the other."""
        findings = Findings()
        source = DatabaseSource(self._db, work.log_id, note=note, key=self._key(work.name))
        served = ServedLog(source, self._opened(work.name, note.encode()), earlier)
        bundles: list[HashedBundle] = []
        if is_later(served, findings):
            bundles += [bundle async for bundle in hashed_bundles(served, findings)]
        if findings.count:
            first = findings.kept[0]
            raise ArchiveRefused(f"{first.where}: {first.what}")
        return bundles

    async def _add(self, name: str, content: bytes) -> None:
        async with self._writing:
            await self._store.add(name, content)


def _path(work: ArchiveWork, name: str) -> str:
    return f"{layout.folder_of(work.name)}/{name}"


def _files(bundles: Sequence[HashedBundle]) -> list[tuple[str, bytes]]:
    """Returns the bundles and their tiles, each with its path in the log."""
    found = []
    for bundle in bundles:
        entries = tlog.bundle_path(bundle.number, len(bundle.entries))
        found.append((entries, tlog.join_bundle(bundle.entries)))
        found += [(tlog.path(tile.id), tile.hashes) for tile in bundle.tiles]
    return found
