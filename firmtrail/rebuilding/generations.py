"""Which generation of a view is live, which is being built, and which is dead?

`views` says which is live. `rebuilds` has a row for each view that is being built, all of one
rebuild of a log with one generation, position and builder. Every other generation is dead: what a
rebuild left that was switched or given up, and its rows are deleted. A number is taken that no row
has, so no generation is ever made of two builds.

Each function is a script, or a part of one, that a transaction plays. Whoever begins, goes on or
ends a rebuild holds the log's head row or moves the rows of `rebuilds` from where it left them, so
of two builders one finds out that it is not alone.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, override

from firmtrail.database.database import Database, Given, Row, Script, Statement
from firmtrail.eventstore import log
from firmtrail.projections import fold
from firmtrail.projections.view import Table
from firmtrail.rebuilding.refold import MEMORY

DELETED_ROWS = 2_000
"""In one transaction: some ten milliseconds."""

_BUILDING = """\
SELECT
    rebuilds.name, rebuilds.revision, rebuilds.generation, rebuilds.position, rebuilds.is_wanted,
    rebuilds.builder, rebuilds.seen_at_ms, now_ms()
FROM rebuilds
WHERE rebuilds.log_id = $1
ORDER BY rebuilds.name
LIMIT 100"""

_NEWEST = "SELECT coalesce(max(generation), 0) FROM {table} WHERE log_id = $1"

_FORGET = "DELETE FROM rebuilds WHERE log_id = $1"

_BEGIN = """\
INSERT INTO rebuilds (
    log_id, name, revision, generation, position, is_wanted, builder, seen_at_ms)
SELECT
    $1, given.name, given.revision, $2,
    coalesce((SELECT min(continued.start) FROM continued WHERE continued.log_id = $1), 0),
    given.is_wanted, $3, now_ms()
FROM given
WHERE TRUE"""

_TAKE = "UPDATE rebuilds SET builder = $2, seen_at_ms = now_ms() WHERE log_id = $1"

_MOVE = """\
UPDATE rebuilds
SET position = $5, seen_at_ms = now_ms()
WHERE log_id = $1 AND generation = $2 AND builder = $3 AND position = $4
RETURNING name"""

_SWITCH = """\
INSERT INTO views (log_id, name, revision, generation, position)
SELECT log_id, name, revision, generation, position
FROM rebuilds
WHERE log_id = $1 AND is_wanted = 1
ON CONFLICT (log_id, name) DO UPDATE SET
    revision = excluded.revision,
    generation = excluded.generation,
    position = excluded.position"""

_NEXT_GENERATION = "SELECT min(generation) FROM {table} WHERE log_id = $1 AND generation > $2"

_USED = """\
SELECT generation FROM views WHERE log_id = $1 AND name = $2
UNION ALL
SELECT generation FROM rebuilds WHERE log_id = $1 AND name = $2
LIMIT 100"""

_ROW_BEHIND = """\
SELECT {key}
FROM {table}
WHERE log_id = $1 AND generation = $2
ORDER BY {key}
LIMIT 1
OFFSET $3"""

_DELETE_DEAD = """\
DELETE FROM {table}
WHERE log_id = $1
    AND generation = $2
    AND NOT EXISTS (
        SELECT 1 FROM views WHERE log_id = $1 AND name = $3 AND generation = $2)
    AND NOT EXISTS (
        SELECT 1 FROM rebuilds WHERE log_id = $1 AND name = $3 AND generation = $2){before}
RETURNING log_id"""


class Overtaken(Exception):
    """Another builder has taken this rebuild over, or began it anew; nothing was written."""


class Build(NamedTuple):
    """A rebuild under way: the views that it writes hold the events before `position`."""

    log_id: int
    generation: int
    position: int
    revisions: Mapping[str, int]
    wanted: frozenset[str]
    """What will be live at the end; the others serve the fold meanwhile."""
    builder: str
    idle_ms: int
    """For how long it has not moved."""

    @property
    def generations(self) -> dict[str, int]:
        return dict.fromkeys(self.revisions, self.generation)

    @property
    def is_of_this_code(self) -> bool:
        """Whether this code folds into such rows."""
        return all(fold.REVISIONS.get(name) == at for name, at in self.revisions.items())


class Busy(Exception):
    """Another builder is at work on this log."""

    def __init__(self, build: Build) -> None:
        super().__init__(f"{', '.join(sorted(build.wanted))} is being rebuilt already")
        self.build = build

    @override
    def __reduce__(self) -> tuple[type, tuple[Build]]:
        return Busy, (self.build,)


def load_build(log_id: int) -> Statement:
    """The log's rebuild under way, if there is one; read it with `build_of`."""
    return Statement(_BUILDING, (log_id,))


