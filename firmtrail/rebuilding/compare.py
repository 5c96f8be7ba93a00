"""Compares two builds of the views row by row, in one database or in two, of any back ends.

Both builds of a table are read in the order of its key, one page at a time, so no more than two
pages are in memory. Each page is a query of its own, so both logs must be quiet while they are
compared. The columns of this version are compared: a database may have those of a newer one too.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from firmtrail.database.database import Reader, Statement, Value
from firmtrail.projections import fold
from firmtrail.projections.view import Table, View
from firmtrail.rebuilding.refold import Views

PAGE_ROWS = 1_000

_ROWS = """\
SELECT {key}, {columns}
FROM {table} AS stored
WHERE stored.log_id = $1 AND stored.generation = $2{after}
ORDER BY {key}
LIMIT $3"""

type RowKey = tuple[Value, ...]
type RowValues = tuple[Value, ...]


class Difference(NamedTuple):
    """Holds a row that differs between two builds of a view; None: that build does not have it."""

    table: str
    key: dict[str, Value]
    expected: RowValues | None
    found: RowValues | None


async def differences[A: Reader, B: Reader](
    expected: Views[A], found: Views[B]
) -> AsyncIterator[Difference]:
    """Yields each row that differs between the views of `expected` and the same views of `found`,
    or that only one of them has, in the order of tables and keys.
    """
    for view in fold.VIEWS:
        if view.NAME in expected.generations:
            for table in view.TABLES:
                async for difference in _of_table(view, table, expected, found):
                    yield difference


async def _of_table[A: Reader, B: Reader](
    view: View, table: Table, expected: Views[A], found: Views[B]
) -> AsyncIterator[Difference]:
    after: RowKey | None = None
    while True:
        left, right = await asyncio.gather(
            _page(view, table, expected, after), _page(view, table, found, after)
        )
        ends = [max(page, key=_order) for page in (left, right) if len(page) == PAGE_ROWS]
        after = min(ends, key=_order, default=None)
        if left != right:
            keys = sorted(left.keys() | right.keys(), key=_order)
            for key in (key for key in keys if after is None or _order(key) <= _order(after)):
                if left.get(key) != right.get(key):
                    named = dict(zip(table.key, key, strict=True))
                    yield Difference(table.name, named, left.get(key), right.get(key))
        if after is None:
            return


async def _page[Source: Reader](
    view: View, table: Table, views: Views[Source], after: RowKey | None
) -> dict[RowKey, RowValues]:
    """Returns the next rows after the key `after`, in order: key -> the columns that this version
    knows."""
    width = len(table.key)
    columns = ", ".join(f"stored.{column}" for column in table.columns)
    key = ", ".join(f"stored.{column}" for column in table.key)
    places = ", ".join(f"${n + 4}" for n in range(width))
    condition = "" if after is None else f" AND ({key}) > ({places})"
    statement = Statement(
        _ROWS.format(key=key, columns=columns, table=table.name, after=condition),
        (views.log_id, views.generations[view.NAME], PAGE_ROWS, *(after or ())),
    )
    rows = await views.db.read(statement)
    return {tuple(row[:width]): tuple(row[width:]) for row in rows}


def _order(key: RowKey) -> list[tuple[bool, bool, Value]]:
    """Returns a sort key that orders rows as both back ends do. SQLite may keep a text in a column
    of integers, and sorts it after them all."""
    return [(value is not None, isinstance(value, str), value) for value in key]
