"""A log that is not what was published: caught, kept from growing, still read, and gone on from."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from firmtrail.commands.continue_log import Continuation, continue_log
from firmtrail.database.database import Database, Unavailable
from firmtrail.events.log import LogContinued
from firmtrail.eventstore import continued, log, merkle
from firmtrail.projections import device_current
from firmtrail.publishing import checkpoint, published, published_file
from firmtrail.publishing.checkpoint import BadNote, Checkpoint
from firmtrail.publishing.minimum_sizes import Floors, LogRefused
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
"""Sizes that were published."""
CUT = 8


class Life(NamedTuple):
    """What was published of a log, and the databases that there are of it: nobody has them open."""

    store: Path
    now: str
    then: str
    """As it was at the first checkpoint."""
    other: str
    """Another installation's, with a log of the same name and size."""


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
    """With a file of checkpoints of the test's own."""
    store = tmp_path / "firmtrail.checkpoints"
    store.write_bytes(lived.store.read_bytes())
    return lived._replace(store=store)


async def live(url: str, store: Path, name: str, size: int) -> None:
    """Bring the log of acme to this size, and publish it."""
    async with opened(url) as db:
        recorder = Recorder(db)
        if (log_id := await log.by_number(db, "acme", 1)) is None:
            log_id = await new_log(db)
            await register(recorder, log_id, name)
        for seq in range((await log.head(db, log_id)).size, size):
            await receipts(recorder, log_id, report(f"1.0.{seq}", device=name, seq=seq))
        await new_publisher(db, store).publish()


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
LOSSES: tuple[tuple[Loss, str, int], ...] = (  # how, what is said of it, how much is left
    (an_older_copy, f"it ends at {EARLY}, but its checkpoint of size {LATE} is out", EARLY),
    (a_lost_tail, f"it ends at {CUT}, but its checkpoint of size {LATE} is out", CUT),
    (lost_events, f"it ends at {CUT}, but its checkpoint of size {LATE} is out", CUT),
    (another_log_of_the_same_size, f"its root at size {LATE} is", LATE),
)
each_loss = pytest.mark.parametrize(
    ("loss", "said", "left"), LOSSES, ids=[loss.__name__ for loss, _, _ in LOSSES]
)


async def checkpoint_rows(db: Database) -> list[str]:
    return [note for [note] in await read(db, "SELECT note FROM checkpoints ORDER BY size")]


@each_loss
async def test_it_is_caught_at_the_start(
    place: Place, life: Life, loss: Loss, said: str, left: int
) -> None:
    last = published_file.read(life.store)
    async with opened(await loss(place, life)) as db:
        floors = Floors()
        recorder, publisher = Recorder(db, floors), new_publisher(db, life.store, floors)
        await publisher.check()
        assert said in floors.refused[ACME]
        before = await checkpoint_rows(db)
        for refused in (recorder.report(1, [report("9.9.9")]), register(recorder, 1, "d9")):
            with pytest.raises(LogRefused) as error:
                await refused
            assert "acme/1" in str(error.value)
            assert said in str(error.value)
            assert "firmtrail log continue --project acme" in str(error.value)
        await publisher.publish()
        assert published_file.read(life.store) == last
        assert await checkpoint_rows(db) == before
        _, found = await device_current.page(
            db, (1, "acme"), device_current.Filter(), after="", limit=9
        )
        assert len(found) == 1


@each_loss
@pytest.mark.parametrize("grown", [1, 9])
async def test_it_is_caught_before_it_is_published(
    place: Place, life: Life, loss: Loss, said: str, left: int, grown: int
) -> None:
    """By a server that recorded more on it, not knowing what was published."""
    last = published_file.read(life.store)
    async with opened(await loss(place, life)) as db:
        unknowing = Recorder(db)
        _, [device] = await device_current.page(
            db, (1, "acme"), device_current.Filter(), after="", limit=9
        )
        for seq in range(100, 100 + grown):
            await receipts(unknowing, 1, report(device=device.state.device, seq=seq))
        before = await checkpoint_rows(db)
        floors = Floors()
        publisher = new_publisher(db, life.store, floors)
        await publisher.publish()
        assert ACME in floors.refused
        assert published_file.read(life.store) == last
        assert await checkpoint_rows(db) == before
        with pytest.raises(LogRefused):
            await Recorder(db, floors).report(1, [report("9.9.9")])


