"""Reads free text, which is stored outside the log so that it can be erased.

`log` writes and erases it. The entry alone says whether there was a text: it keeps the text's
salted hash for ever.
"""

from firmtrail.database import stubs
from firmtrail.database.database import Reader, Statement

_ENTRY_AND_TEXT = f"""\
SELECT {stubs.ENTRY}, texts.text
FROM events
LEFT JOIN texts ON texts.log_id = events.log_id AND texts.position = events.position
WHERE events.log_id = $1 AND events.position = $2"""


async def entry_and_text(db: Reader, log_id: int, position: int) -> tuple[str, str | None]:
    """Returns the entry at a position that the log has, and its free text; None: it has none."""
    statement = Statement(_ENTRY_AND_TEXT, (log_id, position), entry=0)
    [[entry, text]] = await db.read(statement)
    return entry, text