def build_of(log_id: int, rows: Sequence[Row]) -> Build | None:
    if not rows:
        return None
    _, _, generation, position, _, builder, seen_at_ms, now_ms = rows[0]
    return Build(
        log_id,
        generation,
        position,
        {name: revision for name, revision, *_ in rows},
        frozenset(name for name, _, _, _, is_wanted, *_ in rows if is_wanted),
        builder,
        now_ms - seen_at_ms,
    )


def claim(log_id: int, wanted: frozenset[str], builder: str, lease_ms: int) -> Script[Build]:
    """Go on with a rebuild of these views that its builder left, else begin one.

    One is left when it has not moved for `lease_ms`. What was left half-done for other views or in
    another revision is given up. Raises `Busy` where the builder is another and at work.
    """
    yield [log.lock(log_id)]
    [rows] = yield [load_build(log_id)]
    left = build_of(log_id, rows)
    if left and left.builder != builder and left.idle_ms < lease_ms:
        raise Busy(left)
    if left and left.is_of_this_code and wanted <= left.wanted:
        yield [Statement(_TAKE, (log_id, builder))]
        return left._replace(builder=builder)
    tables = ("views", *(table.name for view in fold.VIEWS for table in view.TABLES))
    newest = yield [Statement(_NEWEST.format(table=name), (log_id,)) for name in tables]
    generation = 1 + max(int(row[0]) for [row] in newest)
    names = wanted | MEMORY
    views = [(name, fold.REVISIONS[name], int(name in wanted)) for name in sorted(names)]
    given = Given("name text, revision bigint, is_wanted bigint", views)
    yield [
        Statement(_FORGET, (log_id,)),
        Statement(_BEGIN, (log_id, generation, builder), given),
    ]
    [rows] = yield [load_build(log_id)]
    begun = build_of(log_id, rows)
    assert begun is not None
    return begun


def advance(build: Build, batch: range) -> Script[None]:
    """Moves the rebuild past a batch that the transaction writes. Raises `Overtaken`."""
    key = (build.log_id, build.generation, build.builder)
    [moved] = yield [Statement(_MOVE, (*key, batch.start, batch.stop))]
    if len(moved) != len(build.revisions):
        raise Overtaken


def switch(log_id: int) -> list[Statement]:
    """Makes what was wanted live, and ends the rebuild; its head is held."""
    return [Statement(_SWITCH, (log_id,)), Statement(_FORGET, (log_id,))]


async def delete_dead(db: Database, log_id: int) -> None:
    """Delete the rows of the log's dead generations, in short transactions."""
    for view in fold.VIEWS:
        used = [row[0] for row in await db.read(Statement(_USED, (log_id, view.NAME)))]
        for table in view.TABLES:
            generation = await _next_generation(db, log_id, table, 0)
            while generation is not None:
                is_more = generation not in used
                while is_more:
                    is_more = await db.play(_delete_some, log_id, view.NAME, table, generation)
                generation = await _next_generation(db, log_id, table, generation)


async def _next_generation(db: Database, log_id: int, table: Table, after: int) -> int | None:
    text = _NEXT_GENERATION.format(table=table.name)
    [[generation]] = await db.read(Statement(text, (log_id, after)))
    return None if generation is None else int(generation)


def _delete_some(log_id: int, view: str, table: Table, generation: int) -> Script[bool]:
    """Deletes the first rows of a dead generation; whether there may be more.

    The statement that deletes looks by itself whether the generation is dead: once another process
    has deleted the last of its rows, its number can be taken again, and no snapshot holds rows of
    the new owner without its row in `rebuilds` or `views`.
    """
    key = ", ".join(table.key)
    text = _ROW_BEHIND.format(key=key, table=table.name)
    [behind] = yield [Statement(text, (log_id, generation, DELETED_ROWS))]
    places = ", ".join(f"${n + 4}" for n in range(len(table.key)))
    before = f" AND ({key}) < ({places})" if behind else ""
    args = (log_id, generation, view, *(behind[0] if behind else ()))
    [deleted] = yield [Statement(_DELETE_DEAD.format(table=table.name, before=before), args)]
    return bool(behind and deleted)
