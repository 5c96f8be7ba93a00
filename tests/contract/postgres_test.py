"""Postgres sorts text by its bytes, syncs commits, and survives broken connections."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from firmtrail.database.database import Database, OutcomeUnknown, Statement, Unavailable
from firmtrail.database.postgres import Postgres
from firmtrail.events.access import MemberAdded
from firmtrail.eventstore import log
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Recorder
from tests.databases import new_log, opened, read
from tests.fleet import receipts, register, report
from tests.replay import differences

_SEEN = "SELECT device FROM device_seen ORDER BY device LIMIT 9"


async def test_every_text_column_of_postgres_sorts_by_its_bytes(postgres_url: str) -> None:
    async with opened(postgres_url) as db:
        rows = await read(
            db,
            """\
SELECT CAST(columns.table_name AS text), CAST(columns.column_name AS text)
FROM information_schema.columns AS columns
WHERE columns.table_schema = 'public'
    AND columns.table_name <> 'alembic_version'
    AND columns.data_type <> 'bigint'
    AND columns.collation_name IS DISTINCT FROM 'C'""",
        )
    assert [tuple(row) for row in rows] == []


async def test_a_commit_on_postgres_is_synced_whatever_the_clusters_default(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as db:
        rows = await read(db, "SELECT current_setting('synchronous_commit')")
    assert [row[0] for row in rows] == ["on"]


async def test_a_server_that_does_not_run_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await Postgres.open(f"postgresql://postgres@/none?host={tmp_path}&port=5432")


_KILL_OTHERS = """\
SELECT count(pg_terminate_backend(pid, 5000)) AS killed
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""


async def lose_connection(db: Database, postgres_url: str) -> None:
    """Sends everything, and loses the connection at COMMIT."""
    async with db.transaction() as tx:
        await tx.run(Statement("INSERT INTO device_seen VALUES ('acme', 'd1', 1)"))
        async with opened(postgres_url) as other:
            await read(other, _KILL_OTHERS)


async def test_a_connection_lost_at_commit_leaves_the_outcome_unknown(postgres_url: str) -> None:
    async with opened(postgres_url) as db:
        with pytest.raises(OutcomeUnknown):
            await lose_connection(db, postgres_url)
        assert await read(db, _SEEN) == []


async def test_a_lost_connection_is_unavailable_once_and_is_then_replaced(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as db:
        await read(db, _SEEN)
        async with opened(postgres_url) as other:
            await read(other, _KILL_OTHERS)
        with contextlib.suppress(Unavailable):
            await read(db, _SEEN)
        assert await read(db, _SEEN) == []


class Proxy:
    """A proxy to a Postgres server that can break right after a COMMIT.

    Once `breaks` is set, it forwards the next COMMIT, and cuts the connection instead of passing
    the server's answer back.
    """

    def __init__(self, server: Path) -> None:
        self.breaks = False
        self._cut = False
        self._server = server

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._server)
        self._cut = False
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pass_on(reader, server_writer))
            both.create_task(self._pass_back(server_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.breaks and b"COMMIT" in data:
                self._cut = True
            writer.write(data)
        writer.close()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self._cut:
                self.breaks = False
                break
            writer.write(data)
        writer.close()


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[tuple[Proxy, Postgres]]:
    """The proxy, and a pool of connections through it."""
    parts = urlsplit(postgres_url)
    [folder] = parse_qs(parts.query)["host"]
    proxy = Proxy(Path(folder) / ".s.PGSQL.5432")
    with tempfile.TemporaryDirectory() as own:
        socket = Path(own) / ".s.PGSQL.5432"
        serving = await asyncio.start_unix_server(proxy.connect, socket)
        async with serving, opened(postgres_url.replace(folder, own)) as db:
            assert isinstance(db, Postgres)
            yield proxy, db


async def test_reports_whose_commit_was_not_answered_are_recorded_once(
    proxy: tuple[Proxy, Postgres], postgres_url: str
) -> None:
    breaking, db = proxy
    log_id, recorder = await new_log(db), Recorder(db)
    await register(recorder, log_id, "d1")
    breaking.breaks = True
    sent = [report("1.0.0"), report("1.1.0"), report("1.2.0", report_id="a"), report(seq=1)]
    answer = await receipts(recorder, log_id, *sent)
    assert not breaking.breaks
    assert [receipt.position for receipt in answer] == [1, 2, 3, 4]
    assert (await log.head(db, log_id)).size == 5
    assert await differences(db, log_id) == []


async def test_a_command_whose_commit_was_not_answered_is_left_to_its_caller(
    proxy: tuple[Proxy, Postgres],
) -> None:
    breaking, db = proxy
    log_id, recorder = await new_log(db), Recorder(db)

    async def command(commit: Commit) -> None:
        commit.draft.record("user/u_1", MemberAdded("u_1", "viewer"), actor="system")

    breaking.breaks = True
    with pytest.raises(OutcomeUnknown):
        await recorder.act(log_id, command)
    assert (await log.head(db, log_id)).size == 1
    await recorder.act(log_id, command)
    assert (await log.head(db, log_id)).size == 2


_OPTIONS = """\
SELECT CAST(option_name AS text), option_value
FROM pg_class
CROSS JOIN pg_options_to_table(reloptions)
WHERE pg_class.oid = to_regclass($1)
ORDER BY option_name
LIMIT 9"""


@pytest.mark.parametrize(
    "table", ["events_0", "events_100000000", "identities", "device_history", "fleet_moves"]
)
async def test_new_rows_of_a_table_that_grows_are_vacuumed_and_frozen_in_pieces(
    postgres_url: str, table: str
) -> None:
    async with opened(postgres_url) as db:
        assert [tuple(row) for row in await read(db, _OPTIONS, table)] == [
            ("autovacuum_freeze_min_age", "0"),
            ("autovacuum_vacuum_insert_scale_factor", "0"),
            ("autovacuum_vacuum_insert_threshold", "100000"),
        ]
