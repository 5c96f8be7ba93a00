"""Reads the entries that were pruned from the archive: an `EntryArchive`.

A bundle never changes, so it is cached once it was read, unless an entry of it is not the one that
was pruned: then somebody has to bring the file back, and it is read again. Texts that were wanted
singly are cached apart, because they are far smaller than their bundles: a call that was given up
after a thousand of them finds them there when it is tried again. Calls that need the same
bundle at the same time share one read. A file that does not arrive in time is given up, and so is a
call that needs too many files: a caller waits at most `CALL_S`, and then receives `EntriesAway`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from cachetools import LRUCache

from firmtrail.archive import layout
from firmtrail.archive.stores import ArchiveStore
from firmtrail.audit import source as tlog
from firmtrail.database import shared_work, stubs
from firmtrail.database.database import Database, Statement
from firmtrail.database.entry_archive import Stub
from firmtrail.database.stubs import EntriesAway
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.publishing.minimum_sizes import LogName

FILE_S = 5.0
CALL_S = 30.0
READS_MAX = 8
"""How many files are read in parallel."""
CALL_READS_MAX = 4
"""How many files a call waits for at the same time. A call for a thousand files then makes no other
call wait for long, and when it ends early, it reads no more."""
CACHE_BYTES_MAX = 32 * 1024 * 1024
TEXTS_BYTES_MAX = 16 * 1024 * 1024
SINGLE_MAX = 8
"""Up to so many texts that a call wants of one bundle are cached apart from it."""
STUB_BYTES = 500
"""The approximate size in memory of a stub, apart from its text."""

_NAME = "SELECT project, number FROM log_heads WHERE log_id = $1"


class _Bundle(NamedTuple):
    log_id: int
    number: int


class ArchivedEntries:
    """Reads entries from one archive, for one process."""

    def __init__(self, db: Database, store: ArchiveStore) -> None:
        self._db = db
        self._store = store
        self._names: dict[int, LogName] = {}
        self._bundles: LRUCache[_Bundle, bytes] = LRUCache(CACHE_BYTES_MAX, len)
        self._texts: LRUCache[Stub, str] = LRUCache(TEXTS_BYTES_MAX, _bytes_in_memory)
        self._running: dict[_Bundle, asyncio.Task[bytes | None]] = {}
        self._reads = asyncio.Semaphore(READS_MAX)

    async def found(self, wanted: Sequence[Stub]) -> dict[Stub, str]:
        """Returns the texts at these places. A log that the database does not have, and a place
        that the archive does not have, are left out."""
        known = {stub: text for stub in wanted if (text := self._texts.get(stub)) is not None}
        parts: dict[_Bundle, list[Stub]] = defaultdict(list)
        for stub in (each for each in wanted if each not in known):
            parts[_bundle_of(stub)].append(stub)
        turn = asyncio.Semaphore(CALL_READS_MAX)
        reads = [
            asyncio.create_task(self._part(turn, bundle, part)) for bundle, part in parts.items()
        ]
        try:
            async with asyncio.timeout(CALL_S):
                found = await asyncio.gather(*reads)
        except TimeoutError as error:
            raise EntriesAway(
                f"{len(parts)} files of the archive did not arrive within {CALL_S:.0f} s. Ask for "
                "fewer events, or try again later."
            ) from error
        finally:  # if one failed, the others are not needed
            for read in reads:
                read.cancel()
        return known | {stub: text for part in found for stub, text in part.items()}

    async def _part(
        self, turn: asyncio.Semaphore, bundle: _Bundle, part: Sequence[Stub]
    ) -> dict[Stub, str]:
        """Returns the texts of entries of one bundle."""
        async with turn:
            entries = _split(await self._file(bundle))
        places = ((stub, stub.position % TILE_WIDTH) for stub in part)
        found = {
            stub: entries[at].decode(errors="replace") for stub, at in places if at < len(entries)
        }
        if any(not stubs.is_of(stub, found.get(stub)) for stub in part):
            self._bundles.pop(bundle, None)
        elif len(part) <= SINGLE_MAX:
            self._texts.update(found)
        return found

    async def _file(self, bundle: _Bundle) -> bytes | None:
        """Returns a bundle's file; None if there is none."""
        if (cached := self._bundles.get(bundle)) is not None:
            return cached
        if (task := self._running.get(bundle)) is None:
            task = self._running[bundle] = shared_work.begin(lambda: self._read(bundle))
            task.add_done_callback(lambda _: self._running.pop(bundle))
        return await shared_work.result_of(task)

    async def _read(self, bundle: _Bundle) -> bytes | None:
        """Reads a file, and keeps it. Raises `EntriesAway`."""
        name = await self._name(bundle.log_id)
        if name is None:
            return None
        path = f"{layout.folder_of(name)}/{tlog.bundle_path(bundle.number, TILE_WIDTH)}"
        try:
            async with self._reads, asyncio.timeout(FILE_S):
                file = await self._store.get(path)
        except OSError as error:  # a TimeoutError is an OSError
            reason = str(error) or f"no answer within {FILE_S:.0f} s"
            raise EntriesAway(
                "The text of this entry is in the archive, which can't be read now "
                f"({reason}). Try again later."
            ) from error
        if file is not None and len(file) <= CACHE_BYTES_MAX:
            self._bundles[bundle] = file
        return file

    async def _name(self, log_id: int) -> LogName | None:
        if log_id not in self._names:
            rows = await self._db.read(Statement(_NAME, (log_id,)))
            if not rows:
                return None
            self._names[log_id] = LogName(*rows[0])
        return self._names[log_id]


def _bytes_in_memory(text: str) -> int:
    return len(text) + STUB_BYTES


def _bundle_of(stub: Stub) -> _Bundle:
    return _Bundle(stub.log_id, stub.position // TILE_WIDTH)


def _split(file: bytes | None) -> list[bytes]:
    """Returns the entries of a bundle; none for a file that is missing or malformed."""
    try:
        return tlog.split_bundle(file or b"")
    except ValueError:
        return []
