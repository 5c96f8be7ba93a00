"""The access record's chain: it is one chain, whichever servers and batches wrote it."""

import asyncio
from itertools import count

from firmtrail.access.reads import Read, Reads
from firmtrail.database.database import Database
from firmtrail.eventstore import chain
from tests.databases import read

_numbers = count()


def a_read(project: str = "acme") -> Read:
    return Read(project, 1, f"r{next(_numbers)}", "u", "/devices/d/history", "{}", "192.0.2.1")


async def assert_chained(db: Database, project: str, size: int) -> None:
    rows = await read(
        db,
        "SELECT seq, project, at_ms, request_id, actor, path, asked, address FROM access_record "
        "WHERE project = $1 ORDER BY seq",
        project,
    )
    assert [row[0] for row in rows] == list(range(size))
    [head] = await read(db, "SELECT size, head FROM access_heads WHERE project = $1", project)
    assert list(head) == [size, chain.extended(chain.START, rows)]


async def test_a_server_continues_its_own_chain(db: Database) -> None:
    reads = Reads(db)
    for _ in range(3):
        await asyncio.gather(*(reads.add(a_read()) for _ in range(5)))
    await assert_chained(db, "acme", 15)


async def test_servers_that_take_turns_write_one_chain(db: Database) -> None:
    servers = [Reads(db), Reads(db)]
    for n in range(6):
        await servers[n % 2].add(a_read())
    await servers[0].add(a_read())
    await assert_chained(db, "acme", 7)


async def test_servers_in_parallel_write_one_chain(db: Database) -> None:
    servers = [Reads(db), Reads(db), Reads(db)]
    await asyncio.gather(*(server.add(a_read()) for server in servers for _ in range(20)))
    await assert_chained(db, "acme", 60)


async def test_a_batch_of_several_projects_continues_each_chain(db: Database) -> None:
    reads = Reads(db)
    for _ in range(3):
        await asyncio.gather(*(reads.add(a_read(name)) for name in ("acme", "zenith", "acme")))
    await assert_chained(db, "acme", 6)
    await assert_chained(db, "zenith", 3)
