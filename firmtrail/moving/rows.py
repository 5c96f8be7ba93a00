"""Copies what a project has next to its logs: members, tokens, secrets, attributes, webhooks and
the access record. A test compares the declared columns with the migrated tables.

These rows say nothing of logins, and nothing of other projects. Files of artifacts are not in the
database.
"""

from collections.abc import AsyncIterator, Container, Mapping, Sequence
from typing import Any, NamedTuple

from firmtrail.database.database import Given, Reader, Row, Statement, Transaction, Value

PAGE_ROWS = 1_000


class OtherProjectsLog(Exception):
    """A row names a log that is not its project's. There the same id may be another project's."""


class LeftOut(Exception):
    """Rows of the project can't be added there."""


class ProjectTable(NamedTuple):
    """Declares a table with a column `project`."""

    name: str
    key: tuple[str, ...]
    """The columns that identify a row in its project."""
    columns: str
    """Names and types of the columns to copy, after `project`."""
    shown: str
    """The name of its rows for people, in the plural."""
    left_out: tuple[str, ...] = ()
    """The columns that begin there with their defaults."""

    @property
    def names(self) -> list[str]:
        return [each.split()[0] for each in self.columns.split(", ")]


MEMBERS = ProjectTable("members", ("actor_id",), "actor_id text, role text", "members")

TOKENS = ProjectTable(
    "tokens",
    ("token_id",),
    "digest text, token_id text, actor_id text, role text, name text, created_at_ms bigint, "
    "expires_at_ms bigint, revoked_at_ms bigint, issued_by text, registers bigint, model text, "
    "registers_max bigint, registered bigint, used_at_ms bigint",
    "tokens",
    left_out=("session_digest",),
)

WEBHOOKS = ProjectTable(
    "webhooks",
    ("webhook_id",),
    "webhook_id text, url text, types text, models text, notices text, description text, "
    "enabled bigint, disabled_reason text, secret text, old_secret text, "
    "old_secret_until_ms bigint, created_at_ms bigint, revision bigint, log_id bigint, "
    "position bigint, delivered_at_ms bigint, failing_since_ms bigint, failures bigint, "
    "next_at_ms bigint, last_error text, deliveries bigint",
    "webhooks",
    left_out=("lease", "lease_until_ms"),
)

ACCESS_RECORD = ProjectTable(
    "access_record",
    ("seq",),
    "at_ms bigint, request_id text, actor text, path text, asked text, address text, seq bigint",
    "entries of the access record",
)

OTHERS = (
    ProjectTable(
        "device_secrets",
        ("digest", "device"),
        "digest text, device text, secret_id text, bcrypt text, created_at_ms bigint, "
        "expires_at_ms bigint",
        "secrets of devices",
    ),
    ProjectTable(
        "device_seen", ("device",), "device text, seen_at_ms bigint", "times of last calls"
    ),
    ProjectTable(
        "reported_attributes",
        ("device",),
        "device text, data text, changed_at_ms bigint",
        "devices with attributes",
    ),
    ProjectTable("attribute_pairs", ("pair", "device"), "pair text, device text", "attributes"),
    ProjectTable(
        "webhook_deliveries",
        ("webhook_id", "number"),
        "webhook_id text, number bigint, message_id text, position bigint, type text, "
        "attempt bigint, at_ms bigint, duration_ms bigint, status bigint, error text, excerpt text",
        "deliveries of webhooks",
    ),
    ProjectTable(
        "webhook_notices",
        ("webhook_id", "message_id"),
        "webhook_id text, message_id text, type text, position bigint, body text, "
        "made_at_ms bigint, delivered bigint",
        "notices of webhooks",
    ),
    ProjectTable(
        "artifact_uploads",
        ("upload_id",),
        "upload_id text, created_at_ms bigint, size_bytes bigint, sha256 text, sha1 text, md5 text",
        "uploads of artifacts",
    ),
)

TABLES = (MEMBERS, TOKENS, WEBHOOKS, ACCESS_RECORD, *OTHERS)

KEY_COLUMNS = (
    "actor_id text, key text, fingerprint text, about text, status bigint, answer text, "
    "log_id bigint, position bigint, stop bigint, expires_at_ms bigint"
)

_KEYS = f"""\
SELECT {", ".join(each.split()[0] for each in KEY_COLUMNS.split(", "))}
FROM idempotency_keys
WHERE log_id = $1 AND expires_at_ms > now_ms() AND (actor_id, key) > ($2, $3)
ORDER BY actor_id, key
LIMIT $4"""
"""Reads the kept answers of requests that recorded something in a log of the project."""

_ADD_KEYS = f"""\
INSERT INTO idempotency_keys ({", ".join(each.split()[0] for each in KEY_COLUMNS.split(", "))})
SELECT {", ".join(f"given.{each.split()[0]}" for each in KEY_COLUMNS.split(", "))}
FROM given
WHERE TRUE
ON CONFLICT DO NOTHING"""

_DELETE_KEYS = "DELETE FROM idempotency_keys WHERE log_id = $1"

_READ = """\
SELECT {columns}
FROM {table}
WHERE project = $1{after}
ORDER BY {key}
LIMIT $2"""

