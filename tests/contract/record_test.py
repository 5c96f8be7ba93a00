"""Tests recording: exactly once, in whole units, and the reasons of refusals and delays."""

import asyncio
import contextlib
from collections.abc import Callable
from hashlib import sha256

import pytest
from msgspec.structs import replace

from firmtrail.database.database import Database, Script, Statement, Unavailable
from firmtrail.events.access import MemberAdded
from firmtrail.events.entry import decode
from firmtrail.events.fleet import REPORTS, DeviceRegistered, FirmwareInstalled, SettingsChanged
from firmtrail.eventstore import log
from firmtrail.projections import device_current
from firmtrail.projections.controls import CommittedControls
from firmtrail.publishing.minimum_sizes import MinimumSizes
from firmtrail.recording.commit import Commit, LogClosed, LogContext, begin_draft
from firmtrail.recording.queues import BATCH_COMMANDS_MAX
from firmtrail.recording.recorder import QUEUE_COMMANDS_MAX, Recorder
from firmtrail.recording.reports import ReportReceipt
from firmtrail.rules.device import Refused
from firmtrail.rules.report import ReportCommand
from tests.databases import read, write
from tests.fleet import NOON_MS, receipts, received, register, report
from tests.replay import differences

ALIKE = [
    ("report_id", report(report_id="a")),
    ("seq", report(seq=7)),
    ("content", report(occurred_at_ms=NOON_MS)),
    ("bare", report()),
]


@pytest.fixture
async def device(log_id: int, recorder: Recorder) -> str:
    """Registers d1 at position 0."""
    await register(recorder, log_id, "d1")
    return "d1"


async def size_of(db: Database, log_id: int) -> int:
    return (await log.head(db, log_id)).size


async def version_of(db: Database, log_id: int, name: str) -> str | None:
    rows = await db.read(device_current.load_live([(log_id, name)]))
    _, found = device_current.size_and_device([row[1:] for row in rows])
    return found.state.version if found else None


