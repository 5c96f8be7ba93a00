"""The publisher signs only committed events, proves each step, and never signs two roots for one
size."""

import asyncio
import random
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmtrail.database.database import Database, Statement
from firmtrail.eventstore import log, tree
from firmtrail.eventstore.proofs import TreeHead, verify_consistency
from firmtrail.publishing import checkpoint_store, published
from firmtrail.publishing.checkpoint import BadNote, Checkpoint
from firmtrail.publishing.minimum_sizes import LogName, MinimumSizes
from firmtrail.publishing.published_file import CheckpointFile
from firmtrail.publishing.publisher import Publisher
from firmtrail.publishing.signer import Signer
from firmtrail.recording.recorder import Recorder
from tests.databases import INSTANCE, new_log, read
from tests.fleet import receipts, register, report
from tests.patience import PATIENCE_S
from tests.publishing import ACME, SIGNER, new_publisher, opened

GROWTHS = (1, 2, 5, 250, 260, 3)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "firmtrail.checkpoints"


@pytest.fixture
def publisher(db: Database, recorder: Recorder, store: Path) -> Publisher:
    return new_publisher(db, store, recorder.minimum_sizes)


async def grow(recorder: Recorder, log_id: int, events: int) -> None:
    await receipts(
        recorder, log_id, *(report(report_id=f"{random.random()}") for _ in range(events))
    )


def written(store: Path) -> int:
    return store.stat().st_mtime_ns


def lose(store: Path) -> None:
    store.unlink()


def spoil(store: Path) -> None:
    store.write_bytes(b"{")


async def rows(db: Database, log_id: int) -> list[Checkpoint]:
    """Returns every checkpoint in the database, the smallest first, each with a good signature."""
    found = await read(db, "SELECT note FROM checkpoints WHERE log_id = $1 ORDER BY size", log_id)
    return [opened(note) for [note] in found]


async def assert_never_forked(db: Database, log_id: int, store: Path) -> None:
    """Asserts that each checkpoint continues the one before it, and that the last one is in the
    store."""
    checkpoints = await rows(db, log_id)
    for before, after in pairwise(checkpoints):
        proof = await tree.consistency(db, log_id, before.size, after.size)
        heads = [TreeHead(each.size, each.root) for each in (before, after)]
        assert verify_consistency(proof, *heads)
    for checkpoint in checkpoints:
        assert checkpoint.root == await tree.root(db, log_id, checkpoint.size)
    assert opened(CheckpointFile(store).read_now()[checkpoints[-1].origin]) == checkpoints[-1]


async def test_every_checkpoint_continues_the_one_before(
    db: Database, log_id: int, recorder: Recorder, publisher: Publisher, store: Path
) -> None:
    await register(recorder, log_id, "d1")
    await publisher.following.catch_up()
    for events in GROWTHS:
        await grow(recorder, log_id, events)
        await publisher.following.catch_up()
        head = await log.head(db, log_id)
        last = await publisher.served.latest(log_id)
        assert last is not None
        assert opened(last.note).size == last.size == head.size
    assert len(await rows(db, log_id)) == 1 + len(GROWTHS)
    await assert_never_forked(db, log_id, store)


async def test_old_checkpoints_are_thinned_out_and_signed_again_on_request(
    db: Database, log_id: int, recorder: Recorder, publisher: Publisher, store: Path
) -> None:
    """Of each 256 events the last one stays. What was deleted is answered as it was published."""
    await register(recorder, log_id, "d1")
    await publisher.following.catch_up()
    first = {each.size: each for each in await published_notes(db, log_id)}
    for events in (99, 100, 56, 1, 1, 254, 300, 5, 3500, 1, 300, 700):
        await grow(recorder, log_id, events)
        await publisher.following.catch_up()
        first |= {each.size: each for each in await published_notes(db, log_id)}
    sizes = [each.size for each in await rows(db, log_id)]
    assert sorted(first) == [1, 100, 200, 256, 257, 258, 512, 812, 817, 4317, 4318, 4618, 5318]
    assert sizes == [256, 512, 817, 4317, 4318, 4618, 5318]
    for size, note in first.items():
        assert await publisher.served.at_size(log_id, ACME, size) == note
    await assert_never_forked(db, log_id, store)


async def published_notes(db: Database, log_id: int) -> list[published.PublishedNote]:
    return await published.page(db, log_id, below=1 << 40, limit=1000)


