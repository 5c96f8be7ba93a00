"""Which free text lies beside an event? Reads it; `log` writes and erases it.

The entry alone says whether there was a text: it has the salted hash of it for ever.
"""

from firmtrail.database.database import Reader, Statement

_BESIDE = """\
SELECT events.entry, texts.text
FROM events
LEFT JOIN texts ON texts.log_id = events.log_id AND texts.position = events.position
WHERE events.log_id = $1 AND events.position = $2"""


async def beside(db: Reader, log_id: int, position: int) -> tuple[str, str | None]:
    """The entry at a position that the log has, and the text beside it, if there is one still."""
    [[entry, text]] = await db.read(Statement(_BESIDE, (log_id, position)))
    return entry, text
