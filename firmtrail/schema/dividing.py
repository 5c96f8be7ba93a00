"""Divides `events` of a PostgreSQL into partitions, and adds partitions ahead of the logs.

The last partition has no upper bound. To add one, the last gets a bound that no log reaches soon,
and a new one without a bound comes after it. The whole table becomes the first partition in the
same way. The bound is a constraint first, which is checked while servers write; then the locks are
short, as PostgreSQL needs not look at the rows. A run after a kill continues.

Triggers, privileges and the table's statistics are those that `events` has at that time. A
statement fires the statement triggers of the table that it names and no others, so each partition
has them too.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.schema.migrations import steps
from firmtrail.schema.partitions import BOUND

RANGE_POSITIONS = 100_000_000

COMPATIBLE_FROM = "0015"
"""Older code looks identities up in `events`, which has no index of them once it is divided."""

_IS_DIVIDED = text("SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass('events')")

_LARGEST = text("""\
SELECT project, number, size, (
    SELECT coalesce(max(subtrees.number) + 1, 0)
    FROM subtrees
    WHERE subtrees.log_id = log_heads.log_id AND subtrees.level = 1)
FROM log_heads
ORDER BY size DESC
LIMIT 1""")
"""The largest log, and how many full tiles its tree has. The role that serves may write any size
into a head, but `subtrees` takes only the next row of a level."""

_OUTSIDE = """\
SELECT log_heads.project, log_heads.number, outside.log_id, outside.position
FROM (
    SELECT log_id, position
    FROM {table}
    WHERE NOT ({condition})
    ORDER BY position
    LIMIT 1) AS outside
LEFT JOIN log_heads ON log_heads.log_id = outside.log_id"""

_LAST = text("SELECT name, start FROM event_partitions WHERE stop IS NULL")

_NAMES = text("SELECT name FROM event_partitions ORDER BY name")

_TRIGGERS = text("""\
SELECT tgname, pg_get_triggerdef(oid), CAST(tgtype AS int) & 1 = 1
FROM pg_trigger
WHERE tgrelid = to_regclass('events') AND NOT tgisinternal
ORDER BY tgname""")

_UNIQUE = text("""\
SELECT conname
FROM pg_constraint
WHERE conrelid = to_regclass('events') AND contype = 'u'
ORDER BY conname""")

_PRIVILEGES = text("""\
SELECT privilege_type, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(rolname) END
FROM pg_class
CROSS JOIN aclexplode(relacl)
LEFT JOIN pg_roles ON pg_roles.oid = grantee
WHERE pg_class.oid = to_regclass('events') AND grantee <> relowner
ORDER BY 2, 1""")

_VIEWS = text("""\
SELECT DISTINCT CAST(ev_class AS regclass)::text, pg_get_viewdef(ev_class)
FROM pg_depend
JOIN pg_rewrite ON pg_rewrite.oid = objid
WHERE classid = CAST('pg_rewrite' AS regclass) AND refobjid = to_regclass('events')
ORDER BY 1""")

_VACUUMED = """\
autovacuum_vacuum_insert_scale_factor = 0,
autovacuum_vacuum_insert_threshold = 100000,
autovacuum_freeze_min_age = 0"""
"""As 0010_large.postgresql.sql sets it."""


class MisplacedEvents(Exception):
    """A head or an event is where no log has come. Only a role that may append can do that. Nothing
    was divided, and no constraint is left: `events` takes appends as before."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} Somebody changed the database. No partition was added. Run `firmtrail audit "
            'verify`, correct that place as docs/checkpoints.md says ("Rows ahead of the head"), '
            "and run this command again."
        )


class Division(NamedTuple):
    """Says how `migrate` divides `events`."""

    is_wanted: bool = False
    """Divides a table that an older version made; that of a new database always is."""
    positions: int = RANGE_POSITIONS
    """How many positions of each log a new partition holds."""


class _Trigger(NamedTuple):
    """Describes a trigger of `events`."""

    name: str
    definition: str
    is_for_rows: bool
    """PostgreSQL gives such a trigger to all partitions, and keeps it the same."""

    def on(self, table: str) -> str:
        """Returns the statement that makes the same trigger on another table."""
        before, on, after = self.definition.partition(" ON ")
        return f"{before}{on}{table}{after[after.index(' ') :]}"


def is_divided(connection: Connection) -> bool:
    return bool(connection.scalar(_IS_DIVIDED))


