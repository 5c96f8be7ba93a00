"""Makes one random change to a database that no code of the product makes; a seed determines it.

It changes any column of any row of the log, its tree, heads, checkpoints and views; deletes,
duplicates or exchanges rows; cuts off a tail, with the head moved or not; rewrites an entry with
its whole tree. The back end's test restores an older state of the whole database: a file or a
template.
"""

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import NamedTuple

from firmtrail.events.entry import decode
from firmtrail.eventstore import merkle
from firmtrail.projections import fold

VIEW_TABLES = [table.name for view in fold.VIEWS for table in view.TABLES]
LOG_TABLES = ["events", "texts", "log_heads", "subtrees", "checkpoints", "continued", "views"]
TABLES = [*LOG_TABLES, *VIEW_TABLES]

type Row = dict[str, int | str | None]


class Tables(NamedTuple):
    """Reads and changes the copy of a back end's test, by plain SQL with ? for arguments."""

    rows: Callable[[str], Awaitable[list[Row]]]
    run: Callable[[str, Sequence[int | str | None]], Awaitable[None]]
    takes_anything: bool
    """True for SQLite, which stores a text even in a column of integers."""
    has_identities: bool
    """True for PostgreSQL: on SQLite, `identities` is another name of `events`."""

    @property
    def names(self) -> list[str]:
        return [*TABLES, *["identities"] * self.has_identities]


async def mutate(tables: Tables, random: Random) -> str:
    """Makes one change, and returns a description of it."""
    return await random.choice([_column] * 11 + KINDS)(tables, random)


def _where(row: Row) -> tuple[str, list[int | str | None]]:
    terms = [f"{name} IS NULL" if value is None else f"{name} = ?" for name, value in row.items()]
    return " AND ".join(terms), [value for value in row.values() if value is not None]


async def _pick(tables: Tables, random: Random, names: Sequence[str]) -> tuple[str, Row]:
    table = random.choice(names)
    return table, random.choice(await tables.rows(table))


async def _column(tables: Tables, random: Random) -> str:
    table, row = await _pick(tables, random, tables.names)
    column = random.choice(list(row))
    value = _other(random, row[column], [other[column] for other in await tables.rows(table)])
    if random.random() < 0.15 and row[column] is not None:
        value = None
    elif random.random() < 0.15 and tables.takes_anything:
        odd: tuple[int | str, ...] = ("", "x", "-", -1, 1 << 62)
        value = random.choice([each for each in odd if each != row[column]])
    keys, args = _where(row)
    await tables.run(f"UPDATE {table} SET {column} = ? WHERE {keys}", [value, *args])
    return f"{table}.{column} of {row}: {value!r}"


def _other(
    random: Random, value: int | str | None, others: Sequence[int | str | None]
) -> int | str | None:
    """Returns another value of the column's type."""
    different = [other for other in others if other != value and other is not None]
    if different and random.random() < 0.5:
        return random.choice(different)
    if isinstance(value, int) or (value is None and different and isinstance(different[0], int)):
        return (value or 0) + random.choice((-1, 1, 1000)) if isinstance(value, int) else 7
    text = str(value or "")
    at = random.randrange(len(text) + 1)
    return random.choice(
        (text[:at] + "z" + text[at:], text[:at] + "z" + text[at + 1 :], text + "0")
    )


async def _delete(tables: Tables, random: Random) -> str:
    """Deletes a row of any table but `checkpoints`, where an audit can't miss a row before a later
    one."""
    table, row = await _pick(
        tables, random, [name for name in tables.names if name != "checkpoints"]
    )
    keys, args = _where(row)
    await tables.run(f"DELETE FROM {table} WHERE {keys}", args)
    return f"deleted from {table}: {row}"


async def _double(tables: Tables, random: Random) -> str:
    """Duplicates a row of a view under another key."""
    table, row = await _pick(tables, random, VIEW_TABLES)
    name = next((each for each in ("device", "model", "rollout") if each in row), "position")
    copied = row | {name: 1 << 40 if name == "position" else f"{row[name]}x"}
    marks = ", ".join("?" * len(copied))
    await tables.run(
        f"INSERT INTO {table} ({', '.join(copied)}) VALUES ({marks})", list(copied.values())
    )
    return f"doubled in {table}: {copied}"