async def test_a_receipt_says_where_the_report_is(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    [receipt] = await receipts(recorder, log_id, report(seq=7))
    [[(position, at_ms, text)]] = [page async for page in log.read(db, log_id, 1, 2)]
    assert receipt == ReportReceipt(1, position, duplicate=False, recorded_at_ms=at_ms)
    assert decode(position, text).event == FirmwareInstalled("1.0.0", seq=7)


@pytest.mark.parametrize(("identity", "sent"), ALIKE)
async def test_a_resend_gets_the_first_receipt(
    db: Database, log_id: int, recorder: Recorder, device: str, identity: str, sent: ReportCommand
) -> None:
    [first] = await receipts(recorder, log_id, sent)
    after_restart = Recorder(db)
    for again in (recorder, after_restart):
        assert await receipts(again, log_id, sent) == [replace(first, duplicate=True)]
    assert await size_of(db, log_id) == 2


@pytest.mark.parametrize(("identity", "sent"), ALIKE)
async def test_concurrent_reports_on_two_servers_are_recorded_once(
    db: Database, log_id: int, recorder: Recorder, device: str, identity: str, sent: ReportCommand
) -> None:
    servers = [recorder, Recorder(db)]
    answers = await asyncio.gather(
        *(servers[n % 2].report(log_id, [sent, sent]) for n in range(20))
    )
    all_receipts = [received(outcome) for answer in answers for outcome in answer]
    assert {receipt.position for receipt in all_receipts} == {1}
    assert [receipt.duplicate for receipt in all_receipts].count(False) == 1
    assert await size_of(db, log_id) == 2


async def test_a_report_id_with_other_content_is_refused_and_its_neighbours_are_not(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    await receipts(recorder, log_id, report(report_id="a", seq=1))
    outcomes = await recorder.report(
        log_id,
        [
            report(report_id="b", seq=2),
            report("2.0.0", report_id="a", seq=1),
            report("1.0.0", "running", report_id="b", seq=2),
            report(device="ghost"),
            report(report_id="c", seq=3),
        ],
    )
    codes = [outcome.code if isinstance(outcome, Refused) else None for outcome in outcomes]
    reused = "report_id_reused"
    assert codes == [None, reused, reused, "unknown_device", None]
    assert [received(outcomes[n]).position for n in (0, 4)] == [2, 3]
    assert await size_of(db, log_id) == 4


async def test_what_a_receipt_names_is_seen_by_every_read(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    for n in range(10):
        await receipts(recorder, log_id, report(f"1.0.{n}"))
        assert await version_of(db, log_id, device) == f"1.0.{n}"


async def test_a_batch_gathers_until_it_locks_the_head(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    async with db.transaction() as tx:
        await tx.run(log.lock(log_id))
        early = asyncio.create_task(receipts(recorder, log_id, report(seq=1)))
        await asyncio.sleep(0.05)
        late = asyncio.create_task(receipts(recorder, log_id, report(seq=2)))
        await asyncio.sleep(0.05)
    [first], [second] = await asyncio.gather(early, late)
    assert first.position + 1 == second.position
    if not db.plays_in_turn:  # else it was sent already, and only this process locks a head
        assert first.recorded_at_ms == second.recorded_at_ms


async def test_the_control_is_read_once_until_it_changes(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    held = CommittedControls()

    async def steps() -> int:
        """Counts the steps to begin a draft: the head is locked, and the control is read or
        known."""
        return await db.play(counted, begin_draft, log_id, LogContext(MinimumSizes(), held, []))

    async def change(commit: Commit) -> int:
        changed = SettingsChanged(max_attempts=5)
        return commit.draft.record("project/acme", changed, actor="system")

    assert [await steps(), await steps()] == [2, 1]
    await recorder.act(log_id, change)
    assert [await steps(), await steps()] == [2, 1]


def counted(make: Callable[..., Script[object]], *args: object) -> Script[int]:
    """Plays a script, and returns how many steps it had."""
    script, rows, asked = make(*args), None, 0
    with contextlib.suppress(StopIteration):
        while True:
            statements = script.send(rows)  # type: ignore[arg-type] # None begins it
            asked += 1
            rows = yield statements
    return asked


async def test_a_command_keeps_its_place_among_reports_that_wait_for_the_head(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    async def remark(commit: Commit) -> int:
        return commit.draft.record("device/d9", DeviceRegistered(), actor="system")

    async with db.transaction() as tx:
        await tx.run(log.lock(log_id))
        waiting = (
            asyncio.create_task(receipts(recorder, log_id, report(seq=1))),
            asyncio.create_task(recorder.act(log_id, remark)),
            asyncio.create_task(receipts(recorder, log_id, report(seq=2))),
        )
        await asyncio.sleep(0.05)
    [first], remarked, [second] = await asyncio.gather(*waiting)
    assert (remarked, second.position) == (first.position + 1, first.position + 2)


async def test_a_commit_that_never_begins_fails_what_waits_for_it_and_nothing_later(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    await write(db, "UPDATE log_heads SET closed = 1")
    refused = [receipts(recorder, log_id, report(seq=number)) for number in range(3)]
    answers = await asyncio.gather(*refused, return_exceptions=True)
    assert [type(answer) for answer in answers] == [LogClosed] * 3
    await write(db, "UPDATE log_heads SET closed = 0")
    [receipt] = await receipts(recorder, log_id, report(seq=3))
    assert receipt.position == 1


async def test_closing_waits_for_every_batch_of_a_flood(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    sent = [
        asyncio.create_task(receipts(recorder, log_id, report(seq=number)))
        for number in range(2 * BATCH_COMMANDS_MAX)
    ]
    await asyncio.sleep(0)
    await recorder.close()
    assert all(each.done() for each in sent)
    positions = [receipt.position for each in sent for receipt in each.result()]
    assert sorted(positions) == list(range(1, 2 * BATCH_COMMANDS_MAX + 1))


async def test_a_unit_is_never_torn(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    units = [[report(seq=1_000 * unit + n) for n in range(300)] for unit in range(6)]
    recording = asyncio.gather(*(recorder.report(log_id, unit) for unit in units))
    while not recording.done():
        assert (await size_of(db, log_id) - 1) % 300 == 0
    for answer in await recording:
        positions = [received(outcome).position for outcome in answer]
        assert positions == list(range(positions[0], positions[0] + 300))
        assert len({received(outcome).recorded_at_ms for outcome in answer}) == 1


async def test_a_unit_of_nothing_is_answered(db: Database, log_id: int, recorder: Recorder) -> None:
    assert await recorder.report(log_id, []) == []
    assert await size_of(db, log_id) == 0


async def test_a_command_and_its_own_rows_are_one_commit(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    async def command(commit: Commit) -> str:
        await commit.run(Statement("INSERT INTO members VALUES ('acme', 'u_1', 'viewer')"))
        commit.draft.record("user/u_1", MemberAdded("u_1", "viewer"), actor="system")
        return "done"

    assert await recorder.act(log_id, command) == "done"
    assert len(await read(db, "SELECT actor_id FROM members")) == 1
    assert await size_of(db, log_id) == 1


async def test_a_refused_command_writes_nothing_and_the_next_one_runs(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    async def refused(commit: Commit) -> None:
        await commit.run(Statement("INSERT INTO members VALUES ('acme', 'u_1', 'viewer')"))
        commit.draft.record("user/u_1", MemberAdded("u_1", "viewer"), actor="system")
        raise Refused("no", "a rule says no")

    with pytest.raises(Refused):
        await recorder.act(log_id, refused)
    assert await read(db, "SELECT actor_id FROM members") == []
    assert await size_of(db, log_id) == 0
    await register(recorder, log_id, "d1")
    assert await size_of(db, log_id) == 1


async def test_reports_and_acts_keep_their_order(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    before, _, after = await asyncio.gather(
        recorder.report(log_id, [report()]),
        register(recorder, log_id, "d1"),
        recorder.report(log_id, [report()]),
    )
    assert isinstance(before[0], Refused)
    assert received(after[0]).position == 1


async def test_a_caller_that_hangs_up_does_not_cancel_its_report(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    calls = [asyncio.ensure_future(recorder.report(log_id, [report(seq=n)])) for n in range(9)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await recorder.close()
    assert all(call.cancelled() for call in calls)
    assert await size_of(db, log_id) == 10


async def test_closing_records_what_waits(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    calls = [asyncio.ensure_future(recorder.report(log_id, [report(seq=n)])) for n in range(9)]
    await asyncio.sleep(0)
    await recorder.close()
    assert await size_of(db, log_id) == 10
    await asyncio.gather(*calls)


async def test_a_full_queue_refuses_immediately_and_serves_what_it_took(
    log_id: int, recorder: Recorder
) -> None:
    unit = [report(device="ghost")] * 500
    calls = [recorder.report(log_id, unit) for _ in range(QUEUE_COMMANDS_MAX // 500 + 5)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    unavailable = [answer for answer in answers if isinstance(answer, Unavailable)]
    assert 1 <= len(unavailable) <= 5
    assert sum(isinstance(answer, list) for answer in answers) == len(answers) - len(unavailable)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("new log", "UPDATE log_heads SET closed = 1"),
        ("ahead of the clock", "UPDATE log_heads SET recorded_at_ms = now_ms() + 310000"),
        ("1 events were acknowledged", "UPDATE log_heads SET size = 0"),
        ("view", "UPDATE views SET revision = revision + 1 WHERE name = 'device_history'"),
        ("view", "DELETE FROM views WHERE name = 'device_current'"),
    ],
)
async def test_a_log_that_must_not_grow_is_unavailable(
    db: Database, log_id: int, recorder: Recorder, device: str, what: str, change: str
) -> None:
    await write(db, change)
    for refused in (recorder.report(log_id, [report()]), register(recorder, log_id, "d2")):
        with pytest.raises(Unavailable, match=what) as unavailable:
            await refused
        assert unavailable.value.retry_after_s >= 1
    assert await read(db, "SELECT position FROM events WHERE position > 0") == []


async def test_a_time_is_never_before_the_one_before_it(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    await write(db, "UPDATE log_heads SET recorded_at_ms = now_ms() + 200000")
    ahead_ms = (await log.head(db, log_id)).recorded_at_ms
    [receipt] = await receipts(recorder, log_id, report())
    assert receipt.recorded_at_ms == ahead_ms


async def test_a_detail_is_kept_outside_the_log_which_has_its_salted_hash(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    details = ["flash failed: ü 🛰", "flash failed: ü 🛰", None]
    await receipts(
        recorder, log_id, *(report(seq=n, detail=detail) for n, detail in enumerate(details))
    )
    [page] = [page async for page in log.read(db, log_id, 1, 4)]
    decoded = [decode(position, text).event for position, _, text in page]
    hashes = [event.detail for event in decoded if isinstance(event, REPORTS)]
    beside = await read(db, "SELECT position, salt, text FROM texts ORDER BY position")
    assert [(row[0], row[2]) for row in beside] == [(1, details[0]), (2, details[1])]
    assert [
        sha256(bytes.fromhex(salt) + text.encode()).hexdigest() for _, salt, text in beside
    ] == hashes[:2]
    assert hashes[0] != hashes[1]
    assert hashes[2] is None
    assert not any("flash" in text for _, _, text in page)


async def test_the_head_and_every_row_are_what_the_log_says(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    units = [[report(f"1.{n}.0", seq=n), report(detail="x", seq=50 - n)] for n in range(20)]
    await asyncio.gather(*(recorder.report(log_id, unit) for unit in units))
    assert await differences(db, log_id) == []


async def test_two_logs_are_written_in_parallel(
    db: Database, log_id: int, recorder: Recorder, device: str
) -> None:
    async with db.transaction() as tx:
        other = await log.create(tx, "other")
        await tx.run(
            Statement(
                "INSERT INTO views SELECT $1, name, revision, generation, 0 FROM views", (other,)
            )
        )
    await register(recorder, other, "d1")
    mine, theirs = await asyncio.gather(
        recorder.report(log_id, [report(report_id="a")]),
        recorder.report(other, [report("2.0.0", report_id="a")]),
    )
    assert received(mine[0]).position == received(theirs[0]).position == 1
    assert await version_of(db, log_id, "d1") == "1.0.0"
    assert await version_of(db, other, "d1") == "2.0.0"
