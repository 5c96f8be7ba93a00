"""The fixtures of all tests, and the proof that the suite met each database that it has to meet."""

import contextlib
import functools
import gc
import signal
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from firmtrail.database import collector
from firmtrail.database.database import Database
from firmtrail.recording.recorder import Recorder
from tests import databases, memory, postgres_server
from tests.databases import Fill, new_log, opened
from tests.filled import Files, filled
from tests.postgres_server import NEWEST, PostgresServer

pytest_plugins = ("tests.s3",)

settings.register_profile("no deadline", deadline=None)  # no test depends on the machine's speed
settings.load_profile("no deadline")

CONTRACT = Path(__file__).parent / "contract"
SQLITE = "sqlite"
STARTED = pytest.StashKey[set[str]]()
"""The releases of PostgreSQL that a test met."""
MADE = pytest.StashKey[Any]()

type Servers = Callable[[str], PostgresServer]


@pytest.fixture(scope="session")
def postgres_servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Gives the server of a release, which is started for the first test that asks for it."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def started(release: str) -> PostgresServer:
            server = stack.enter_context(PostgresServer(release))
            request.config.stash[STARTED].add(release)
            return server

        yield started


@pytest.fixture(scope="module")
def postgres(request: pytest.FixtureRequest, postgres_servers: Servers) -> PostgresServer:
    """A running PostgreSQL server; make a database in it.

    A contract test, or one marked each_postgres, runs once on every release.
    """
    release: str = getattr(request, "param", NEWEST)
    return postgres_servers(release)


@pytest.fixture(scope="module")
def back_end(request: pytest.FixtureRequest, postgres_servers: Servers) -> PostgresServer | None:
    """None for SQLite, else a PostgreSQL server; the test runs once on each back end.

    A contract test, or one marked each_postgres, runs once on every release of PostgreSQL.
    """
    return None if request.param == SQLITE else postgres_servers(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_contract = CONTRACT in metafunc.definition.path.parents
    meets_each = is_contract or metafunc.definition.get_closest_marker("each_postgres")
    releases = postgres_server.releases() if meets_each else (NEWEST,)
    if "back_end" in metafunc.fixturenames:
        is_on_each = not metafunc.definition.get_closest_marker("one_back_end")
        names = (SQLITE, *releases) if is_on_each else (SQLITE,)
        metafunc.parametrize("back_end", names, indirect=True, scope="module")
    elif meets_each and "postgres" in metafunc.fixturenames:
        metafunc.parametrize("postgres", releases, indirect=True, scope="module")


@pytest.fixture(scope="module")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a migrated and empty database that nobody is connected to."""
    return databases.postgres_template(postgres)


@pytest.fixture
def fill(request: pytest.FixtureRequest) -> Fill:
    """Returns the function that fills the fresh databases of a test. It runs once for many tests,
    which get copies."""
    return filled if "files" in request.fixturenames else databases.with_nothing


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Any:
    """Returns the value that `fill` returned for the database of this test, which has to be made
    before."""
    return request.node.stash[MADE]


@pytest.fixture
def files(made: Files, tmp_path: Path) -> Path:
    """Lets the database of this test have data of every kind. Its key and its checkpoints are at
    this path with .key and .checkpoints added: next to the database, if that is a file."""
    path = tmp_path / "firmtrail.db"
    made.write(path)
    return path


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path, fill: Fill) -> str:
    """A fresh migrated file."""
    return _new_file(request, tmp_path, fill)


@pytest.fixture
def postgres_url(
    request: pytest.FixtureRequest, postgres: PostgresServer, fill: Fill
) -> Iterator[str]:
    """A fresh migrated database."""
    with _new_database(request, postgres, fill) as url:
        yield url


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, back_end: PostgresServer | None, tmp_path: Path, fill: Fill
) -> Iterator[str]:
    """A fresh migrated database of the back end."""
    if back_end is None:
        yield _new_file(request, tmp_path, fill)
        return
    with _new_database(request, back_end, fill) as url:
        yield url


def _new_file(request: pytest.FixtureRequest, folder: Path, fill: Fill) -> str:
    path = folder / "firmtrail.db"
    content, request.node.stash[MADE] = databases.sqlite_filled(fill)
    path.write_bytes(content)
    return f"sqlite:///{path}"


def _new_database(
    request: pytest.FixtureRequest, server: PostgresServer, fill: Fill
) -> contextlib.AbstractContextManager[str]:
    template, request.node.stash[MADE] = databases.postgres_filled(server, fill)
    return server.fresh_database(template)


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


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STARTED] = set()
    memory.keep_temporary_files()
    _take_ctrl_c()


def _take_ctrl_c() -> None:
    """Makes SIGINT end this process and those that tests start. A shell without job control starts
    a program in the background with SIGINT ignored, and all that this program starts inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


SLOW = ("end_to_end", "browser")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, Any, Any]:
    """Search for no garbage while modules are imported and thousands of tests are made."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take seconds, so that no process waits for one at the end."""
    items.sort(key=lambda item: item.path.parent.name not in SLOW)  # stable


def pytest_collection_finish(session: pytest.Session) -> None:
    """Stop the search for garbage in what lives until the end: the modules and thousands of tests.

    It took a third of the processor's time of a test that makes an application.
    """
    collector.collect_rarely()


def pytest_report_header() -> list[str]:
    problem = postgres_server.missing()
    there = () if problem else postgres_server.releases()
    versions = ", ".join(map(postgres_server.version, there or (NEWEST,)))
    found = f"databases: SQLite {sqlite3.sqlite_version}, {versions}, in {tempfile.gettempdir()}"
    return [found, problem] if problem else [found]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse to begin a run of the whole suite that would fail in its middle or at its end."""
    if _is_whole(session.config) and (problem := postgres_server.missing()):
        raise pytest.UsageError(problem)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process of pytest-xdist met."""
    node.config.stash[STARTED].update(getattr(node, "workeroutput", {}).get("postgres", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run of the whole suite in which no test used one of the releases of PostgreSQL: it
    would prove too little."""
    config = session.config
    if _is_worker(config):
        met: set[str] = config.stash[STARTED]
        vars(config)["workeroutput"]["postgres"] = sorted(met)
        return
    unmet = [name for name in postgres_server.releases() if name not in config.stash[STARTED]]
    if _is_whole(config) and exitstatus == pytest.ExitCode.OK and unmet:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = config.pluginmanager.getplugin("terminalreporter")
        reporter.write_line(f"\nFAILED: no test ran against {', '.join(unmet)}", red=True)


def _is_worker(config: pytest.Config) -> bool:
    """Is this a process of pytest-xdist that runs a part of the tests?"""
    return hasattr(config, "workerinput")


def _is_whole(config: pytest.Config) -> bool:
    selected = ("keyword", "markexpr", "deselect", "lf", "collectonly", "ignore", "ignore_glob")
    return (
        not _is_worker(config)
        and config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and not any(config.getoption(option, default=None) for option in selected)
    )
