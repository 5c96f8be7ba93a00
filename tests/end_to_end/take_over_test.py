"""Servers of a version with views in another form take over from servers of this version, and no
request is answered with an error; and the other way round.
"""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import asyncpg
import pytest
from aiohttp import ClientError, ClientSession

from firmtrail.projections import fold
from tests.databases import opened, read
from tests.end_to_end import ledger
from tests.end_to_end.command import firmtrail
from tests.end_to_end.conftest import Serve
from tests.end_to_end.ledger import Writer
from tests.end_to_end.processes import Server
from tests.end_to_end.site import PROJECT, P, Site, get, post
from tests.end_to_end.truth import untruths
from tests.end_to_end.versions import HERE, Version
from tests.patience import PATIENCE_S

WRITERS = 3
OTHER = "other"
ACME = ("--project", PROJECT)

OLD_FORM = dict(fold.REVISIONS)
NEW_FORM = {
    name: revision + (name in {view.NAME for view in fold.ORDERED})
    for name, revision in OLD_FORM.items()
}


@pytest.fixture(scope="module")
def coming(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A coming version, which orders reports in another way than this one."""
    source = tmp_path_factory.mktemp("coming")
    shutil.copytree(HERE / "firmtrail", source / "firmtrail")
    path = source / "firmtrail" / "projections" / "fold.py"
    text = path.read_text()
    changed = text.replace("\nORDER_REVISION = 0\n", "\nORDER_REVISION = 1\n")
    assert changed != text
    path.write_text(changed)
    return Version("coming", source)


@pytest.mark.slow
async def test_a_version_with_other_views_takes_over_and_back_without_an_error(
    serve: Serve, coming: Version, postgres_url: str
) -> None:
    site, writers = await ledger.new_writers(postgres_url, WRITERS)
    added = await asyncio.to_thread(firmtrail, postgres_url, "project", "add", OTHER)
    assert added.exit_code == 0, added.said
    old = serve(postgres_url)
    async with ledger.session() as session:
        async with ledger.load(session, writers, old.url):
            new = await asyncio.to_thread(serve, postgres_url, source=coming.source)
            await until_ready(session, new)
            await ledger.until_all_go_on(writers)
        assert await forms(site) == [OLD_FORM, OLD_FORM]
        await go_on_at(session, new, writers)
        assert await is_ready(session, new)
        await until_all_have(site, NEW_FORM)
        old.kill()
        audited(coming, postgres_url)
        for project in (PROJECT, OTHER):
            ahead = ("rebuild", "--ahead", "--project", project)
            done = await asyncio.to_thread(firmtrail, postgres_url, *ahead)
            assert (done.exit_code, "device_history" in done.out) == (0, True), done.said
        async with ledger.load(session, writers, new.url):
            await asyncio.to_thread(old.start)
            await until_ready(session, old)
            await ledger.until_all_go_on(writers)
        assert await forms(site) == [NEW_FORM, NEW_FORM]
        await go_on_at(session, old, writers)
        await until_all_have(site, OLD_FORM)
        new.kill()
        await ledger.settle(session, writers, old.url)
    assert [writer.unavailable + writer.interrupted for writer in writers] == [0] * WRITERS
    audited(Version("this", HERE), postgres_url)
    assert await untruths(site) == []


@pytest.mark.slow
async def test_commands_neither_prepare_nor_take_over(
    serve: Serve, coming: Version, postgres_url: str
) -> None:
    site, _ = await ledger.new_writers(postgres_url, 1)
    refused = coming.firmtrail(postgres_url, "device", "list", *ACME)
    assert refused.returncode == 2
    assert "run `firmtrail rebuild` first" in refused.stderr
    async with opened(postgres_url) as db:
        assert await read(db, "SELECT name FROM rebuilds") == []
    coming.done(postgres_url, "rebuild", "--ahead", *ACME)
    assert coming.firmtrail(postgres_url, "device", "list", *ACME).returncode == 2
    assert await forms(site) == [OLD_FORM]
    coming.done(postgres_url, "rebuild", *ACME)
    coming.done(postgres_url, "device", "list", *ACME)
    nothing = coming.firmtrail(postgres_url, "rebuild", "--ahead", *ACME)
    assert (nothing.returncode, "Nothing was built" in nothing.stderr) == (0, True)


@pytest.mark.slow
async def test_a_server_that_ends_while_it_takes_over_leaves_each_log_in_one_form(
    serve: Serve, coming: Version, postgres_url: str
) -> None:
    """One project is taken over already, and the server waits for the table of live views in the
    middle of the other one. If it is killed, the old server serves that one as before. If it is
    stopped, it answers the request that waits."""
    site, writers = await ledger.new_writers(postgres_url, WRITERS)
    added = await asyncio.to_thread(firmtrail, postgres_url, "project", "add", OTHER)
    assert added.exit_code == 0, added.said
    coming.done(postgres_url, "rebuild", "--project", OTHER)
    old = serve(postgres_url)
    new = await asyncio.to_thread(serve, postgres_url, source=coming.source)
    async with ledger.session() as session:
        await until_ready(session, new)
        async with in_the_way(postgres_url) as blocked:
            asked = asyncio.create_task(get(session, f"{new.url}{P}/devices", site.admin))
            await blocked()
            new.kill()
            with pytest.raises(ClientError):
                await asked
        assert await forms(site) == [OLD_FORM, NEW_FORM]
        async with ledger.load(session, writers, old.url):
            await ledger.until_all_go_on(writers)
        old.kill()
        await asyncio.to_thread(new.start)
        await until_ready(session, new)
        async with in_the_way(postgres_url) as blocked:
            asked = asyncio.create_task(get(session, f"{new.url}{P}/devices", site.admin))
            await blocked()
            new.send(signal.SIGTERM)
            while not new.said("stopping"):
                await asyncio.sleep(0.01)
        assert (await asked).status == 200
        assert await asyncio.to_thread(new.exit_code) == 0
        assert await forms(site) == [NEW_FORM, NEW_FORM]
        await asyncio.to_thread(new.start)
        await ledger.settle(session, writers, new.url)
    audited(coming, postgres_url)


@contextlib.asynccontextmanager
async def in_the_way(database: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Keeps servers from making views live, and yields a function that waits until one tries."""
    connection = await asyncpg.connect(database)
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'views'::regclass"

    async def blocked() -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not await connection.fetch(waiting):
                await asyncio.sleep(0.01)

    async with connection.transaction():
        await connection.execute("LOCK TABLE views IN SHARE MODE")
        yield blocked
    await connection.close()


async def until_ready(session: ClientSession, server: Server) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await is_ready(session, server):
            await asyncio.sleep(0.05)


async def is_ready(session: ClientSession, server: Server) -> bool:
    return (await get(session, f"{server.url}/readyz")).status == 200


async def go_on_at(session: ClientSession, server: Server, writers: Sequence[Writer]) -> None:
    """Sends all requests to another server, whose first answer to a reader and to a person that
    changes something is a success, too."""
    site = writers[0].site
    release = {"version": f"{len(writers[0].sent)}.0.0", "model": "m"}
    async with ledger.load(session, writers, server.url):
        answers = await asyncio.gather(
            get(session, f"{server.url}{P}/devices", site.admin),
            post(session, f"{server.url}{P}/releases", site.admin, release),
        )
        assert [answer.status for answer in answers] == [200, 201]
        await ledger.until_all_go_on(writers)


async def forms(site: Site) -> list[dict[str, int]]:
    """Returns the revisions of the views of each project, in the order of their logs."""
    async with opened(site.database) as db:
        rows = await read(db, "SELECT log_id, name, revision FROM views ORDER BY log_id, name")
    found = dict[int, dict[str, int]]()
    for log_id, name, revision in rows:
        found.setdefault(log_id, {})[name] = revision
    return list(found.values())


async def until_all_have(site: Site, form: dict[str, int]) -> None:
    """Waits until each project has views of this form; nobody asks for the second one."""
    async with asyncio.timeout(PATIENCE_S):
        while any(each != form for each in await forms(site)):
            await asyncio.sleep(0.1)


def audited(version: Version, database: str) -> None:
    """Checks the views against the log. The secrets of this site have no events."""
    out = version.firmtrail(database, "audit", "replay", *ACME).stdout
    wrong = [line for line in out.splitlines()[1:] if ": device_secrets (" not in line]
    assert [line.split()[0] for line in wrong] == ["firmtrail/acme/1"], out
