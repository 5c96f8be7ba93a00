"""What every test may ask for, and the proof that the suite met a real PostgreSQL."""

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from firmtrail.eventstore.database import Database
from firmtrail.record import Recorder
from tests import memory, postgres_server
from tests.databases import migrate_now, new_log, opened, sqlite_template
from tests.postgres_server import PostgresServer

pytest_plugins = ("tests.s3",)

POSTGRES_STARTED = pytest.StashKey[bool]()

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A PostgreSQL server, started for the first test that asks; make a database in it."""
    with PostgresServer() as server:
        request.config.stash[POSTGRES_STARTED] = True
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a migrated and empty database that nobody is connected to."""
    migrate_now(postgres.create_database("migrated"))
    return "migrated"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh migrated file."""
    path = tmp_path / "firmtrail.db"
    path.write_bytes(sqlite_template())
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A fresh migrated database, gone after the test: hundreds of them would fill the memory."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name, template=postgres_template)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh migrated database; the test runs once on each back end."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as db:
        yield db


@pytest.fixture
async def log_id(db: Database) -> int:
    """The new and empty log of the project acme."""
    return await new_log(db)


@pytest.fixture
async def recorder(db: Database) -> AsyncIterator[Recorder]:
    recorder = Recorder(db)
    yield recorder
    await recorder.close()


def pytest_configure() -> None:
    memory.keep_temporary_files()


def pytest_report_header() -> str:
    databases = f"SQLite {sqlite3.sqlite_version}, {postgres_server.version()}"
    return f"databases: {databases}, in {tempfile.gettempdir()}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run of the whole suite in which no test used PostgreSQL: it would prove too little."""
    config = session.config
    selected = ("keyword", "markexpr", "deselect", "lf", "collectonly", "ignore", "ignore_glob")
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not any(
        config.getoption(option) for option in selected
    )
    if is_whole and exitstatus == pytest.ExitCode.OK and POSTGRES_STARTED not in config.stash:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = config.pluginmanager.getplugin("terminalreporter")
        reporter.write_line("\nFAILED: no test ran against PostgreSQL", red=True)
