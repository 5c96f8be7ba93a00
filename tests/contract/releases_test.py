"""Commands write releases to a real database, and the view agrees with them."""

import asyncio
from hashlib import sha256

import pytest

from firmtrail.commands import access
from firmtrail.commands import releases as commands
from firmtrail.commands.releases import ChangedRelease
from firmtrail.database.database import Database
from firmtrail.events.fleet import ArtifactAdded, ReleaseAdded, ReleaseWithdrawn
from firmtrail.events.steering import UpdateOffered
from firmtrail.eventstore import log
from firmtrail.projections import releases
from firmtrail.projections.releases import Offered, ReleaseTexts
from firmtrail.recording.recorder import LogCommand, Recorder
from firmtrail.rules import release
from firmtrail.rules.device import Refused
from firmtrail.rules.release import ReleaseArtifact, ReleaseKey
from tests.databases import new_log, read
from tests.fleet import record_events, register
from tests.people import recorded
from tests.replay import differences

M1 = ReleaseKey("m", "1.0.0")
FULL = ArtifactAdded("full.bin", 3, "aa" * 32)
OTHER_BYTES = ArtifactAdded("full.bin", 3, "bb" * 32)


def add(key: ReleaseKey = M1, notes: str | None = None) -> LogCommand[ChangedRelease]:
    return commands.add(ReleaseAdded(*key), notes, by=commands.ReleaseAuthor("system"))


def add_artifact(wanted: ArtifactAdded, key: ReleaseKey = M1) -> LogCommand[bool]:
    return commands.add_artifact(key, wanted, actor="system")


def withdraw(key: ReleaseKey = M1, reason: str = "it bricks") -> LogCommand[ChangedRelease]:
    return commands.withdraw(key, reason, actor="system")


async def run(recorder: Recorder, log_id: int, *acts: LogCommand[object]) -> None:
    for act in acts:
        await recorder.act(log_id, act)


async def test_the_view_equals_the_state_that_the_rules_fold(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    other = ReleaseKey("n", "2.0.0-rc.1+b")
    await run(recorder, log_id, add(notes="first"), add_artifact(FULL), add(other), withdraw())
    size, found = releases.with_texts(await db.read(releases.load_with_texts(log_id)))
    assert (size, list(found)) == (4, [M1, other])
    assert found[M1].texts == ReleaseTexts("first", "it bricks")
    assert found[other].texts == ReleaseTexts(None, None)
    assert found[M1].release.artifacts == (ReleaseArtifact("full.bin", 3, "aa" * 32),)
    [loaded] = [releases.state(await db.read(releases.load(log_id, 1)))]
    assert loaded == {key: each.release for key, each in found.items()}
    assert (loaded[M1].position, loaded[M1].withdrawn_position) == (0, 3)
    assert await differences(db, log_id) == []


async def test_an_empty_log_has_no_release(db: Database, log_id: int) -> None:
    assert releases.with_texts(await db.read(releases.load_with_texts(log_id))) == (0, {})
    assert releases.state(await db.read(releases.load(log_id, 1))) == {}


async def test_every_event_of_a_release_raises_the_control_count(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    await run(recorder, log_id, add(), add_artifact(FULL), add_artifact(FULL), withdraw())
    head = await log.head(db, log_id)
    assert (head.size, head.control_count) == (3, 3)


async def test_a_refused_command_writes_nothing(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    await run(recorder, log_id, add(), add_artifact(FULL))
    for refused in (
        add(notes="again"),
        add_artifact(OTHER_BYTES),
        withdraw(ReleaseKey("m", "9.0.0")),
    ):
        with pytest.raises(Refused):
            await recorder.act(log_id, refused)
    assert await recorded(db, log_id) == [
        (release.stream(M1), ReleaseAdded("m", "1.0.0")),
        (release.stream(M1), FULL),
    ]
    assert await read(db, "SELECT position FROM texts") == []


async def test_of_two_equal_commands_in_parallel_one_adds_the_artifact(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    other_server = Recorder(db)
    await run(recorder, log_id, add())
    same = [each.act(log_id, add_artifact(FULL)) for each in (recorder, other_server)]
    assert sorted(await asyncio.gather(*same)) == [False, True]
    twice = [
        each.act(log_id, add_artifact(ArtifactAdded("delta.bin", 3, digest * 32)))
        for each, digest in ((recorder, "cc"), (other_server, "dd"))
    ]
    outcomes = await asyncio.gather(*twice, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {bool, Refused}
    await other_server.close()


async def test_notes_and_reason_are_kept_outside_the_log_and_can_be_erased(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    await run(recorder, log_id, add(notes="by Ann"), withdraw(reason="Bob said so"))
    events = [event for _, event in await recorded(db, log_id)]
    texts = await read(db, "SELECT salt, text FROM texts ORDER BY position")
    hashes = [sha256(bytes.fromhex(salt) + text.encode()).hexdigest() for salt, text in texts]
    assert events == [ReleaseAdded("m", "1.0.0", hashes[0]), ReleaseWithdrawn(hashes[1])]
    head = await log.head(db, log_id)
    await run(recorder, log_id, *(access.erase_text(head, n, actor="system") for n in (0, 1)))
    _, found = releases.with_texts(await db.read(releases.load_with_texts(log_id)))
    assert found[M1].texts == ReleaseTexts("erased", "erased")
    assert await differences(db, log_id) == []


async def test_each_log_has_its_own_releases(db: Database, log_id: int, recorder: Recorder) -> None:
    other = await new_log(db, "other")
    await run(recorder, log_id, add())
    await run(recorder, other, add(ReleaseKey("m", "2.0.0")))
    for each, version in ((log_id, "1.0.0"), (other, "2.0.0")):
        _, found = releases.with_texts(await db.read(releases.load_with_texts(each)))
        assert list(found) == [ReleaseKey("m", version)]


async def test_an_artifact_offered_to_a_device_is_found_by_its_digest(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    newer, foreign = ReleaseKey("m", "2.0.0"), ReleaseKey("n", "1.0.0")
    await register(recorder, log_id, "d1", "d2", model="m")
    for key in (M1, newer, foreign):
        await run(recorder, log_id, add(key), add_artifact(FULL, key))

    async def found(device: str = "d1") -> Offered | None:
        return await releases.offered(db, log_id, device, FULL.sha256)

    full = ReleaseArtifact("full.bin", 3, FULL.sha256)
    assert await found() is None
    await record_events(recorder, log_id, [("device/d1", UpdateOffered("1.0.0", "pinned", 1))])
    assert await found() == Offered(full, is_withdrawn=False)
    assert await releases.offered(db, log_id, "d1", "bb" * 32) is None
    await run(recorder, log_id, withdraw())
    assert await found() == Offered(full, is_withdrawn=True)
    await record_events(recorder, log_id, [("device/d1", UpdateOffered("2.0.0", "pinned", 1))])
    assert await found() == Offered(full, is_withdrawn=False)
    assert await found("d2") is None
