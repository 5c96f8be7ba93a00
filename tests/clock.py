"""Sets the clock of a database, by which events get their times and plans their phases."""

import sqlite3

from firmtrail.database.database import Database, Statement
from firmtrail.database.sqlite import SQLite


async def set_clock(db: Database, now_ms: int) -> None:
    """Stops the clock at a time, for every connection that writes."""
    if isinstance(db, SQLite):
        await db._writer.send(_stop, now_ms)
        return
    text = f"""\
CREATE OR REPLACE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE
AS 'SELECT CAST({int(now_ms)} AS bigint)'"""
    async with db.transaction() as tx:
        await tx.run(Statement(text, ()))


def _stop(connection: sqlite3.Connection, now_ms: int) -> None:
    connection.create_function("now_ms", 0, lambda: now_ms)
