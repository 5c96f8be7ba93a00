"""A log that differs from what was published is caught, refuses appends, can still be read, and can
be continued."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from firmtrail.commands.continue_log import StartedLog, continue_log
from firmtrail.database.database import Database, Unavailable
from firmtrail.events.log import LogContinued
from firmtrail.eventstore import lineage, log, merkle, short_streams
from firmtrail.projections import device_current, device_pages
from firmtrail.publishing import checkpoint, published
from firmtrail.publishing.checkpoint import BadNote, Checkpoint
from firmtrail.publishing.minimum_sizes import LogRefused, MinimumSizes
from firmtrail.publishing.published_file import CheckpointFile
from firmtrail.recording.recorder import Recorder
from firmtrail.recording.reports import ReportReceipt
from firmtrail.rules.device import Refused
from tests.databases import new_log, opened, read, write
from tests.fleet import receipts, register, report
from tests.losses import Place, delete_events, delete_tail, owned
from tests.people import add_project, new_access, recorded
from tests.postgres_server import PostgresServer
from tests.publishing import ACME, SIGNER, new_publisher
from tests.publishing import opened as opened_note
from tests.replay import differences

EARLY, LATE = 6, 10
"""The sizes that were published."""
CUT = 8


class Life(NamedTuple):
    """The published checkpoints of a log, and databases that contain it; none of them is open."""

    store: Path
    now: str
    then: str
    """A copy from the time of the first checkpoint."""
    other: str
    """The database of another installation, with a log of the same name and size."""


@pytest.fixture(scope="module")
def place(back_end: PostgresServer | None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("fork"), back_end)


@pytest.fixture(scope="module")
async def lived(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Life:
    folder = tmp_path_factory.mktemp("lived")
    store, now, other = folder / "checkpoints", place.empty(), place.empty()
    await live(now, store, "d1", EARLY)
    then = place.copy(now)
    await live(now, store, "d1", LATE)
    await live(other, folder / "checkpoints of the other", "d2", LATE)
    return Life(store, now, then, other)


@pytest.fixture
def life(lived: Life, tmp_path: Path) -> Life:
    """The same, with a file of checkpoints that only this test uses."""
    store = tmp_path / "firmtrail.checkpoints"
    store.write_bytes(lived.store.read_bytes())
    return lived._replace(store=store)


async def live(url: str, store: Path, name: str, size: int) -> None:
    """Brings the log of acme to this size, and publishes it."""
    async with opened(url) as db:
        recorder = Recorder(db)
        if (log_id := await log.by_number(db, "acme", 1)) is None:
            log_id = await new_log(db)
            await register(recorder, log_id, name)
        for seq in range((await log.head(db, log_id)).size, size):
            await receipts(recorder, log_id, report(f"1.0.{seq}", device=name, seq=seq))
        await new_publisher(db, store).following.catch_up()


async def an_older_copy(place: Place, life: Life) -> str:
    return place.copy(life.then)


async def a_lost_tail(place: Place, life: Life) -> str:
    url = place.copy(life.now)
    await delete_tail(url, 1, CUT)
    return url


async def lost_events(place: Place, life: Life) -> str:
    url = place.copy(life.now)
    await delete_events(url, 1, CUT)
    return url


async def another_log_of_the_same_size(place: Place, life: Life) -> str:
    return place.copy(life.other)


type Loss = Callable[[Place, Life], Awaitable[str]]
LOSSES: tuple[
    tuple[Loss, str, int], ...
] = (  # the loss, the reported reason, the size that is left
    (an_older_copy, f"it ends at {EARLY}, but its checkpoint of size {LATE} is published", EARLY),
    (a_lost_tail, f"it ends at {CUT}, but its checkpoint of size {LATE} is published", CUT),
    (lost_events, f"it ends at {CUT}, but its checkpoint of size {LATE} is published", CUT),
    (another_log_of_the_same_size, f"its root at size {LATE} is", LATE),
)
each_loss = pytest.mark.parametrize(
    ("loss", "reason", "left"), LOSSES, ids=[loss.__name__ for loss, _, _ in LOSSES]
)


async def checkpoint_rows(db: Database) -> list[str]:
    return [note for [note] in await read(db, "SELECT note FROM checkpoints ORDER BY size")]


@each_loss
async def test_a_differing_log_is_caught_at_the_start(
    place: Place, life: Life, loss: Loss, reason: str, left: int
) -> None:
    last = CheckpointFile(life.store).read_now()
    async with opened(await loss(place, life)) as db:
        minimum_sizes = MinimumSizes()
        recorder = Recorder(db, minimum_sizes)
        publisher = new_publisher(db, life.store, minimum_sizes)
        await publisher.check()
        assert reason in minimum_sizes.refused[ACME]
        before = await checkpoint_rows(db)
        for refused in (recorder.report(1, [report("9.9.9")]), register(recorder, 1, "d9")):
            with pytest.raises(LogRefused) as error:
                await refused
            assert "acme/1" in str(error.value)
            assert reason in str(error.value)
            assert "firmtrail log continue --project acme" in str(error.value)
        await publisher.following.catch_up()
        assert CheckpointFile(life.store).read_now() == last
        assert await checkpoint_rows(db) == before
        found = (
            await device_pages.page(db, (1, "acme"), device_current.Filter(), after="", limit=9)
        ).devices
        assert len(found) == 1


@each_loss
@pytest.mark.parametrize("grown", [1, 9])
async def test_a_differing_log_is_caught_before_it_is_published(
    place: Place, life: Life, loss: Loss, reason: str, left: int, grown: int
) -> None:
    """A server recorded more events on it without knowing what was published."""
    last = CheckpointFile(life.store).read_now()
    async with opened(await loss(place, life)) as db:
        unknowing = Recorder(db)
        [device] = (
            await device_pages.page(db, (1, "acme"), device_current.Filter(), after="", limit=9)
        ).devices
        for seq in range(100, 100 + grown):
            await receipts(unknowing, 1, report(device=device.state.device, seq=seq))
        before = await checkpoint_rows(db)
        minimum_sizes = MinimumSizes()
        publisher = new_publisher(db, life.store, minimum_sizes)
        await publisher.following.catch_up()
        assert ACME in minimum_sizes.refused
        assert CheckpointFile(life.store).read_now() == last
        assert await checkpoint_rows(db) == before
        with pytest.raises(LogRefused):
            await Recorder(db, minimum_sizes).report(1, [report("9.9.9")])


@each_loss
async def test_the_project_continues_in_a_new_log(
    place: Place, life: Life, loss: Loss, reason: str, left: int
) -> None:
    published = CheckpointFile(life.store).read_now()[SIGNER.origin(ACME)]
    async with opened(await loss(place, life)) as db:
        minimum_sizes = MinimumSizes()
        recorder = Recorder(db, minimum_sizes)
        publisher = new_publisher(db, life.store, minimum_sizes)
        await publisher.check()
        last = await publisher.served.newest_known(ACME)
        assert last is not None
        done = await continue_log(
            db, 1, checkpoint=last.note, above=minimum_sizes.highest_number("acme"), actor="system"
        )
        assert done == StartedLog(2, 1, left)
        new_id = await log.by_number(db, "acme", 2)
        assert new_id is not None
        assert (await recorded(db, new_id)) == [("log/1", LogContinued(1, left, published))]
        device = "d2" if loss is another_log_of_the_same_size else "d1"
        known = report(f"1.0.{left - 1}", device=device, seq=left - 1)
        lost = report("2.0.0", device=device, seq=left)
        [again, new] = await receipts(recorder, new_id, known, lost)
        assert (again.log, again.position, again.duplicate) == (1, left - 1, True)
        assert (new.log, new.position, new.duplicate) == (2, 1, False)
        await publisher.following.catch_up()
        assert opened_note(
            CheckpointFile(life.store).read_now()["firmtrail/acme/2"], ACME._replace(number=2)
        )
        assert CheckpointFile(life.store).read_now()["firmtrail/acme/1"] == published
        assert minimum_sizes.refused == {}
        assert await differences(db, new_id) == []
        with pytest.raises(Unavailable, match="new log"):
            await recorder.report(1, [known])


async def test_a_log_continues_a_log_that_continues_another(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    sent = [report(f"1.0.{seq}", seq=seq, detail=f"text {seq}") for seq in range(9)]
    await register(recorder, log_id, "d1", model="m")
    current = log_id
    first: list[ReportReceipt] = []
    for number in range(3):
        first += await receipts(recorder, current, *sent[number * 3 : number * 3 + 3])
        assert await differences(db, current) == []
        await continue_log(db, current, checkpoint=None, above=0, actor="system")
        following = await log.by_number(db, "acme", number + 2)
        assert following is not None
        current = following
    assert [(each.log, each.position) for each in first] == [
        *((1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)),
    ]
    assert await differences(db, current) == []
    again = await receipts(recorder, current, *sent)
    assert again == [replace(each, duplicate=True) for each in first]
    assert await lineage.first_position(db, current) == -(4 + 4 + 4)
    bare = report("1.0.8", "running")
    [last] = await receipts(recorder, current, bare)
    assert (last.log, last.position, last.duplicate) == (3, 3, True)
    stream = [position for position, _, _ in await short_streams.read(db, current, "device/d1")]
    assert stream == [-12, -11, -10, -9, -7, -6, -5, -3, -2, -1]


async def test_a_log_can_be_continued_only_once(db: Database, log_id: int) -> None:
    await continue_log(db, log_id, checkpoint=None, above=0, actor="system")
    with pytest.raises(Refused) as refused:
        await continue_log(db, log_id, checkpoint=None, above=0, actor="system")
    assert refused.value.code == "log_closed"


async def test_an_invented_checkpoint_in_the_database_hides_nothing(
    place: Place, life: Life
) -> None:
    """The database's owner rewrote the log: its entries agree with the invented checkpoint, but the
    file outside the database does not."""
    url = place.copy(life.other)
    last = CheckpointFile(life.store).read_now()
    async with opened(url) as db:
        recorder = Recorder(db)
        await receipts(recorder, 1, report("6.6.6", device="d2"))
        head = await log.head(db, 1)
        made_up = Checkpoint("firmtrail/acme/1", head.size, merkle.root(head.frontier))
        note = checkpoint.sign(made_up, Ed25519PrivateKey.generate())
        async with db.transaction() as tx:
            await tx.run(published.insert([(1, head.size, note)]))
        publisher = new_publisher(db, life.store)
        await publisher.check()
        assert ACME in publisher.minimum_sizes.refused
        unknowing = new_publisher(db, life.store)
        await receipts(recorder, 1, report("6.6.7", device="d2"))
        await unknowing.following.catch_up()
        assert ACME in unknowing.minimum_sizes.refused
        assert CheckpointFile(life.store).read_now() == last
        for size in (3, 7):
            with pytest.raises((log.Corrupt, BadNote)):
                await unknowing.served.at_size(1, ACME, size)


@pytest.mark.parametrize("size", [LATE + 1, LATE + 9])
async def test_a_row_that_is_not_a_checkpoint_makes_the_log_refused(
    place: Place, life: Life, size: int
) -> None:
    async with opened(place.copy(life.now)) as db:
        recorder, publisher = Recorder(db), new_publisher(db, life.store)
        async with db.transaction() as tx:
            await tx.run(published.insert([(1, size, "no checkpoint")]))
        await receipts(recorder, 1, report("6.6.6", seq=LATE))
        await publisher.check()
        assert f"size {size}" in publisher.minimum_sizes.refused[ACME]
        await publisher.following.catch_up()
        assert opened_note(CheckpointFile(life.store).read_now()[SIGNER.origin(ACME)]).size == LATE


async def test_events_after_a_missing_position_do_not_count(place: Place, life: Life) -> None:
    url = place.copy(life.now)
    async with owned(url) as run:
        await run(f"DELETE FROM events WHERE position = {CUT}")
    async with opened(url) as db:
        done = await continue_log(db, 1, checkpoint=None, above=0, actor="system")
        assert done.size == CUT
        new_id = await log.by_number(db, "acme", done.number)
        assert new_id is not None
        after_hole = report(f"1.0.{LATE - 1}", seq=LATE - 1)
        [receipt] = await receipts(Recorder(db), new_id, after_hole)
        assert (receipt.log, receipt.position, receipt.duplicate) == (2, 1, False)
        assert await differences(db, new_id) == []


async def test_no_size_is_signed_that_the_entries_do_not_prove(place: Place, life: Life) -> None:
    url = place.copy(life.now)
    async with owned(url) as run:
        await run("UPDATE events SET entry = '{}' WHERE position = 2")
    async with opened(url) as db:
        publisher = new_publisher(db, life.store)
        with pytest.raises(log.Corrupt):
            await publisher.served.at_size(1, ACME, EARLY - 1)


async def test_after_a_lost_database_no_origin_is_used_a_second_time(
    place: Place, life: Life, request: pytest.FixtureRequest
) -> None:
    async with opened(place.empty()) as db:
        minimum_sizes = MinimumSizes()
        publisher = new_publisher(db, life.store, minimum_sizes)
        await publisher.check()
        assert minimum_sizes.highest_number("acme") == 1
        access = new_access(db)
        log_id = await add_project(db, access, "acme", above=minimum_sizes.highest_number("acme"))
        access.hasher.close()
        assert (await log.head(db, log_id)).number == 2
        await publisher.following.catch_up()
        assert set(CheckpointFile(life.store).read_now()) == {
            "firmtrail/acme/1",
            "firmtrail/acme/2",
        }
        assert minimum_sizes.refused == {}


async def test_a_log_that_is_restored_takes_appends_again(place: Place, life: Life) -> None:
    async with opened(place.copy(life.now)) as db:
        minimum_sizes = MinimumSizes()
        publisher = new_publisher(db, life.store, minimum_sizes)
        recorder = Recorder(db, minimum_sizes)
        await write(db, f"UPDATE log_heads SET size = {LATE - 1}")
        await publisher.check()
        with pytest.raises(LogRefused):
            await recorder.report(1, [report("9.9.9")])
        await write(db, f"UPDATE log_heads SET size = {LATE}")
        await publisher.following.catch_up()
        assert [each.position for each in await receipts(recorder, 1, report("9.9.9"))] == [LATE]


async def test_a_database_that_was_away_is_compared_before_any_write(
    place: Place, life: Life
) -> None:
    async with opened(place.copy(life.then)) as db:
        minimum_sizes = MinimumSizes()
        minimum_sizes.is_checking = True
        recorder = Recorder(db, minimum_sizes)
        publisher = new_publisher(db, life.store, minimum_sizes)
        with pytest.raises(Unavailable, match="away"):
            await recorder.report(1, [report("9.9.9")])
        await publisher.following.round()
        with pytest.raises(LogRefused):
            await recorder.report(1, [report("9.9.9")])


async def test_a_server_on_an_older_copy_loses_against_one_on_the_right_database(
    place: Place, life: Life
) -> None:
    """Both publish to one file, from databases that were once the same."""
    now, then = place.copy(life.now), place.copy(life.then)
    async with opened(now) as right, opened(then) as rolled_back:
        for db, version, seqs in ((rolled_back, "6.6.6", range(6, 20)), (right, "1.1.0", [10])):
            recorder = Recorder(db)
            for seq in seqs:
                await receipts(recorder, 1, report(version, seq=seq))
        publishers = [new_publisher(db, life.store) for db in (rolled_back, right)]
        for publisher in publishers * 2:
            await publisher.following.catch_up()
        assert list(publishers[0].minimum_sizes.refused) == [ACME]
        assert publishers[1].minimum_sizes.refused == {}
        last = opened_note(CheckpointFile(life.store).read_now()[SIGNER.origin(ACME)])
        head = await log.head(right, 1)
        assert (last.size, last.root) == (head.size, merkle.root(head.frontier))
