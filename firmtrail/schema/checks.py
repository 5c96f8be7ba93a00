"""Checks that a database has the guards, settings and roles that the log relies on.

Each check reads the catalog of its back end and compares it with what the migrations create.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from firmtrail.database.database import Database, Statement
from firmtrail.schema import migrations, partitions

_SQLITE_TRIGGERS = """\
SELECT name, sql
FROM sqlite_master
WHERE type = 'trigger' AND tbl_name IN ('events', 'subtrees', 'checkpoints')
ORDER BY name
LIMIT 100"""

_POSTGRES_TRIGGERS = """\
SELECT
    CAST(relname AS text), tgname, tgenabled::text, pg_get_triggerdef(pg_trigger.oid), prosrc,
    quote_ident(relnamespace::regnamespace::text)
FROM pg_trigger
JOIN pg_proc ON pg_proc.oid = tgfoid
JOIN pg_class ON pg_class.oid = tgrelid
WHERE NOT tgisinternal
    AND (tgrelid IN (
            to_regclass('events'), to_regclass('identities'), to_regclass('subtrees'),
            to_regclass('checkpoints'))
        OR tgrelid IN (
            SELECT inhrelid
            FROM pg_inherits
            WHERE inhparent = to_regclass('events')))
ORDER BY tgname, relname
LIMIT 50000"""

_POSTGRES_SETTINGS = """\
SELECT name, setting
FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes') AND setting <> 'on'
ORDER BY name
LIMIT 100"""

_POSTGRES_PRIVILEGES = """\
SELECT privilege || ' on ' || name
FROM unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE']) AS held(privilege)
CROSS JOIN (
    SELECT unnest(ARRAY['events', 'identities', 'subtrees', 'checkpoints']) AS name
    UNION
    SELECT name
    FROM event_partitions) AS guarded
WHERE has_table_privilege(current_user, name, privilege)
ORDER BY name, privilege
LIMIT 100"""

_POSTGRES_MAY_APPEND = "SELECT has_table_privilege(current_user, 'events', 'INSERT')"

_POSTGRES_UNFINISHED = """\
SELECT CAST(relname AS text)
FROM pg_constraint
JOIN pg_class ON pg_class.oid = conrelid
WHERE conname = $1
ORDER BY relname
LIMIT 100"""

_POSTGRES_ROLES = "SELECT rolname FROM pg_roles ORDER BY rolname LIMIT 100000"

_REFUSE = "refuse()"

_POSTGRES_EXPECTED = {  # name -> a pattern of when it fires, and the function that it runs
    "events_append": (
        r"AFTER INSERT ON \S+ REFERENCING NEW TABLE AS added FOR EACH STATEMENT",
        "refuse_other_than_next()",
    ),
    "events_identify": (
        r"AFTER INSERT ON \S+ REFERENCING NEW TABLE AS added FOR EACH STATEMENT",
        "append_identities()",
    ),
    "events_no_change": ("BEFORE DELETE OR UPDATE ON", "refuse_unless_stub()"),
    "events_no_truncate": ("BEFORE TRUNCATE ON", _REFUSE),
    "identities_append": (
        r"BEFORE INSERT ON \S+ FOR EACH STATEMENT",
        "refuse_unless_of_events()",
    ),
    "identities_no_change": ("BEFORE DELETE OR UPDATE ON", _REFUSE),
    "identities_no_truncate": ("BEFORE TRUNCATE ON", _REFUSE),
    "subtrees_append": ("BEFORE INSERT ON", "refuse_other_subtree()"),
    "subtrees_no_change": ("BEFORE DELETE OR UPDATE ON", _REFUSE),
    "subtrees_no_truncate": ("BEFORE TRUNCATE ON", _REFUSE),
    "checkpoints_no_change": ("BEFORE DELETE OR UPDATE ON", "refuse_unless_covered()"),
    "checkpoints_thin": ("AFTER INSERT ON", "thin_checkpoints()"),
    "checkpoints_no_truncate": ("BEFORE TRUNCATE ON", _REFUSE),
}

_SQLITE_FILES = (
    "0001_own.sqlite",
    "0002_subtrees.sqlite",
    "0002_checkpoints.sqlite",
    "0008_thinned.sqlite",
    "0016_pruned.sqlite",
)
"""The SQL files that create the triggers; a later one replaces those of an earlier one."""

_POSTGRES_FILES = (
    "0001_own.postgresql",
    "0004_postgres_guard.postgresql",
    "0008_thinned.postgresql",
    "0013_identities.postgresql",
    "0015_guarded.postgresql",
    "0016_pruned.postgresql",
)
"""The SQL files that create the functions that the triggers run."""


async def sqlite_triggers(db: Database) -> list[str]:
    """Returns the faults of the triggers that keep the log append-only."""
    there = {name: _plain(sql) for name, sql in await db.read(Statement(_SQLITE_TRIGGERS))}
    made = {
        match[1]: _plain(text)
        for name in _SQLITE_FILES
        for text in migrations.statements(name, "sqlite")
        if (match := re.match(r"CREATE TRIGGER (\w+)", text))
    }
    return _differences(there, made)


async def postgres_triggers(db: Database) -> list[str]:
    """Returns the faults of the triggers that keep the log append-only, of each partition too: a
    statement that names a partition fires only the statement triggers of that."""
    bodies = _bodies()
    there = {
        _named(table, name): _fires(name, bodies, *row)
        for table, name, *row in await db.read(Statement(_POSTGRES_TRIGGERS))
    }
    parts = [part.name for part in await partitions.partitions(db)]
    of_events = [name for name in _POSTGRES_EXPECTED if name.startswith("events_")]
    expected = {*_POSTGRES_EXPECTED, *(_named(part, name) for part in parts for name in of_events)}
    return _differences(there, dict.fromkeys(expected, "always, and refuses"))


def _named(table: str, trigger: str) -> str:
    """Returns how a fault names a trigger: with the table, if its own name does not say it."""
    return trigger if trigger.startswith(table) else f"{trigger} of {table}"


def _bodies() -> dict[str, str]:
    """Returns the source of each function that a trigger runs, without the schema's name."""
    made = "\n".join(
        text for name in _POSTGRES_FILES for text in migrations.statements(name, "postgresql")
    )
    functions = re.findall(
        r"CREATE FUNCTION (\w+\(\)) RETURNS trigger.*?\$\$(.*?)\$\$", made, re.DOTALL
    )
    return {name: _unqualified(body.replace("%%", "%")) for name, body in functions}