@each_loss
async def test_the_project_goes_on_in_a_new_log(
    place: Place, life: Life, loss: Loss, said: str, left: int
) -> None:
    published = published_file.read(life.store)[SIGNER.origin(ACME)]
    async with opened(await loss(place, life)) as db:
        floors = Floors()
        recorder, publisher = Recorder(db, floors), new_publisher(db, life.store, floors)
        await publisher.check()
        last = await publisher.last(ACME)
        assert last is not None
        done = await continue_log(
            db, 1, checkpoint=last.note, above=floors.number("acme"), actor="system"
        )
        assert done == Continuation(2, 1, left)
        new_id = await log.by_number(db, "acme", 2)
        assert new_id is not None
        assert (await recorded(db, new_id)) == [("log/1", LogContinued(1, left, published))]
        device = "d2" if loss is another_log_of_the_same_size else "d1"
        known = report(f"1.0.{left - 1}", device=device, seq=left - 1)
        lost = report("2.0.0", device=device, seq=left)
        [again, new] = await receipts(recorder, new_id, known, lost)
        assert (again.log, again.position, again.duplicate) == (1, left - 1, True)
        assert (new.log, new.position, new.duplicate) == (2, 1, False)
        await publisher.publish()
        assert opened_note(
            published_file.read(life.store)["firmtrail/acme/2"], ACME._replace(number=2)
        )
        assert published_file.read(life.store)["firmtrail/acme/1"] == published
        assert floors.refused == {}
        assert await differences(db, new_id) == []
        with pytest.raises(Unavailable, match="new log"):
            await recorder.report(1, [known])