async def _exchange(tables: Tables, random: Random) -> str:
    """Exchanges the positions of two events, or of two rows of texts."""
    table = random.choice(("events", "texts"))
    one, other = random.sample(await tables.rows(table), 2)
    spare = -(1 << 40)
    for row, place in ((one, {"log_id": spare}), (other, one), ({**one, "log_id": spare}, other)):
        at = ["log_id", "position"] if "position" in place else ["log_id"]
        keys = "log_id = ? AND position = ?"
        await tables.run(
            f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in at)} WHERE {keys}",
            [*(place[name] for name in at), row["log_id"], row["position"]],
        )
    return f"exchanged in {table}: {one} and {other}"


async def _tail(tables: Tables, random: Random) -> tuple[Row, int]:
    head = random.choice(await tables.rows("log_heads"))
    size = head["size"]
    assert isinstance(size, int)
    return head, size - random.randint(9, 20)  # the last 9 events of log 2 are not published


async def _cut(tables: Tables, random: Random) -> str:
    head, size = await _tail(tables, random)
    for table in ("events", "texts"):
        await tables.run(
            f"DELETE FROM {table} WHERE log_id = ? AND position >= ?", [head["log_id"], size]
        )
    return f"cut log {head['log_id']} at {size}"


async def _cut_with_head(tables: Tables, random: Random) -> str:
    """Brings the whole log back to a smaller size, but not what was published."""
    head, size = await _tail(tables, random)
    await _cut_at(tables, head["log_id"], size)
    await _rehash(tables, head["log_id"])
    return f"cut log {head['log_id']} at {size}, with its head and tree"


async def _cut_at(tables: Tables, log_id: object, size: int) -> None:
    assert isinstance(log_id, int)
    for table in ("events", "texts"):
        await tables.run(f"DELETE FROM {table} WHERE log_id = ? AND position >= ?", [log_id, size])
    if tables.has_identities:
        of_tail = "log_id = ? AND position >= ?"
        await tables.run(f"DELETE FROM identities WHERE {of_tail}", [log_id, size])
    await tables.run("DELETE FROM checkpoints WHERE log_id = ? AND size > ?", [log_id, size])


async def _rewrite(tables: Tables, random: Random) -> str:
    """Rewrites an entry, and makes tree, head and columns agree with it."""
    row = random.choice(
        [row for row in await tables.rows("events") if "1.1.0" in str(row["entry"])]
    )
    entry = str(row["entry"]).replace("1.1.0", "1.1.9")
    await tables.run(
        "UPDATE events SET entry = ? WHERE log_id = ? AND position = ?",
        [entry, row["log_id"], row["position"]],
    )
    await _rehash(tables, row["log_id"])
    return f"rewrote the entry of {row}, with head and tree"


async def _rehash(tables: Tables, log_id: object) -> None:
    """Computes head and tree again from the entries that are there."""
    assert isinstance(log_id, int)
    rows = [row for row in await tables.rows("events") if row["log_id"] == log_id]
    entries = [str(row["entry"]) for row in sorted(rows, key=lambda row: row["position"])]  # type: ignore[arg-type,return-value]
    decoded = [decode(position, entry) for position, entry in enumerate(entries)]
    frontier, completed = merkle.extend((), 0, [merkle.leaf_hash(e.encode()) for e in entries])
    await tables.run("DELETE FROM subtrees WHERE log_id = ?", [log_id])
    for level, number, node in completed:
        await tables.run(
            "INSERT INTO subtrees VALUES (?, ?, ?, ?)", [log_id, level, number, node.hex()]
        )
    await tables.run(
        "UPDATE log_heads SET size = ?, frontier = ?, recorded_at_ms = ?, control_count = ? "
        "WHERE log_id = ?",
        [
            len(entries),
            merkle.to_text(frontier),
            decoded[-1].recorded_at_ms,
            sum(each.event.IS_CONTROL for each in decoded),
            log_id,
        ],
    )


KINDS = [_column, _delete, _double, _exchange, _cut, _cut_with_head, _rewrite]
"""The changes that `mutate` chooses from; it chooses `_column` most often."""
