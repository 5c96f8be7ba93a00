"""Reads the rows of events: all columns, with the free text next to each."""

from typing import NamedTuple

from firmtrail.database import stubs
from firmtrail.database.database import Reader, Statement


class StoredEvent(NamedTuple):
    """Holds the row of an event, and the row of its text."""

    position: int
    recorded_at_ms: int
    stream: str
    event_id: str
    entry: str
    salt: str | None
    text: str | None
    """The free text; None: it has none, or it was erased."""


ENTRY = StoredEvent._fields.index("entry")

_PAGE = """\
SELECT
    events.position, events.recorded_at_ms, events.stream, events.event_id, {entry},
    texts.salt, texts.text
FROM events
LEFT JOIN texts ON texts.log_id = events.log_id AND texts.position = events.position
WHERE events.log_id = $1 AND events.position >= $2 AND events.position < $3
ORDER BY events.position
LIMIT $4"""

_AS_STORED = _PAGE.format(entry="events.entry")
_RESTORED = _PAGE.format(entry=stubs.ENTRY)


async def page(
    reader: Reader, log_id: int, start: int, stop: int, *, limit: int
) -> list[StoredEvent]:
    """Returns the first events at start <= position < stop. Positions may be missing."""
    rows = await reader.read(Statement(_RESTORED, (log_id, start, stop, limit), entry=ENTRY))
    return [StoredEvent(*row) for row in rows]


async def page_as_stored(
    reader: Reader, log_id: int, start: int, stop: int, *, limit: int
) -> list[StoredEvent]:
    """Returns the same rows with stubs in place of the entries that were pruned."""
    rows = await reader.read(Statement(_AS_STORED, (log_id, start, stop, limit)))
    return [StoredEvent(*row) for row in rows]