def divide(connection: Connection, positions: int) -> None:
    """Makes the table `events` the first partition of a new table of this name.

    Commits in between. Afterwards, code before `COMPATIBLE_FROM` can't use the database.
    """
    stop = _next_bound(connection, 0, positions)
    _bound(connection, "events", f"position < {stop}")
    views, triggers = connection.execute(_VIEWS).all(), _triggers(connection)
    for name in (*(name for name, _ in views), "events"):  # servers lock a view before its tables
        _run(connection, f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
    _make_divided(connection, triggers)
    _attach(connection, "events_0", f"FROM (MINVALUE) TO ({stop})", triggers)
    _add(connection, stop, triggers)
    _run(connection, *(f"CREATE OR REPLACE VIEW {name} AS {query}" for name, query in views))
    steps.keep_older_code_away(connection, COMPATIBLE_FROM)


def _make_divided(connection: Connection, triggers: Iterable[_Trigger]) -> None:
    """Renames `events` to `events_0`, and makes a divided table of the old name, with the same
    triggers and privileges. `identities` makes its unique index unnecessary."""
    unique = connection.scalars(_UNIQUE).all()
    privileges = connection.execute(_PRIVILEGES).all()
    _run(
        connection,
        "ALTER TABLE events RENAME TO events_0",
        "ALTER INDEX events_pkey RENAME TO events_0_pkey",
        *(f"ALTER TABLE events_0 DROP CONSTRAINT {name}" for name in unique),
        *(f"DROP TRIGGER {each.name} ON events_0" for each in triggers if each.is_for_rows),
        "CREATE TABLE events (LIKE events_0) PARTITION BY RANGE (position)",
        "ALTER TABLE events ADD CONSTRAINT events_pkey PRIMARY KEY (log_id, position)",
        *(each.on("events") for each in triggers),
        *(f"ALTER TABLE events ENABLE ALWAYS TRIGGER {each.name}" for each in triggers),
    )
    for privilege, role in privileges:
        _run(connection, f"GRANT {privilege} ON events TO {role}")
        _run(connection, f"REVOKE {privilege} ON events_0 FROM {role}")


def add_ahead(connection: Connection, positions: int) -> None:
    """Adds a partition if the largest log has less than half a range left before the last one.
    Commits in between."""
    [name, start] = connection.execute(_LAST).one()
    if _largest(connection) + positions // 2 <= start:
        return
    stop = _next_bound(connection, start, positions)
    _bound(connection, name, f"position >= {start} AND position < {stop}")
    triggers = _triggers(connection)
    _run(connection, f"ALTER TABLE events DETACH PARTITION {name}")
    _attach(connection, name, f"FROM ({start}) TO ({stop})", triggers)
    _add(connection, stop, triggers)


def share(connection: Connection) -> None:
    """Lets the roles that may read `events` read each partition too, as a dump does; they write
    only through `events`."""
    parts = ", ".join(connection.scalars(_NAMES))
    for privilege, role in connection.execute(_PRIVILEGES).all():
        if privilege == "SELECT":
            _run(connection, f"GRANT SELECT ON {parts} TO {role}")


def _next_bound(connection: Connection, start: int, positions: int) -> int:
    """Returns a multiple of `positions`, half of it or more after `start` and all logs' ends."""
    used = max(start, _largest(connection))
    return (used + positions // 2) // positions * positions + positions


def _largest(connection: Connection) -> int:
    """Returns the size of the largest log. Raises `MisplacedEvents` if its tree is not so large."""
    for project, number, size, tiles in connection.execute(_LARGEST):
        if size // TILE_WIDTH > tiles:
            raise MisplacedEvents(
                f"The head of log {LogName(project, number)} has the size {size}, but the log's "
                f"tree has {tiles} full tiles of {TILE_WIDTH} entries."
            )
        return int(size)
    return 0


def _bound(connection: Connection, table: str, condition: str) -> None:
    """Bounds a table by a constraint, and checks its rows while others write. Raises
    `MisplacedEvents` for a row beyond the bound."""
    unbound = f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {BOUND}"
    bound = f"ALTER TABLE {table} ADD CONSTRAINT {BOUND} CHECK ({condition}) NOT VALID"
    _run(connection, unbound, bound)
    connection.commit()
    try:
        _run(connection, f"ALTER TABLE {table} VALIDATE CONSTRAINT {BOUND}")
    except IntegrityError as error:
        connection.rollback()
        outside = _OUTSIDE.format(table=table, condition=condition)
        found = connection.exec_driver_sql(outside).one_or_none()
        _run(connection, unbound)
        connection.commit()
        if found is None:
            raise MisplacedEvents("An event was after the end of all logs, and is gone.") from error
        raise _outside(*found) from error
    connection.commit()


def _outside(
    project: str | None, number: int | None, log_id: int, position: int
) -> MisplacedEvents:
    log = f"log {project}/{number}" if project else f"a log with the id {log_id}, which has no head"
    return MisplacedEvents(f"An event has position {position} of {log}, which is not so large.")


def _triggers(connection: Connection) -> list[_Trigger]:
    return [_Trigger(*row) for row in connection.execute(_TRIGGERS)]


def _attach(connection: Connection, table: str, bounds: str, triggers: Iterable[_Trigger]) -> None:
    _run(
        connection,
        f"ALTER TABLE events ATTACH PARTITION {table} FOR VALUES {bounds}",
        f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {BOUND}",
        *(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {each.name}" for each in triggers),
    )


def _add(connection: Connection, start: int, triggers: Iterable[_Trigger]) -> None:
    """Adds the last partition, with the statistics that the planner needs before the first row
    comes (0001_own.postgresql.sql), and without a bound."""
    name = f"events_{start}"
    of_statements = [each for each in triggers if not each.is_for_rows]
    _run(
        connection,
        f"CREATE TABLE {name} (LIKE events INCLUDING ALL)",
        f"ALTER TABLE {name} SET ({_VACUUMED})",
        f"ALTER TABLE {name} ALTER COLUMN log_id SET (n_distinct = 1)",
        f"INSERT INTO {name} VALUES (0, 0, '', '', 0, ''), (1, 1, 'a', 'a', 1, 'a')",
        f"ANALYZE {name}",
        "SAVEPOINT filled",
        f"TRUNCATE {name}",
        "RELEASE SAVEPOINT filled",
        *(each.on(name) for each in of_statements),
    )
    _attach(connection, name, f"FROM ({start}) TO (MAXVALUE)", triggers)


def _run(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)
