"""Fixtures of several contract tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from firmtrail.access.lookup import Access
from firmtrail.database.database import Database
from tests.contract import divided, moving
from tests.contract.moving import Move, new_move, other_database
from tests.databases import Fill, postgres_copy
from tests.filled import Files
from tests.people import new_access
from tests.postgres_server import PostgresServer


@pytest.fixture
def fill(request: pytest.FixtureRequest, fill: Fill) -> Fill:
    """Fills the database of a test that moves a project with that project."""
    return moving.source if "move" in request.fixturenames else fill


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
async def move(db: Database, made: Files, other_url: str, tmp_path: Path) -> AsyncIterator[Move]:
    async with new_move(db, made, other_url, tmp_path) as move:
        yield move


@pytest.fixture
def hundreds(postgres: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """The URL of a PostgreSQL with data of every kind in partitions of 100 positions; key and
    checkpoints are in `files.key` and `files.checkpoints`."""
    with postgres_copy(postgres, divided.in_hundreds) as (url, files):
        files.write(tmp_path / "files")
        yield url


@pytest.fixture
def empty_postgres(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a PostgreSQL without any table."""
    with postgres.fresh_database("template1") as url:
        yield url
