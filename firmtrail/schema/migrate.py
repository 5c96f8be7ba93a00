"""Brings a database to the schema that this code reads and writes.

A separate module, so that serving does not import alembic and SQLAlchemy, which takes a second.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from firmtrail.database.database import Contended
from firmtrail.database.migrating import Migrating
from firmtrail.schema import dividing, migrations
from firmtrail.schema.dividing import Division
from firmtrail.schema.migrations import FOLDER
from firmtrail.schema.migrations.steps import OnMigrationProgress

VERSIONS = FOLDER / "versions"

RETRY_S = 120
RETRY_EVERY_S = 0.3

_SERVICE_GRANTS = (
    ("SELECT, INSERT", "events, subtrees, checkpoints, continued, access_record"),
    ("SELECT, INSERT, DELETE", "texts"),
    ("SELECT, INSERT, UPDATE", "log_heads, views, projects, users, access_heads"),
    (
        "SELECT, INSERT, UPDATE, DELETE",
        "device_current, device_attributes, device_history, fleet_versions, fleet_moves, "
        "releases, release_artifacts, rollouts, rollout_counts, device_offers, device_asks, "
        "members, tokens, device_secrets, device_seen, idempotency_keys, rebuilds",
    ),
    (
        "SELECT",
        "instance, alembic_version, shared_keys, audited_members, audited_tokens, audited_secrets",
    ),
)

_AUDITOR_GRANTS = (
    (
        "SELECT",
        "events, subtrees, checkpoints, continued, texts, log_heads, views, projects, instance, "
        "alembic_version, device_current, device_attributes, device_history, fleet_versions, "
        "fleet_moves, releases, release_artifacts, rollouts, rollout_counts, device_offers, "
        "device_asks, access_record, access_heads, audited_members, audited_tokens, "
        "audited_secrets",
    ),
)
"""The tables that an audit reads: none has an address or the digest of a secret. A revision after
0004 declares what its tables need: its own SERVICE_GRANTS and AUDITOR_GRANTS."""


class Roles(NamedTuple):
    """Names roles of a Postgres that get the privileges they need and no more; None: no such
    role."""

    service: str | None = None
    """The role that serves. On `events`, `subtrees`, `checkpoints`, `continued` and `access_record`
    it may SELECT and INSERT, and no more."""
    auditor: str | None = None
    """The role that audits: it reads the logs, everything stored with them, and the views."""


NO_ROLES = Roles()
AS_IT_IS = Division()


class WrongInstance(Exception):
    """The database belongs to an instance of another name."""

    def __init__(self, stored: str, wanted: str) -> None:
        super().__init__(f"this is the database of instance {stored}, not of {wanted}")
        self.stored = stored


class NewerSchema(Exception):
    """The database has the schema of a newer version of this program."""


async def migrate(
    database: Migrating,
    instance: str,
    roles: Roles = NO_ROLES,
    *,
    division: Division = AS_IT_IS,
    progress: OnMigrationProgress = lambda _name, _done: None,
    folders: Sequence[Path] = (VERSIONS,),
) -> None:
    """Brings the database to the newest schema, and names its instance.

    On a database that servers share, this runs as the owner, while they write, and grants `roles`
    what they need. Each revision is one transaction; it is tried again if it gets a lock too late.
    Then `events` is divided, if the database is new or `division` wants it, and gets partitions
    ahead of its logs.
    A database of one process is migrated in one transaction, and no other process may have it open.

    Raises `WrongInstance` where the database already has another name, `Contended` where others
    keep a lock for longer than RETRY_S.
    """
    engine = _engine(database)
    do = partial(_migrate, to=_Target(database, instance, roles, division, progress, folders))
    try:
        if database.is_alone:
            async with engine.begin() as connection:
                await connection.run_sync(do)
        else:
            await _with_retries(engine, do, database)
    finally:
        await engine.dispose()


async def _with_retries(
    engine: AsyncEngine, do: Callable[[Connection], None], database: Migrating
) -> None:
    """Tries again if a lock is not acquired in time; skips the revisions that are committed. Only
    one migration of a database runs at a time."""
    last_try_at_s = monotonic() + RETRY_S
    while True:
        try:
            async with _alone(engine, database), engine.connect() as connection:
                return await connection.run_sync(do)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in database.contended:
                raise
            if monotonic() > last_try_at_s:
                raise Contended(
                    "The migration was not finished: other transactions kept a lock that it needs "
                    f"for {RETRY_S} s. Nothing is broken: end them, and run it again."
                ) from error
        await asyncio.sleep(RETRY_EVERY_S)


@contextlib.asynccontextmanager
async def _alone(engine: AsyncEngine, database: Migrating) -> AsyncIterator[None]:
    """Keeps other migrations away, by a transaction of its own: a migration makes several, and a
    pooler may give each of them another session."""
    async with engine.begin() as connection:
        if database.one_at_a_time is not None:
            await connection.execute(text(database.one_at_a_time))
        yield


def _engine(database: Migrating) -> AsyncEngine:
    engine = create_async_engine(
        URL.create(database.driver, database=database.path), **database.options
    )
    if (on_begin := database.on_begin) is not None:
        event.listen(engine.sync_engine, "begin", lambda begun: begun.exec_driver_sql(on_begin))
    return engine


class _Target(NamedTuple):
    """Describes the state that a migration has to reach, and where its revisions are."""

    database: Migrating
    instance: str
    roles: Roles
    division: Division
    progress: OnMigrationProgress
    folders: Sequence[Path]


def _config(connection: Connection, to: _Target) -> Config:
    """Returns what alembic needs to run the revisions."""
    config = Config()
    config.set_main_option("path_separator", "newline")
    config.set_main_option(
        "version_locations", "\n".join(str(folder).replace("%", "%%") for folder in to.folders)
    )
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["progress"] = to.progress
    config.attributes["is_alone"] = to.database.is_alone
    return config


def _migrate(connection: Connection, to: _Target) -> None:
    config = _config(connection, to)
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        if isinstance(error.__cause__, ResolutionError):  # this code has no file of that revision
            raise NewerSchema from error
        raise
    stored = connection.scalar(_INSTANCE)
    if stored not in {None, to.instance}:
        raise WrongInstance(stored, to.instance)
    scripts = ScriptDirectory.from_config(config)
    service = [*_SERVICE_GRANTS, *_declared(scripts, "SERVICE_GRANTS")]
    auditor = [*_AUDITOR_GRANTS, *_declared(scripts, "AUDITOR_GRANTS")]
    for role, grants in (to.roles.service, service), (to.roles.auditor, auditor):
        if role is not None:
            _grant(connection, role, grants)
    if not to.database.is_alone:  # commits in between, so what can be refused comes before it
        _divide(connection, to.division, is_new=stored is None)
        dividing.share(connection)
    if stored is None:  # last: a run after a kill knows that the database is new
        named = {"name": to.instance, "since": migrations.HEAD}
        connection.execute(_NAME, named)
    if not to.database.is_alone:
        connection.commit()


def _divide(connection: Connection, division: Division, *, is_new: bool) -> None:
    """Divides `events` into partitions if that is wanted, and adds those that logs need soon."""
    if dividing.is_divided(connection):
        dividing.add_ahead(connection, division.positions)
    elif is_new or division.is_wanted:
        dividing.divide(connection, division.positions)


_INSTANCE = text("SELECT name FROM instance LIMIT 1")

_NAME = text("INSERT INTO instance (name, compatible_from) VALUES (:name, :since)")


def _declared(scripts: ScriptDirectory, name: str) -> Iterator[tuple[str, str]]:
    """Yields the grants that revisions declare under this name: (privileges, tables)."""
    for revision in scripts.walk_revisions():
        yield from getattr(revision.module, name, ())


def _grant(connection: Connection, role: str, grants: Sequence[tuple[str, str]]) -> None:
    quoted = connection.dialect.identifier_preparer.quote_identifier(role)
    for privileges, tables in grants:
        connection.execute(text(f"GRANT {privileges} ON {tables} TO {quoted}"))
