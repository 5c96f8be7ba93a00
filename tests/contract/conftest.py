"""Fixtures of several contract tests."""

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from firmtrail.access.lookup import Access
from firmtrail.database.database import Database
from tests.contract.moving import Move, new_move, other_database
from tests.databases import Fill, with_nothing
from tests.filled import with_everything
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
def fill(request: pytest.FixtureRequest) -> Fill:
    """Fills the database of a test that moves a project."""
    return with_everything if "move" in request.fixturenames else with_nothing


@pytest.fixture
async def move(
    db: Database, made: Mapping[str, bytes], other_url: str, tmp_path: Path
) -> AsyncIterator[Move]:
    async with new_move(db, other_url, made, tmp_path) as move:
        yield move


@pytest.fixture
def empty_postgres(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a PostgreSQL without any table."""
    with postgres.fresh_database("template1") as url:
        yield url
