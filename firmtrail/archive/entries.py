"""Reads the entries that were pruned from the archive: an `EntryArchive`.

A bundle never changes, so it is cached once it was read, unless an entry of it is not the one that
was pruned: then somebody has to bring the file back, and it is read again. Calls that need the same
bundle at the same time share one read. A file that does not arrive in time is given up, and so is a
call that needs too many files: a caller waits at most `CALL_S`, and then receives `EntriesAway`.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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
        self._cache: OrderedDict[_Bundle, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._running: dict[_Bundle, asyncio.Task[bytes | None]] = {}
        self._reads = asyncio.Semaphore(READS_MAX)

    async def found(self, wanted: Sequence[Stub]) -> dict[Stub, str]:
        """Returns the texts at these places. A log that the database does not have, and a place
        that the archive does not have, are left out."""
        parts: dict[_Bundle, list[Stub]] = defaultdict(list)
        for stub in wanted:
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
        return {stub: text for part in found for stub, text in part.items()}

    async def _part(
        self, turn: asyncio.Semaphore, bundle: _Bundle, part: Iterable[Stub]
    ) -> dict[Stub, str]:
        """Returns the texts of entries of one bundle."""
        async with turn:
            entries = _split(await self._file(bundle))
        places = ((stub, stub.position % TILE_WIDTH) for stub in part)
        found = {
            stub: entries[at].decode(errors="replace") for stub, at in places if at < len(entries)
        }
        if any(not stubs.is_of(stub, found.get(stub)) for stub in part):
            self._forget(bundle)
        return found

    async def _file(self, bundle: _Bundle) -> bytes | None:
        """Returns a bundle's file; None if there is none."""
        if (cached := self._cache.get(bundle)) is not None:
            self._cache.move_to_end(bundle)
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
        if file is not None:
            self._keep(bundle, file)
        return file

    def _forget(self, bundle: _Bundle) -> None:
        self._cached_bytes -= len(self._cache.pop(bundle, b""))

    async def _name(self, log_id: int) -> LogName | None:
        if log_id not in self._names:
            rows = await self._db.read(Statement(_NAME, (log_id,)))
            if not rows:
                return None
            self._names[log_id] = LogName(*rows[0])
        return self._names[log_id]

    def _keep(self, bundle: _Bundle, file: bytes) -> None:
        self._cache[bundle] = file
        self._cached_bytes += len(file)
        while self._cached_bytes > CACHE_BYTES_MAX:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped)


def _bundle_of(stub: Stub) -> _Bundle:
    return _Bundle(stub.log_id, stub.position // TILE_WIDTH)


def _split(file: bytes | None) -> list[bytes]:
    """Returns the entries of a bundle; none for a file that is missing or malformed."""
    try:
        return tlog.split_bundle(file or b"")
    except ValueError:
        return []
