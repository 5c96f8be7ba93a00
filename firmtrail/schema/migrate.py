"""Brings a database to the schema that this code reads and writes.

A separate module, so that serving does not import alembic and SQLAlchemy, which takes a second.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
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
from firmtrail.database.postgres import connect
from firmtrail.schema import migrations
from firmtrail.schema.migrations import FOLDER
from firmtrail.schema.migrations.steps import OnMigrationProgress, bound_locks

VERSIONS = FOLDER / "versions"

RETRY_S = 120
RETRY_EVERY_S = 0.3
_CONTENDED = ("55P03", "40P01")
"""SQLSTATEs of a lock that was not acquired in time, and of a deadlock."""

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

_SQLITE = "sqlite:///"


class Roles(NamedTuple):
    """Names roles of a Postgres that get the privileges they need and no more; None: no such
    role."""

    service: str | None = None
    """The role that serves. On `events`, `subtrees`, `checkpoints`, `continued` and `access_record`
    it may SELECT and INSERT, and no more."""
    auditor: str | None = None
    """The role that audits: it reads the logs, everything stored with them, and the views."""


NO_ROLES = Roles()


class WrongInstance(Exception):
    """The database belongs to an instance of another name."""

    def __init__(self, stored: str, wanted: str) -> None:
        super().__init__(f"this is the database of instance {stored}, not of {wanted}")
        self.stored = stored


class NewerSchema(Exception):
    """The database has the schema of a newer version of this program."""


async def migrate(
    url: str,
    instance: str,
    roles: Roles = NO_ROLES,
    *,
    progress: OnMigrationProgress = lambda _name, _done: None,
    folders: Sequence[Path] = (VERSIONS,),
) -> None:
    """Brings the database at `url` to the newest schema, and names its instance.

    On Postgres this runs as the owner, while servers write, and grants `roles` what they need. Each
    revision is one transaction; it is tried again if it gets a lock too late. An embedded database
    is migrated in one transaction, and no other process may have it open.

    Raises `WrongInstance` where the database already has another name, `Contended` where others
    keep a lock for longer than RETRY_S.
    """
    engine = _engine(url)
    do = partial(_migrate, to=_Target(instance, roles, progress, folders))
    try:
        if engine.dialect.name == "sqlite":
            async with engine.begin() as connection:
                await connection.run_sync(do)
        else:
            event.listen(engine.sync_engine, "begin", bound_locks)
            await _with_retries(engine, do)
    finally:
        await engine.dispose()


async def _with_retries(engine: AsyncEngine, do: Callable[[Connection], None]) -> None:
    """Tries again if a lock is not acquired in time; skips the revisions that are committed."""
    last_try_at_s = monotonic() + RETRY_S
    while True:
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(do)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _CONTENDED:
                raise
            if monotonic() > last_try_at_s:
                raise Contended(
                    "The migration was not finished: other transactions kept a lock that it needs "
                    f"for {RETRY_S} s. Nothing is broken: end them, and run it again."
                ) from error
        await asyncio.sleep(RETRY_EVERY_S)


def _engine(url: str) -> AsyncEngine:
    """Returns an engine for the same URL that servers use.

    Postgres is connected to by our own function, as SQLAlchemy has other names for the URL's
    options. The text after sqlite:/// is a literal path: no character of it is escaped or begins a
    query. SQLite has autocommit=False: otherwise sqlite3 commits each CREATE TABLE on its own.
    """
    if url.startswith(_SQLITE):
        path = URL.create("sqlite+aiosqlite", database=url.removeprefix(_SQLITE))
        return create_async_engine(path, connect_args={"autocommit": False})
    return create_async_engine("postgresql+asyncpg://", async_creator=partial(connect, url))


class _Target(NamedTuple):
    """Describes the state that a migration has to reach, and where its revisions are."""

    instance: str
    roles: Roles
    progress: OnMigrationProgress
    folders: Sequence[Path]


def _migrate(connection: Connection, to: _Target) -> None:
    config = Config()
    config.set_main_option("path_separator", "newline")
    config.set_main_option(
        "version_locations", "\n".join(str(folder).replace("%", "%%") for folder in to.folders)
    )
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["progress"] = to.progress
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        if isinstance(error.__cause__, ResolutionError):  # this code has no file of that revision
            raise NewerSchema from error
        raise
    _name_instance(connection, to.instance)
    scripts = ScriptDirectory.from_config(config)
    service = [*_SERVICE_GRANTS, *_declared(scripts, "SERVICE_GRANTS")]
    auditor = [*_AUDITOR_GRANTS, *_declared(scripts, "AUDITOR_GRANTS")]
    for role, grants in (to.roles.service, service), (to.roles.auditor, auditor):
        if role is not None:
            _grant(connection, role, grants)
    if connection.dialect.name != "sqlite":
        connection.commit()


def _name_instance(connection: Connection, instance: str) -> None:
    stored = connection.scalar(text("SELECT name FROM instance LIMIT 1"))
    if stored is None:
        named = "INSERT INTO instance (name, compatible_from) VALUES (:name, :since)"
        connection.execute(text(named), {"name": instance, "since": migrations.HEAD})
    elif stored != instance:
        raise WrongInstance(stored, instance)


def _declared(scripts: ScriptDirectory, name: str) -> Iterator[tuple[str, str]]:
    """Yields the grants that revisions declare under this name: (privileges, tables)."""
    for revision in scripts.walk_revisions():
        yield from getattr(revision.module, name, ())


def _grant(connection: Connection, role: str, grants: Sequence[tuple[str, str]]) -> None:
    quoted = connection.dialect.identifier_preparer.quote_identifier(role)
    for privileges, tables in grants:
        connection.execute(text(f"GRANT {privileges} ON {tables} TO {quoted}"))
