"""Keeps the view of the questions put to devices, and their answers."""

from collections.abc import Iterable

import msgspec

from firmtrail.database.database import Given, Reader, Row, Statement
from firmtrail.projections import view
from firmtrail.projections.view import Table, columns_of, generation_of
from firmtrail.rules.ask import Question

NAME = "device_asks"
REVISION = 2
TABLE = Table(
    NAME,
    ("device", "question"),
    columns_of("""
        device text, question text, position bigint fixed, asked_at_ms bigint fixed,
        expires_at_ms bigint fixed, answered_position bigint, answered_at_ms bigint, version text,
        place bigint fixed"""),
)
"""Its columns are the members of `Question`, in their order."""
TABLES: tuple[Table, ...] = (TABLE,)

_STATE = view.selected(TABLE.columns, "ask")

_LOAD = f"""\
SELECT {_STATE}
FROM given
CROSS JOIN device_asks AS ask
WHERE ask.log_id = $1
    AND ask.generation = $2
    AND ask.device = given.device
    AND ask.question = given.question"""

_SAVE = view.upsert(TABLE)
_COLUMNS = view.typed(TABLE.columns)

OPEN = f"""\
SELECT ask.question
        FROM device_asks AS ask
        WHERE ask.log_id = given.log_id
            AND ask.generation = {generation_of(NAME, "given.log_id")}
            AND ask.device = given.device
            AND ask.answered_position IS NULL
            AND ask.expires_at_ms > now_ms()
            AND NOT EXISTS (
                SELECT 1
                FROM device_asks AS earlier
                WHERE earlier.log_id = ask.log_id
                    AND earlier.generation = ask.generation
                    AND earlier.device = ask.device
                    AND earlier.answered_position IS NULL
                    AND earlier.expires_at_ms > now_ms()
                    AND earlier.position < ask.position)"""
"""Selects the oldest open question of each device in `given`, without an ORDER BY, for which SQLite
would make a table for each device."""

_LIST = f"""\
SELECT log_heads.size, now_ms(), found.*
FROM log_heads
LEFT JOIN (
    SELECT {_STATE}
    FROM device_asks AS ask
    WHERE ask.log_id = $1
        AND ask.generation = {generation_of(NAME)}
        AND ask.device = $2
        AND ask.position < $3
    ORDER BY ask.position DESC
    LIMIT $4) AS found ON TRUE
WHERE log_heads.log_id = $1
ORDER BY found.position DESC"""

_ONE = f"""\
SELECT log_heads.size, {_STATE}
FROM log_heads
LEFT JOIN device_asks AS ask
    ON ask.log_id = $1
    AND ask.generation = {generation_of(NAME)}
    AND ask.device = $2
    AND ask.question = $3
WHERE log_heads.log_id = $1"""

type Asks = dict[tuple[str, str], Question]
"""Questions by (device, id of the question)."""


def load(log_id: int, generation: int, questions: Iterable[tuple[str, str]]) -> Statement:
    """Reads the questions that were put among these (device, question); `state` decodes them."""
    given = Given("device text, question text", sorted(questions))
    return Statement(_LOAD, (log_id, generation), given)


def state(rows: Iterable[Row]) -> Asks:
    return {(row[0], row[1]): Question(*row) for row in rows}


def save(log_id: int, generation: int, changed: Iterable[Question]) -> Statement:
    rows = sorted(msgspec.structs.astuple(ask) for ask in changed)
    return Statement(_SAVE, (log_id, generation), Given(_COLUMNS, rows))


async def page(
    db: Reader, log_id: int, device: str, *, before: int, limit: int
) -> tuple[int, int, list[Question]]:
    """Returns the log's size, its time in ms, and a device's questions, the newest first."""
    rows = await db.read(Statement(_LIST, (log_id, device, before, limit)))
    return rows[0][0], rows[0][1], [Question(*row[2:]) for row in rows if row[2] is not None]


async def one(db: Reader, log_id: int, key: tuple[str, str]) -> tuple[int, Question | None]:
    """Returns the log's size, and the question of this (device, question), if it was put."""
    [[size, *row]] = await db.read(Statement(_ONE, (log_id, *key)))
    return size, Question(*row) if row[0] is not None else None
