"""Are two builds of the views the same, row for row? They may lie in two databases, of two back
ends.

Tables are read side by side in the order of their keys, a page at a time: nothing is held but two
pages. Each page is a query of its own, so both logs must be quiet while they are compared.
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
SELECT {key}, stored.*
FROM {table} AS stored
WHERE stored.log_id = $1 AND stored.generation = $2{behind}
ORDER BY {key}
LIMIT $3"""

type RowKey = tuple[Value, ...]
type RowValues = tuple[Value, ...]


class Difference(NamedTuple):
    """A row that two builds of a view don't have in common; None where there is none."""

    table: str
    key: dict[str, Value]
    expected: RowValues | None
    found: RowValues | None


async def differences[A: Reader, B: Reader](
    expected: Views[A], found: Views[B]
) -> AsyncIterator[Difference]:
    """Every row of the views of `expected` that `found` has otherwise, or one of them alone.

    In the order of tables and keys; whoever wants only the first ones stops.
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
    """The next rows behind `after`, in order: key -> the columns behind log_id and generation."""
    columns = len(table.key)
    key = ", ".join(f"stored.{column}" for column in table.key)
    places = ", ".join(f"${n + 4}" for n in range(columns))
    behind = "" if after is None else f" AND ({key}) > ({places})"
    statement = Statement(
        _ROWS.format(key=key, table=table.name, behind=behind),
        (views.log_id, views.generations[view.NAME], PAGE_ROWS, *(after or ())),
    )
    rows = await views.db.read(statement)
    return {tuple(row[:columns]): tuple(row[columns + 2 :]) for row in rows}


def _order(key: RowKey) -> list[tuple[bool, bool, Value]]:
    """As both back ends order rows; SQLite keeps a text among integers, behind them all."""
    return [(value is not None, isinstance(value, str), value) for value in key]