async def test_a_log_that_did_not_grow_is_not_signed_again(
    db: Database, log_id: int, recorder: Recorder, publisher: Publisher, store: Path
) -> None:
    await publisher.following.catch_up()
    assert CheckpointFile(store).read_now() == {}
    await register(recorder, log_id, "d1")
    await publisher.following.catch_up()
    before = written(store)
    await publisher.following.catch_up()
    assert written(store) == before
    assert len(await rows(db, log_id)) == 1


async def test_uncommitted_events_are_not_signed(
    db: Database, log_id: int, recorder: Recorder, publisher: Publisher
) -> None:
    await register(recorder, log_id, "d1")
    await publisher.following.catch_up()
    async with db.transaction() as tx:
        [locked] = await tx.run(log.lock(log_id))
        head = log.head_of(locked)
        await tx.run(*log.append(head, [log.NewEntry("s", "e", "{}")], [], head.now_ms))
        await publisher.following.catch_up()
        assert [each.size for each in await rows(db, log_id)] == [1]
    await publisher.following.catch_up()
    assert [each.size for each in await rows(db, log_id)] == [1, 2]


async def test_many_logs_are_published_page_by_page(
    db: Database,
    recorder: Recorder,
    publisher: Publisher,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(published, "PAGE_LOGS", 4)
    logs = [await new_log(db, f"p{n}") for n in range(10)]
    await asyncio.gather(*(register(recorder, log_id, "d1") for log_id in logs))
    await publisher.following.catch_up()
    assert len(CheckpointFile(store).read_now()) == len(logs)
    assert [page async for page in published.unpublished_logs(db)] == [[]]


async def test_servers_that_publish_in_parallel_make_each_step_once(
    db: Database, log_id: int, recorder: Recorder, store: Path
) -> None:
    publishers = [new_publisher(db, store) for _ in range(3)]
    await register(recorder, log_id, "d1")
    for events in range(1, 9):
        await asyncio.gather(
            grow(recorder, log_id, events), *(each.following.catch_up() for each in publishers)
        )
    await publishers[0].following.catch_up()
    await assert_never_forked(db, log_id, store)
    assert (await rows(db, log_id))[-1].size == (await log.head(db, log_id)).size


@pytest.mark.parametrize("grown", [0, 3])
async def test_a_crash_between_the_file_and_the_row_is_repaired(
    db: Database, log_id: int, recorder: Recorder, publisher: Publisher, store: Path, grown: int
) -> None:
    await register(recorder, log_id, "d1")
    await publisher.following.catch_up()
    await grow(recorder, log_id, 2)
    head = await log.head(db, log_id)
    root = await tree.root(db, log_id, head.size)
    signed = SIGNER.sign(ACME, TreeHead(head.size, root))
    before = CheckpointFile(store).read_now()[SIGNER.origin(ACME)]
    move = checkpoint_store.NoteChange(before, signed.note)
    assert CheckpointFile(store).compare_and_set_now({SIGNER.origin(ACME): move})
    if grown:
        await grow(recorder, log_id, grown)
    after_restart = new_publisher(db, store)
    await after_restart.check()
    await after_restart.following.catch_up()
    assert not after_restart.minimum_sizes.refused
    expected = [1, 3, 3 + grown] if grown else [1, 3]
    assert [each.size for each in await rows(db, log_id)] == expected
    await assert_never_forked(db, log_id, store)


async def test_a_lost_file_is_rebuilt_from_the_database(
    db: Database, log_id: int, recorder: Recorder, publisher: Publisher, store: Path
) -> None:
    await register(recorder, log_id, "d1")
    await publisher.following.catch_up()
    lose(store)
    await grow(recorder, log_id, 1)
    again = new_publisher(db, store)
    await again.check()
    await again.following.catch_up()
    await assert_never_forked(db, log_id, store)


async def test_another_key_does_not_overwrite_the_file_of_this_one(
    db: Database, log_id: int, recorder: Recorder, publisher: Publisher, store: Path
) -> None:
    await register(recorder, log_id, "d1")
    await publisher.following.catch_up()
    other = Signer(INSTANCE, Ed25519PrivateKey.generate())
    with pytest.raises(BadNote):
        await Publisher(db, MinimumSizes(), other, CheckpointFile(store)).check()


async def test_another_instance_shares_the_file_and_nothing_else(
    db: Database, log_id: int, recorder: Recorder, publisher: Publisher, store: Path
) -> None:
    await register(recorder, log_id, "d1")
    await publisher.following.catch_up()
    other = Publisher(
        db, MinimumSizes(), Signer("other", Ed25519PrivateKey.generate()), CheckpointFile(store)
    )
    await other.check()
    assert other._known._stored == {}
    assert SIGNER.name("firmtrail/acme/1") == ACME
    assert [SIGNER.name(each) for each in ("other/acme/1", "firmtrail/a/b/1", "firmtrail")] == [
        None
    ] * 3


async def test_any_size_up_to_the_published_one_is_signed_on_request(
    db: Database, log_id: int, recorder: Recorder, publisher: Publisher
) -> None:
    await register(recorder, log_id, "d1")
    await grow(recorder, log_id, 9)
    assert await publisher.served.at_size(log_id, ACME, 3) is None
    await publisher.following.catch_up()
    await grow(recorder, log_id, 1)
    for size in range(1, 11):
        signed = await publisher.served.at_size(log_id, ACME, size)
        assert signed is not None
        assert opened(signed.note).root == await tree.root(db, log_id, size)
    assert await publisher.served.at_size(log_id, ACME, 11) is None
    assert len(await rows(db, log_id)) == 1


async def test_a_wait_for_a_checkpoint_ends_with_the_round_that_publishes_it(
    log_id: int, recorder: Recorder, publisher: Publisher
) -> None:
    await register(recorder, log_id, "d1")
    waiting = asyncio.create_task(publisher.served.covering(log_id, 1))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await publisher.following.round()
    async with asyncio.timeout(PATIENCE_S):
        assert (await waiting).size == 1


async def test_of_several_changes_of_one_note_one_is_made(store: Path) -> None:
    def move(n: int) -> frozenset[str]:
        return CheckpointFile(store).compare_and_set_now(
            {
                "a": checkpoint_store.NoteChange(None, f"{n}"),
                f"b{n}": checkpoint_store.NoteChange(None, "x"),
            },
        )

    made = await asyncio.gather(*(asyncio.to_thread(move, n) for n in range(20)))
    assert sum("a" in each for each in made) == 1
    assert len(CheckpointFile(store).read_now()) == 21
    assert sorted(path.name for path in store.parent.glob(f"{store.name}*")) == [
        store.name,
        f"{store.name}.lock",
    ]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff"])
def test_a_file_that_contains_no_checkpoints_is_refused(store: Path, content: bytes) -> None:
    store.write_bytes(content)
    with pytest.raises(checkpoint_store.BadStore):
        CheckpointFile(store).read_now()
    with pytest.raises(checkpoint_store.BadStore):
        CheckpointFile(store).compare_and_set_now({"a": checkpoint_store.NoteChange(None, "x")})
    assert store.read_bytes() == content


async def test_a_failed_round_is_reported_and_the_next_one_catches_up(
    db: Database, log_id: int, recorder: Recorder, publisher: Publisher, store: Path
) -> None:
    await register(recorder, log_id, "d1")
    spoil(store)
    await publisher.following.round()
    problem = publisher.following.problem
    assert problem is not None
    assert await rows(db, log_id) == []
    lose(store)
    await publisher.following.round()
    problem = publisher.following.problem
    assert problem is None
    assert len(await rows(db, log_id)) == 1


async def test_a_checkpoint_that_could_not_be_stored_is_not_served(
    db: Database, log_id: int, recorder: Recorder, tmp_path: Path
) -> None:
    publisher = new_publisher(
        db, tmp_path / "no such folder" / "checkpoints", recorder.minimum_sizes
    )
    await register(recorder, log_id, "d1")
    await publisher.following.round()
    assert publisher.following.problem is not None
    assert await publisher.served.latest(log_id) is None
    assert await receipts(recorder, log_id, report()), "commits continue"


async def test_a_checkpoint_can_neither_be_changed_nor_deleted(
    db: Database, log_id: int, recorder: Recorder, publisher: Publisher
) -> None:
    await register(recorder, log_id, "d1")
    await publisher.following.catch_up()
    for text in (
        "UPDATE checkpoints SET note = 'x'",
        "DELETE FROM checkpoints",
        "INSERT INTO checkpoints (log_id, size, note) VALUES (1, 1, 'x')",
    ):
        with pytest.raises(Exception, match=r"append-only|unique"):
            async with db.transaction() as tx:
                await tx.run(Statement(text))
    assert len(await rows(db, log_id)) == 1


def test_no_two_logs_have_the_same_origin() -> None:
    names = [LogName("a", 1), LogName("a", 11), LogName("a-1", 1), LogName("b", 1)]
    assert len({SIGNER.origin(name) for name in names}) == len(names)