_ADD = """\
INSERT INTO {table} (project, {columns})
SELECT $1, {given}
FROM given
WHERE TRUE
ON CONFLICT DO NOTHING"""

_DELETE = "DELETE FROM {table} WHERE project = $1"

_COUNT = "SELECT count(*) FROM {table} WHERE project = $1"


async def pages(source: Reader, table: ProjectTable, project: str) -> AsyncIterator[list[Row]]:
    """Yields all rows of the project, in the order of their keys."""
    key = ", ".join(table.key)
    places = ", ".join(f"${n + 3}" for n in range(len(table.key)))
    indexes = [table.names.index(name) for name in table.key]
    after: tuple[Value, ...] = ()
    while True:
        condition = f" AND ({key}) > ({places})" if after else ""
        text = _READ.format(
            columns=", ".join(table.names), table=table.name, after=condition, key=key
        )
        page = await source.read(Statement(text, (project, PAGE_ROWS, *after)))
        if not page:
            return
        yield page
        after = tuple(page[-1][n] for n in indexes)


type Replaced = Mapping[str, Mapping[Any, Any]]
"""For a column, the values that are others there; for `log_id`, all logs of the project."""


async def check_webhooks(source: Reader, project: str, log_ids: Container[int]) -> None:
    """Raises `OtherProjectsLog` if a webhook of the project stands on a log that is none of
    these."""
    async for page in pages(source, WEBHOOKS, project):
        for row in page:
            _check_log(WEBHOOKS, row, log_ids)


def _check_log(table: ProjectTable, row: Row, log_ids: Container[int]) -> None:
    names = table.names
    if "log_id" in names and (log_id := row[names.index("log_id")]) not in log_ids:
        raise OtherProjectsLog(
            f"A row of {table.name}, {row[names.index(table.key[0])]}, names log {log_id}, which "
            "is not a log of the project. Someone changed the database: remove that webhook first."
        )


async def copy(
    source: Reader, tx: Transaction, table: ProjectTable, *, project: str, replaced: Replaced
) -> None:
    """Adds the project's rows. Raises `OtherProjectsLog` if one names a log that `replaced` does
    not have, and `LeftOut`."""
    size = 0
    async for page in pages(source, table, project):
        await tx.run(add(table, project, [_replaced(table, row, replaced) for row in page]))
        size += len(page)
    await check_size(tx, table, project, size)


async def check_size(tx: Transaction, table: ProjectTable, project: str, size: int) -> None:
    """Raises `LeftOut` if the project has another number of rows there."""
    [[[found]]] = await tx.run(_count(table, project))
    if found != size:
        raise LeftOut(
            f"The project has {size} rows of {table.name}, but would have {found} there, because "
            "rows there have the same keys, or two members are one person there. It did not begin "
            "there: let it continue here with --undo."
        )


def _replaced(table: ProjectTable, row: Row, replaced: Replaced) -> list[Any]:
    _check_log(table, row, replaced["log_id"])
    return [
        replaced.get(name, {}).get(value, value)
        for name, value in zip(table.names, row, strict=True)
    ]


def add(table: ProjectTable, project: str, rows: Sequence[Row]) -> Statement:
    """Adds rows of the project, with the columns that `table` declares."""
    text = _ADD.format(
        table=table.name,
        columns=", ".join(table.names),
        given=", ".join(f"given.{name}" for name in table.names),
    )
    return Statement(text, (project,), Given(table.columns, rows))


async def copy_keys(
    source: Reader, tx: Transaction, log_ids: Mapping[int, int], people: Mapping[str, str]
) -> None:
    """Copies the kept answers of requests that recorded something in these logs: id here -> id
    there. A key that the same person has used there already is left out."""
    for old_id, new_id in log_ids.items():
        after = ("", "")
        while page := await source.read(Statement(_KEYS, (old_id, *after, PAGE_ROWS))):
            rows = [_moved_key(row, new_id, people) for row in page]
            await tx.run(Statement(_ADD_KEYS, (), Given(KEY_COLUMNS, rows)))
            after = (page[-1][0], page[-1][1])


def _moved_key(row: Row, log_id: int, people: Mapping[str, str]) -> list[Any]:
    actor_id, key, fingerprint, about, status, answer, _, *rest = row
    actor_id, about = people.get(actor_id, actor_id), people.get(about, about)
    return [actor_id, key, fingerprint, about, status, answer, log_id, *rest]


async def delete(tx: Transaction, project: str, log_ids: Sequence[int]) -> None:
    """Deletes all of the project's rows but the access record, from which nothing is deleted."""
    for table in TABLES:
        if table is not ACCESS_RECORD:
            await tx.run(Statement(_DELETE.format(table=table.name), (project,)))
    for log_id in log_ids:
        await tx.run(Statement(_DELETE_KEYS, (log_id,)))


async def count(source: Reader, table: ProjectTable, project: str) -> int:
    [[found]] = await source.read(_count(table, project))
    return int(found)


def _count(table: ProjectTable, project: str) -> Statement:
    return Statement(_COUNT.format(table=table.name), (project,))
