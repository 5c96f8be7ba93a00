"""Brings a database to the schema that this code reads and writes.

Apart from `migrations`, so that serving does without alembic and SQLAlchemy: a second of imports.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from firmtrail.eventstore.migrations import FOLDER
from firmtrail.eventstore.postgres import connect

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
"""What an audit reads: no address, no digest of a secret."""

_SQLITE = "sqlite:///"


class Roles(NamedTuple):
    """Roles of a Postgres that get what they need and nothing more; None: no such role."""

    service: str | None = None
    """Serves: on `events`, `subtrees`, `checkpoints`, `continued` and `access_record` it may SELECT
    and INSERT, and no more."""
    auditor: str | None = None
    """Audits: it reads the logs, what is kept of them, and the views."""


NOBODY = Roles()


class WrongInstance(Exception):
    """The database belongs to an instance of another name."""

    def __init__(self, stored: str, wanted: str) -> None:
        super().__init__(f"this is the database of instance {stored}, not of {wanted}")
        self.stored = stored


async def migrate(url: str, instance: str, roles: Roles = NOBODY) -> None:
    """Bring the database at `url` to the newest schema, in one transaction, and name its instance.

    On Postgres this runs as the owner, and gives `roles` what they need. An embedded database must
    be held by no other process.

    Raises `WrongInstance` where the database has another name already.
    """
    engine = _engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_migrate, instance, roles)
    finally:
        await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    """Postgres by the very URL that serves, whose options SQLAlchemy has other names for.

    What follows sqlite:/// is a path as it is: no character of it is escaped or begins a query.
    SQLite with autocommit=False: else sqlite3 commits each CREATE TABLE by itself.
    """
    if url.startswith(_SQLITE):
        path = URL.create("sqlite+aiosqlite", database=url.removeprefix(_SQLITE))
        return create_async_engine(path, connect_args={"autocommit": False})
    return create_async_engine("postgresql+asyncpg://", async_creator=partial(connect, url))


def _migrate(connection: Connection, instance: str, roles: Roles) -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    _name(connection, instance)
    for role, grants in ((roles.service, _SERVICE_GRANTS), (roles.auditor, _AUDITOR_GRANTS)):
        if role is not None:
            _grant(connection, role, grants)


def _name(connection: Connection, instance: str) -> None:
    stored = connection.scalar(text("SELECT name FROM instance LIMIT 1"))
    if stored is None:
        connection.execute(text("INSERT INTO instance (name) VALUES (:name)"), {"name": instance})
    elif stored != instance:
        raise WrongInstance(stored, instance)


def _grant(connection: Connection, role: str, grants: Sequence[tuple[str, str]]) -> None:
    quoted = connection.dialect.identifier_preparer.quote_identifier(role)
    for privileges, tables in grants:
        connection.execute(text(f"GRANT {privileges} ON {tables} TO {quoted}"))