class _Trigger(NamedTuple):
    """Describes a trigger as the catalog has it."""

    enabled: str
    definition: str
    source: str
    schema: str


def _fires(name: str, bodies: dict[str, str], *row: str) -> str:
    found = _Trigger(*row)
    when, function = _POSTGRES_EXPECTED.get(name, ("", ""))
    source = found.source.replace(f"{found.schema}.", "%1$I.")
    is_whole = (
        found.enabled == "A"
        and re.search(when, found.definition) is not None
        and " WHEN " not in found.definition
        and _unqualified(source) == bodies.get(function)
    )
    return "always, and refuses" if is_whole else "otherwise"


def _unqualified(source: str) -> str:
    return _plain(source).replace("%1$I.", "")


def _differences(there: Mapping[str, str], made: Mapping[str, str]) -> list[str]:
    """Returns how the triggers of a database differ from those that the migrations create. Both are
    texts by name."""
    return [
        *(f"{name} is missing" for name in made.keys() - there.keys()),
        *(f"{name} is not ours" for name in there.keys() - made.keys()),
        *(
            f"{name} was changed"
            for name in made.keys() & there.keys()
            if made[name] != there[name]
        ),
    ]


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip("; ")


async def postgres_settings(db: Database) -> list[str]:
    """Returns the cluster's settings with which a crash loses acknowledged events."""
    rows = await db.read(Statement(_POSTGRES_SETTINGS))
    return [f"{name} is {setting}" for name, setting in rows]


async def postgres_synchronous_commit(db: Database) -> str:
    """Returns the setting as the connections of this process have it."""
    [[setting]] = await db.read(Statement("SELECT current_setting('synchronous_commit')"))
    return str(setting)


async def postgres_privileges(db: Database) -> list[str]:
    """Returns what this role may do to the log other than reading and adding."""
    return [privilege for [privilege] in await db.read(Statement(_POSTGRES_PRIVILEGES))]


async def postgres_may_append(db: Database) -> bool:
    """Returns whether this role may add events. That of auditors may not."""
    [[may]] = await db.read(Statement(_POSTGRES_MAY_APPEND))
    return bool(may)


async def postgres_unfinished(db: Database) -> list[str]:
    """Returns the parts of `events` that a run of `migrate` gave a bound, and was ended before it
    made another part after them: they refuse appends past it."""
    return [name for [name] in await db.read(Statement(_POSTGRES_UNFINISHED, (partitions.BOUND,)))]


async def missing_roles(db: Database, names: Iterable[str]) -> list[str]:
    there = {name for (name,) in await db.read(Statement(_POSTGRES_ROLES))}
    return [name for name in names if name not in there]
