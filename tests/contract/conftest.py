"""Fixtures of several contract tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from firmtrail.access.lookup import Access
from firmtrail.database.database import Database
from tests.contract.moving import Move, new_move, other_database
from tests.people import new_access
from tests.postgres_server import PostgresServer


@pytest.fixture
async def access(db: Database) -> AsyncIterator[Access]:
    access = new_access(db)
    yield access
    access.hasher.close()


@pytest.fixture
async def other_url(back_end: PostgresServer | None, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a database of another instance, to which projects move."""
    async with other_database(back_end, tmp_path) as url:
        yield url


@pytest.fixture
async def move(db: Database, other_url: str, tmp_path: Path) -> AsyncIterator[Move]:
    async with new_move(db, other_url, tmp_path) as move:
        yield move


@pytest.fixture
def empty_postgres(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a PostgreSQL without any table."""
    with postgres.fresh_database("template1") as url:
        yield url
