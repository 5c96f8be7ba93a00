"""Records which generation of a view is live, which is being built, and deletes the dead ones.

The table `views` names the live generation. `rebuilds` has a row for each view that is being built;
all rows of one rebuild of a log have the same generation, position and builder. Every other
generation is dead: a rebuild has replaced it, or was given up before its end. Its rows are deleted.
A rebuild takes a number that no row has, so no generation ever mixes two builds.

Each function is a script that a transaction plays, or a part of one. A builder that begins,
continues or ends a rebuild locks the log's head row, or advances the rows of `rebuilds` from the
position where it left them. So if two builders work at one rebuild, one of them notices.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, override

from firmtrail.database.database import Database, Given, Row, Script, Statement
from firmtrail.eventstore import log
from firmtrail.projections import fold
from firmtrail.projections.view import Table
from firmtrail.rebuilding.refold import MEMORY

DELETED_ROWS = 2_000
"""How many rows one transaction deletes, in some ten milliseconds."""

_LOAD_BUILD = """\
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

_RELEASE = "UPDATE rebuilds SET seen_at_ms = 0 WHERE log_id = $1 AND builder = $2"

_ADVANCE = """\
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

_FIRST_KEPT = """\
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
    """Says that another builder has taken this rebuild over or begun another one; nothing was
    written."""


class Build(NamedTuple):
    """Holds a rebuild under way: the views that it writes include the events before `position`."""

    log_id: int
    generation: int
    position: int
    revisions: Mapping[str, int]
    wanted: frozenset[str]
    """The views that will be live at the end; the fold needs the others meanwhile."""
    builder: str
    idle_ms: int
    """For how long it has not advanced."""

    @property
    def generations(self) -> dict[str, int]:
        return dict.fromkeys(self.revisions, self.generation)

    @property
    def is_of_this_code(self) -> bool:
        """Returns whether this code writes rows of the same revisions."""
        return all(fold.REVISIONS.get(name) == at for name, at in self.revisions.items())

    def includes(self, wanted: frozenset[str]) -> bool:
        """Returns whether these views will be live at the end, in this code's revisions."""
        return self.is_of_this_code and wanted <= self.wanted


class Busy(Exception):
    """Says that another builder is rebuilding views of this log."""

    def __init__(self, build: Build) -> None:
        super().__init__(f"{', '.join(sorted(build.wanted))} is being rebuilt already")
        self.build = build

    @override
    def __reduce__(self) -> tuple[type, tuple[Build]]:
        return Busy, (self.build,)


def load_build(log_id: int) -> Statement:
    """Reads the log's rebuild under way, if there is one; `build_of` decodes it."""
    return Statement(_LOAD_BUILD, (log_id,))


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


def resume(
    log_id: int, wanted: frozenset[str], builder: str, lease_ms: int
) -> Script[Build | None]:
    """Continues the rebuild of these views for this code that has not advanced for `lease_ms`.
    Returns None if there is none. Raises `Busy` if a builder works at any rebuild of the log."""
    yield [log.lock(log_id)]
    [rows] = yield [load_build(log_id)]
    left = build_of(log_id, rows)
    if left and left.builder != builder and left.idle_ms < lease_ms:
        raise Busy(left)
    if left is None or not left.includes(wanted):
        return None
    yield [Statement(_TAKE, (log_id, builder))]
    return left._replace(builder=builder)


def claim(log_id: int, wanted: frozenset[str], builder: str, lease_ms: int) -> Script[Build]:
    """Continues a rebuild as `resume`, or begins one; one of other views or another revision is
    given up. Raises `Busy` if a builder works at one."""
    left = yield from resume(log_id, wanted, builder, lease_ms)
    if left is not None:
        return left
    tables = ("views", *(table.name for view in fold.VIEWS for table in view.TABLES))
    newest = yield [Statement(_NEWEST.format(table=name), (log_id,)) for name in tables]
    generation = 1 + max(int(row[0]) for [row] in newest)
    names = wanted | MEMORY
    views = [(name, fold.REVISIONS[name], int(name in wanted)) for name in sorted(names)]
    given = Given("name text, revision bigint, is_wanted bigint", views)
    yield [Statement(_FORGET, (log_id,)), Statement(_BEGIN, (log_id, generation, builder), given)]
    [rows] = yield [load_build(log_id)]
    begun = build_of(log_id, rows)
    assert begun is not None
    return begun


def claim_differing(
    log_id: int, wanted: frozenset[str], builder: str, lease_ms: int
) -> Script[Build | None]:
    """Claims a rebuild as `claim`. Returns None if all these views are live in this code's
    revisions by now."""
    yield [log.lock(log_id)]
    [rows] = yield [fold.live(log_id)]
    live = {name: revision for name, revision, _ in rows}
    if all(live.get(name) == fold.REVISIONS[name] for name in wanted):
        return None
    return (yield from claim(log_id, wanted, builder, lease_ms))


def claim_older(
    log_id: int, wanted: frozenset[str], builder: str, lease_ms: int
) -> Script[Build | None]:
    """Claims a rebuild as `claim_differing`. Returns None also if a view of the log is live in a
    newer revision by now."""
    yield [log.lock(log_id)]
    [rows] = yield [fold.live(log_id)]
    if any(revision > fold.REVISIONS.get(name, revision) for name, revision, _ in rows):
        return None
    return (yield from claim_differing(log_id, wanted, builder, lease_ms))


def advance(build: Build, batch: range) -> Script[None]:
    """Moves the rebuild's position past a batch that the transaction writes. Raises `Overtaken`."""
    key = (build.log_id, build.generation, build.builder)
    [moved] = yield [Statement(_ADVANCE, (*key, batch.start, batch.stop))]
    if len(moved) != len(build.revisions):
        raise Overtaken("Another process continues this rebuild.")


def release(build: Build) -> Script[None]:
    """Lets any builder claim the rebuild from now on."""
    yield [Statement(_RELEASE, (build.log_id, build.builder))]


def switch(log_id: int) -> list[Statement]:
    """Returns the statements that make the wanted views live and end the rebuild. The caller has
    locked the log's head."""
    return [Statement(_SWITCH, (log_id,)), Statement(_FORGET, (log_id,))]


async def delete_dead(db: Database, log_id: int) -> None:
    """Deletes the rows of the log's dead generations, in short transactions."""
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
    """Deletes the first rows of a dead generation; returns whether there may be more.

    The statement that deletes checks itself that the generation is dead: once another process has
    deleted the last of its rows, its number can be taken again. A snapshot never shows rows of the
    new owner without its row in `rebuilds` or `views`.
    """
    key = ", ".join(table.key)
    text = _FIRST_KEPT.format(key=key, table=table.name)
    [kept] = yield [Statement(text, (log_id, generation, DELETED_ROWS))]
    places = ", ".join(f"${n + 4}" for n in range(len(table.key)))
    before = f" AND ({key}) < ({places})" if kept else ""
    args = (log_id, generation, view, *(kept[0] if kept else ()))
    [deleted] = yield [Statement(_DELETE_DEAD.format(table=table.name, before=before), args)]
    return bool(kept and deleted)
