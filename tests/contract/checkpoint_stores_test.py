"""A file and a bucket make the same promises as stores of published checkpoints."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from obstore.store import LocalStore

from firmtrail.database.database import Database
from firmtrail.eventstore.proofs import TreeHead
from firmtrail.publishing import checkpoint
from firmtrail.publishing.checkpoint_store import BadStore, CheckpointStore, NoteChange
from firmtrail.publishing.minimum_sizes import MinimumSizes
from firmtrail.publishing.published_bucket import CheckpointBucket
from firmtrail.publishing.published_file import CheckpointFile
from firmtrail.publishing.publisher import Publisher
from firmtrail.recording.recorder import Recorder
from tests.fleet import register
from tests.publishing import ACME, SIGNER
from tests.s3 import BUCKET

type NewServer = Callable[[], CheckpointStore]
"""Returns one server's view of the shared store."""


@pytest.fixture(params=["file", "bucket"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> NewServer:
    if request.param == "file":
        return lambda: CheckpointFile(tmp_path / "checkpoints")
    request.getfixturevalue("s3_client")
    return lambda: CheckpointBucket.at(f"s3://{BUCKET}/prefix")


async def test_other_servers_read_the_changes_of_one(server: NewServer) -> None:
    first, second = server(), server()
    await first.check()
    assert await first.read() == {}
    changes = {"i/a/1": NoteChange(None, "one"), "i/b/1": NoteChange(None, "two")}
    assert await first.compare_and_set(changes) == set(changes)
    assert await second.read() == {"i/a/1": "one", "i/b/1": "two"}
    assert await second.compare_and_set({"i/a/1": NoteChange("one", "three")}) == {"i/a/1"}
    assert await first.read() == {"i/a/1": "three", "i/b/1": "two"}


async def test_a_change_of_an_outdated_note_is_not_made(server: NewServer) -> None:
    first, second = server(), server()
    await first.compare_and_set({"i/a/1": NoteChange(None, "one")})
    assert await second.compare_and_set({"i/a/1": NoteChange(None, "other")}) == set()
    await second.read()
    assert await second.compare_and_set({"i/a/1": NoteChange("one", "two")}) == {"i/a/1"}
    assert await first.compare_and_set({"i/a/1": NoteChange("one", "other")}) == set()
    assert await server().read() == {"i/a/1": "two"}


async def test_only_one_of_several_servers_makes_each_step(server: NewServer) -> None:
    servers, before = [server() for _ in range(8)], None
    for step in range(5):
        for each in servers:
            await each.read()
        made = await asyncio.gather(
            *(
                each.compare_and_set({"i/a/1": NoteChange(before, f"{step} of {number}")})
                for number, each in enumerate(servers)
            )
        )
        [winner] = [number for number, moved in enumerate(made) if moved]
        before = f"{step} of {winner}"
        assert await server().read() == {"i/a/1": before}


async def test_the_publishers_of_two_servers_publish_one_log(
    server: NewServer, db: Database, log_id: int, recorder: Recorder
) -> None:
    publishers = [Publisher(db, MinimumSizes(), SIGNER, server()) for _ in range(2)]
    for each in publishers:
        await each.check()
    for number in range(4):
        await register(recorder, log_id, f"d{number}")
        await asyncio.gather(*(each.following.round() for each in publishers))
    assert [each.following.problem for each in publishers] == [None, None]
    last = await publishers[0].served.newest_known(ACME)
    assert last is not None and last.checkpoint.size == 4
    assert (await server().read())[SIGNER.origin(ACME)] == last.note


async def test_a_rolled_back_database_is_refused(
    server: NewServer, db: Database, log_id: int, recorder: Recorder
) -> None:
    await register(recorder, log_id, "d1", "d2")
    await Publisher(db, MinimumSizes(), SIGNER, server()).following.round()
    note = (await server().read())[SIGNER.origin(ACME)]
    size = checkpoint.parse(note).size
    later = SIGNER.sign(ACME, TreeHead(size + 3, bytes(32)))
    store = server()
    await store.read()
    assert await store.compare_and_set({SIGNER.origin(ACME): NoteChange(note, later.note)})
    minimum_sizes = MinimumSizes()
    await Publisher(db, minimum_sizes, SIGNER, server()).check()
    assert ACME in minimum_sizes.refused


async def test_an_idle_round_sends_no_request_to_the_bucket(
    s3_client: Any, db: Database, log_id: int, recorder: Recorder
) -> None:
    await register(recorder, log_id, "d1")
    publisher = Publisher(db, MinimumSizes(), SIGNER, CheckpointBucket.at(f"s3://{BUCKET}/prefix"))
    await publisher.following.round()
    assert publisher.following.problem is None
    s3_client.delete_object(Bucket=BUCKET, Key=f"prefix/{SIGNER.origin(ACME)}")
    s3_client.delete_bucket(Bucket=BUCKET)
    await publisher.following.round()
    assert publisher.following.problem is None
    await register(recorder, log_id, "d2")
    await publisher.following.round()
    assert publisher.following.problem is not None


async def test_a_store_that_is_unreachable_or_bad_is_reported(
    s3_client: Any, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="s3://nowhere"):
        await CheckpointBucket.at("s3://nowhere/prefix").check()
    s3_client.put_object(Bucket=BUCKET, Key="prefix/i/a/1", Body=b"\xff")
    with pytest.raises(BadStore):
        await CheckpointBucket.at(f"s3://{BUCKET}/prefix").read()
    with pytest.raises(OSError, match="no file can be created in"):
        await CheckpointFile(tmp_path / "none" / "checkpoints").check()


async def test_a_store_without_conditional_writes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadStore, match="no conditional writes"):
        await CheckpointBucket(LocalStore(tmp_path), "a folder").check()


async def test_a_store_that_ignores_conditions_is_refused(
    s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store answers a conditional put like any other put."""

    async def answer(request: web.Request) -> web.Response:
        if request.method == "PUT":
            return web.Response(headers={"ETag": '"1"'})
        listed = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'
        return web.Response(text=listed, content_type="application/xml")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as careless:
        monkeypatch.setenv("AWS_ENDPOINT_URL", str(careless.make_url("/")))
        with pytest.raises(BadStore, match="ignores If-None-Match"):
            await CheckpointBucket.at(f"s3://{BUCKET}/prefix").check()
