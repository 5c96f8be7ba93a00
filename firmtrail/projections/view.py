"""Declares what a view is: its tables with their columns, and the SQL that follows from them.

The fold, rebuilds, comparison and deletion of dead rows all read these declarations. A view that
names a column here writes it, selects it and decodes it; a test compares the declarations with the
migrated tables.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from firmtrail.database.database import Row, Value


class Column(NamedTuple):
    """Declares a column: its type in SQL, and how a value is stored in it and loaded again."""

    sql: str
    store: Callable[[Any], Value] | None = None
    """None: the value is stored as it is."""
    load: Callable[[Any], Any] | None = None
    is_fixed: bool = False
    """Whether a row keeps the value that it was inserted with."""


def _tags_text(tags: Sequence[str]) -> str:
    """Returns tags as they are stored: "|a|b|", so that SQL finds one as "|a|" without an index."""
    return f"|{'|'.join(tags)}|" if tags else ""


def _tags_of(text: str) -> tuple[str, ...]:
    return tuple(text.strip("|").split("|")) if text else ()


def _list_text(texts: Sequence[str]) -> str | None:
    """Returns texts of others as they are stored: as JSON, because they contain any character."""
    return msgspec.json.encode(texts).decode() if texts else None


def _list_of(text: str | None) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...]) if text else ()


def _ordinals_text(ordinals: Sequence[int]) -> str:
    return ",".join(map(str, ordinals))


def _ordinals_of(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()


_TYPES = {
    "text": Column("text"),
    "bigint": Column("bigint"),
    "flag": Column("bigint", int, bool),
    "tags": Column("text", _tags_text, _tags_of),
    "list": Column("text", _list_text, _list_of),
    "ordinals": Column("text", _ordinals_text, _ordinals_of),
}

type TableColumns = dict[str, Column]


def columns_of(declaration: str) -> TableColumns:
    """Returns the columns that a text like "device text, seq bigint fixed" declares. Types are
    text, bigint, flag (a bool, stored as 0 or 1), tags, list and ordinals (each stored as one
    text)."""
    words = (column.split() for column in declaration.split(","))
    return {name: _TYPES[kind]._replace(is_fixed=bool(fixed)) for name, kind, *fixed in words}


class Table(NamedTuple):
    """Declares a table of a view. Its columns are log_id, generation, and those named here."""

    name: str
    key: tuple[str, ...]
    """The columns that identify a row in one generation: the primary key continues with them."""
    columns: TableColumns


class View(Protocol):
    """Describes a module of `projections` that is a view. Its functions are its own."""

    NAME: str
    REVISION: int
    """The form of its rows. Raise it when the fold writes other rows from the same events; a new
    column that stays empty for all recorded events needs no new revision."""
    TABLES: tuple[Table, ...]


def insert(table: Table) -> str:
    """Returns the SQL that inserts the rows of `given`; its arguments are log_id, generation."""
    return f"""\
INSERT INTO {table.name} (
    log_id, generation, {", ".join(table.columns)})
SELECT
    $1, $2, {selected(table.columns, "given")}
FROM given
WHERE TRUE"""


def upsert(table: Table) -> str:
    """Returns the SQL that inserts the rows of `given`, or updates those whose key exists."""
    changing = [
        name
        for name, column in table.columns.items()
        if name not in table.key and not column.is_fixed
    ]
    return f"""\
{insert(table)}
ON CONFLICT (log_id, generation, {", ".join(table.key)}) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in changing)}"""


def selected(columns: Iterable[str], alias: str) -> str:
    """Returns the columns as a SELECT lists them."""
    return ", ".join(f"{alias}.{name}" for name in columns)


def typed(columns: TableColumns) -> str:
    """Returns the columns as `Given` names and types them."""
    return ", ".join(f"{name} {column.sql}" for name, column in columns.items())


def listed(values: Iterable[str]) -> str:
    """Returns the values of this code, such as statuses, as the list after SQL's IN."""
    return f"({', '.join(f"'{value}'" for value in values)})"


def encoder[State](
    columns: TableColumns, read: Callable[[State], Iterable[Any]]
) -> Callable[[State], list[Value]]:
    """Returns a function that makes a row of a state; `read` gets its members, as the columns are
    ordered."""
    stores = [(n, column.store) for n, column in enumerate(columns.values()) if column.store]

    def encode(state: State) -> list[Value]:
        row = [*read(state)]
        for n, store in stores:
            row[n] = store(row[n])
        return row

    return encode


def decoder[State](columns: TableColumns, make: Callable[..., State]) -> Callable[[Row], State]:
    """Returns a function that calls `make` with the values of a row of these columns, in order."""
    loads = [(n, column.load) for n, column in enumerate(columns.values()) if column.load]

    def decode(row: Row) -> State:
        values = [*row]
        for n, load in loads:
            values[n] = load(values[n])
        return make(*values)

    return decode


def generation_of(view: str, log_id: str = "$1") -> str:
    """Returns the SQL of a view's live generation, as a scalar subquery: PostgreSQL before 18 may
    join `views` last, and then walks a log's whole index for each row that it wants."""
    return f"(SELECT generation FROM views WHERE log_id = {log_id} AND name = '{view}')"
