"""Names entries whose texts are in the archive, and puts the texts back where they are read.

A *stub* stands in `events` for the text of an entry that was pruned. It says where the entry is,
and has its hash: so a text that comes from an archive is the one that was recorded, or is refused.
A statement says which of its columns has entries (`Statement.entry`), which it selects by `ENTRY`,
and the database calls `restored`, so a caller receives texts and never a stub. A stub that names
another place than its row's is refused: it would show an entry of another log. Scripts, and
statements that don't say so, receive stubs; a script may not wait for an archive.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256

from firmtrail.database.database import Row, Statement, Unavailable
from firmtrail.database.entry_archive import EntryArchive, Stub

RETRY_AFTER_S = 10

_STUB = re.compile(r"#([0-9]{1,18})/([0-9]{1,18})/([0-9a-f]{64})")
"""Numbers of 19 digits may be too large for a database, and no log is so long."""


ENTRY = """\
CASE
    WHEN events.entry >= '$'
        OR events.entry LIKE '#' || events.log_id || '/' || events.position || '/%'
    THEN events.entry
END AS entry"""
"""Selects the entry of a row of `events`; NULL for a stub of another place. A text begins with a
brace, so it is not below a dollar sign."""


class EntriesAway(Unavailable):
    """An entry is only in the archive, and the archive can't give it now."""

    def __init__(self, reason: str, retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__(reason, retry_after_s)


class NoArchive(EntriesAway):
    """An entry is only in the archive, and this process was given no archive."""

    def __init__(self) -> None:
        super().__init__(
            "The text of this entry was pruned from the database and is in the archive, which this "
            "process was not given. Name the archive with --archive."
        )


class MisplacedStub(EntriesAway):
    """A stub stands where another entry was recorded: somebody changed the database."""

    def __init__(self) -> None:
        super().__init__(
            "The database does not say which entry was pruned here: its stub names another place. "
            "Run `firmtrail audit verify`, which names the position."
        )


def parse(entry: str) -> Stub | None:
    """Returns the stub; None for the text of an entry, which is JSON and begins with a brace."""
    if not entry.startswith("#") or (found := _STUB.fullmatch(entry)) is None:
        return None
    return Stub(int(found[1]), int(found[2]), found[3])


def of(log_id: int, position: int, entry: str) -> Stub:
    """Returns the stub that stands for this text."""
    return Stub(log_id, position, leaf_hash(entry))


def leaf_hash(entry: str) -> str:
    """Returns the hash of a text as a stub has it."""
    return sha256(b"\x00" + entry.encode()).hexdigest()


def is_of(stub: Stub, text: str | None) -> bool:
    """Returns whether this is the text that the stub stands for."""
    return text is not None and leaf_hash(text) == stub.leaf_hash


async def texts(archive: EntryArchive | None, stubs: Sequence[Stub]) -> Mapping[Stub, str]:
    """Returns the texts of all these entries, each of which has the hash of its stub. Raises
    `EntriesAway`."""
    if archive is None:
        raise NoArchive
    found = await archive.found(stubs)
    for stub in stubs:
        if not is_of(stub, found.get(stub)):
            raise EntriesAway(
                f"The archive does not hold the entry at position {stub.position} of the log with "
                f"the id {stub.log_id} as it was pruned. Run `firmtrail audit verify`, and bring "
                "the archive's file back."
            )
    return found


async def all_restored(
    found: Sequence[list[Row]], statements: Sequence[Statement], archive: EntryArchive | None
) -> list[list[Row]]:
    """Returns the rows of each statement as `restored` does."""
    return [
        await restored(rows, statement, archive)
        for rows, statement in zip(found, statements, strict=True)
    ]


async def restored(
    rows: list[Row], statement: Statement, archive: EntryArchive | None
) -> list[Row]:
    """Returns the rows of a statement with the texts of entries in place of their stubs. Raises
    `EntriesAway`."""
    column = statement.entry
    if column is None:
        return rows
    if any(row[column] is None for row in rows):
        raise MisplacedStub
    stubs = [parse(row[column]) for row in rows]
    wanted = [stub for stub in stubs if stub is not None]
    if not wanted:
        return rows
    found = await texts(archive, wanted)
    return [
        row if stub is None else [*row[:column], found[stub], *row[column + 1 :]]
        for row, stub in zip(rows, stubs, strict=True)
    ]