async def test_a_log_goes_on_from_one_that_went_on(
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
    assert await continued.first(db, current) == -(4 + 4 + 4)
    bare = report("1.0.8", "running")
    [last] = await receipts(recorder, current, bare)
    assert (last.log, last.position, last.duplicate) == (3, 3, True)
    stream = [position for position, _, _ in await log.read_stream(db, current, "device/d1")]
    assert stream == [-12, -11, -10, -9, -7, -6, -5, -3, -2, -1]


async def test_of_two_that_go_on_one_does(db: Database, log_id: int) -> None:
    await continue_log(db, log_id, checkpoint=None, above=0, actor="system")
    with pytest.raises(Refused) as refused:
        await continue_log(db, log_id, checkpoint=None, above=0, actor="system")
    assert refused.value.code == "log_closed"


async def test_a_checkpoint_made_up_in_the_database_hides_nothing(place: Place, life: Life) -> None:
    """By its owner, who rewrote the log: the entries agree with it, the file outside does not."""
    url = place.copy(life.other)
    last = published_file.read(life.store)
    async with opened(url) as db:
        recorder = Recorder(db)
        await receipts(recorder, 1, report("6.6.6", device="d2"))
        head = await log.head(db, 1)
        made_up = Checkpoint("firmtrail/acme/1", head.size, merkle.root(head.frontier))
        note = checkpoint.sign(made_up, Ed25519PrivateKey.generate())
        async with db.transaction() as tx:
            await tx.run(published.add([(1, head.size, note)]))
        publisher = new_publisher(db, life.store)
        await publisher.check()
        assert ACME in publisher.floors.refused
        unknowing = new_publisher(db, life.store)
        await receipts(recorder, 1, report("6.6.7", device="d2"))
        await unknowing.publish()
        assert ACME in unknowing.floors.refused
        assert published_file.read(life.store) == last
        for size in (3, 7):
            with pytest.raises((log.Corrupt, BadNote)):
                await unknowing.signed(1, ACME, size)


@pytest.mark.parametrize("size", [LATE + 1, LATE + 9])
async def test_a_row_that_is_no_checkpoint_is_told_and_not_believed(
    place: Place, life: Life, size: int
) -> None:
    async with opened(place.copy(life.now)) as db:
        recorder, publisher = Recorder(db), new_publisher(db, life.store)
        async with db.transaction() as tx:
            await tx.run(published.add([(1, size, "no checkpoint")]))
        await receipts(recorder, 1, report("6.6.6", seq=LATE))
        await publisher.check()
        assert f"size {size}" in publisher.floors.refused[ACME]
        await publisher.publish()
        assert opened_note(published_file.read(life.store)[SIGNER.origin(ACME)]).size == LATE


async def test_what_stands_behind_a_hole_does_not_count(place: Place, life: Life) -> None:
    url = place.copy(life.now)
    async with owned(url) as run:
        await run(f"DELETE FROM events WHERE position = {CUT}")
    async with opened(url) as db:
        done = await continue_log(db, 1, checkpoint=None, above=0, actor="system")
        assert done.size == CUT
        new_id = await log.by_number(db, "acme", done.number)
        assert new_id is not None
        behind = report(f"1.0.{LATE - 1}", seq=LATE - 1)
        [receipt] = await receipts(Recorder(db), new_id, behind)
        assert (receipt.log, receipt.position, receipt.duplicate) == (2, 1, False)
        assert await differences(db, new_id) == []


async def test_no_size_is_signed_that_the_entries_do_not_prove(place: Place, life: Life) -> None:
    url = place.copy(life.now)
    async with owned(url) as run:
        await run("UPDATE events SET entry = '{}' WHERE position = 2")
    async with opened(url) as db:
        publisher = new_publisher(db, life.store)
        with pytest.raises(log.Corrupt):
            await publisher.signed(1, ACME, EARLY - 1)


async def test_a_lost_database_gives_no_origin_a_second_time(
    place: Place, life: Life, request: pytest.FixtureRequest
) -> None:
    async with opened(place.empty()) as db:
        floors = Floors()
        publisher = new_publisher(db, life.store, floors)
        await publisher.check()
        assert floors.number("acme") == 1
        access = new_access(db)
        log_id = await add_project(db, access, "acme", above=floors.number("acme"))
        access.hasher.close()
        assert (await log.head(db, log_id)).number == 2
        await publisher.publish()
        assert set(published_file.read(life.store)) == {"firmtrail/acme/1", "firmtrail/acme/2"}
        assert floors.refused == {}


async def test_a_log_that_is_brought_back_is_written_again(place: Place, life: Life) -> None:
    async with opened(place.copy(life.now)) as db:
        floors = Floors()
        publisher = new_publisher(db, life.store, floors)
        recorder = Recorder(db, floors)
        await write(db, f"UPDATE log_heads SET size = {LATE - 1}")
        await publisher.check()
        with pytest.raises(LogRefused):
            await recorder.report(1, [report("9.9.9")])
        await write(db, f"UPDATE log_heads SET size = {LATE}")
        await publisher.publish()
        assert [each.position for each in await receipts(recorder, 1, report("9.9.9"))] == [LATE]


async def test_nobody_writes_until_a_database_that_was_away_is_compared(
    place: Place, life: Life
) -> None:
    async with opened(place.copy(life.then)) as db:
        floors = Floors()
        floors.is_checking = True
        recorder, publisher = Recorder(db, floors), new_publisher(db, life.store, floors)
        with pytest.raises(Unavailable, match="away"):
            await recorder.report(1, [report("9.9.9")])
        await publisher.round()
        with pytest.raises(LogRefused):
            await recorder.report(1, [report("9.9.9")])


async def test_a_server_on_an_older_copy_loses_against_one_on_the_right_database(
    place: Place, life: Life
) -> None:
    """Both publish to one file, from databases that were the same once."""
    now, then = place.copy(life.now), place.copy(life.then)
    async with opened(now) as right, opened(then) as rolled_back:
        for db, version, seqs in ((rolled_back, "6.6.6", range(6, 20)), (right, "1.1.0", [10])):
            recorder = Recorder(db)
            for seq in seqs:
                await receipts(recorder, 1, report(version, seq=seq))
        publishers = [new_publisher(db, life.store) for db in (rolled_back, right)]
        for publisher in publishers * 2:
            await publisher.publish()
        assert list(publishers[0].floors.refused) == [ACME]
        assert publishers[1].floors.refused == {}
        last = opened_note(published_file.read(life.store)[SIGNER.origin(ACME)])
        head = await log.head(right, 1)
        assert (last.size, last.root) == (head.size, log.merkle.root(head.frontier))
