"""Checks the stubs of entries that were pruned, and gives an audit the texts that they stand for.

Stubs stand for all entries of devices below the size up to which a log is pruned, and for no other
entry. The archive must have an entry with the hash of the stub. It is not trusted: a text with
another hash is a finding, and is not used. A stub is not trusted either: the tree that its hash
leads to is compared with the signed one, as that of any entry.
"""

from collections.abc import Mapping, Sequence

from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.audit.rows import span, without_gaps
from firmtrail.database import stubs
from firmtrail.database.entry_archive import Stub
from firmtrail.eventstore.pruned import is_prunable, pruned_size
from firmtrail.eventstore.stored_events import StoredEvent


class StubCheck:
    """Checks the stubs of one log, which was pruned up to `size` before its entries were read. It
    may be pruned further meanwhile: entries after `size` may be texts or stubs."""

    def __init__(self, log: AuditedLog, size: int, findings: Findings) -> None:
        self.is_complete = True
        """Whether the text of every entry is known."""
        self._log = log
        self._size = self._newest_size = size
        self._findings = findings

    async def texts(self, run: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Returns the events whose texts are known, with them. Raises `EntriesAway` if there is an
        archive that does not answer."""
        parsed = [(stored, stubs.parse(stored.entry)) for stored in run]
        if any(stub and stored.position >= self._newest_size for stored, stub in parsed):
            self._newest_size = await pruned_size(self._log.db, self._log.log_id)
        for stored, stub in parsed:
            self._check_place(stored, stub)
        found = await self._found([stub for _, stub in parsed if stub is not None])
        known = [
            stored if stub is None else stored._replace(entry=found[stub])
            for stored, stub in parsed
            if stub is None or stub in found
        ]
        self.is_complete &= len(known) == len(run)
        return known

    def _check_place(self, stored: StoredEvent, stub: Stub | None) -> None:
        size = self._size if stub is None else self._newest_size
        is_pruned = stored.position < size and is_prunable(stored.stream)
        if stub is None and is_pruned:
            self._add(stored.position, "its text is in the database, although it was pruned")
        elif stub is not None and not is_pruned:
            self._add(stored.position, "a stub stands for it, although it was not pruned")
        elif stub is not None and stub[:2] != (self._log.log_id, stored.position):
            self._add(stored.position, f"its stub {stub} names another place")

    async def _found(self, wanted: Sequence[Stub]) -> Mapping[Stub, str]:
        """Returns the texts that have the hashes of their stubs. Each other one is a finding."""
        archive = self._log.db.archive
        if not wanted:
            return {}
        if archive is None:
            self._add_all(wanted, "is only in the archive: give --archive before the command")
            return {}
        found = await archive.found(wanted)
        missing = [stub for stub in wanted if stub not in found]
        self._add_all(missing, "was pruned, and the archive does not have it")
        differing = [stub for stub in found if not stubs.is_of(stub, found[stub])]
        for stub in differing:
            self._add(stub.position, "the archive's entry does not have the hash of its stub")
            del found[stub]
        return found

    def _add_all(self, found: Sequence[Stub], what: str) -> None:
        """Adds a finding for each run of neighbours."""
        for run in without_gaps(found):
            where = span(run[0].position, run[-1].position + 1)
            self._findings.add(self._log.name, where, what)

    def _add(self, position: int, what: str) -> None:
        self._findings.add(self._log.name, f"position {position}", what)
