"""Tests steering through the log: offers, attempts, pauses, rollbacks and questions."""

import asyncio

import pytest

from firmtrail.commands import steering as commands
from firmtrail.database.database import Database
from firmtrail.events.fleet import (
    FirmwareInstalled,
    ReleaseWithdrawn,
)
from firmtrail.events.steering import (
    PlanPhase,
    RollbackStarted,
    RolloutPaused,
    RolloutPhaseMet,
    UpdateOffered,
)
from firmtrail.eventstore import log
from firmtrail.projections import (
    controls,
    device_offers,
    history_pages,
)
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.device import Refused
from firmtrail.rules.rollout import PlanTime, clock_at
from tests.contract.steered_log import (
    DEVICES,
    begin,
    check_in,
    recorded,
    roll_back,
    roll_out,
)
from tests.fleet import receipts, report
from tests.replay import differences


@pytest.fixture
async def fleet(log_id: int, recorder: Recorder) -> int:
    """Registers three devices of model m on 1.0.0, and adds releases up to 1.2.0."""
    await begin(recorder, log_id)
    return log_id


async def test_an_offer_is_recorded_once_however_often_the_device_asks(
    db: Database, recorder: Recorder, fleet: int
) -> None:
    await roll_out(recorder, fleet, "1.1.0")
    other_server = Recorder(db)
    decisions = await asyncio.gather(
        *(check_in(each, fleet) for each in (recorder, other_server) for _ in range(5))
    )
    assert {(each.action, each.version) for each in decisions} == {("update", "1.1.0")}
    offers = [each for each in await recorded(db, fleet) if isinstance(each, UpdateOffered)]
    assert [(each.version, each.attempt, each.cause) for each in offers] == [
        ("1.1.0", 1, "rollout")
    ]
    assert await differences(db, fleet) == []
    await other_server.close()


async def test_orders_of_another_server_decide_immediately(
    db: Database, recorder: Recorder, fleet: int
) -> None:
    other_server = Recorder(db)
    assert (await check_in(other_server, fleet)).reason == "not_reached"
    rollout = await roll_out(recorder, fleet, "1.1.0")
    assert (await check_in(other_server, fleet)).reason == "rollout"
    await recorder.act(fleet, commands.pause(rollout, None, actor="user/u"))
    assert (await check_in(other_server, fleet)).reason == "paused"
    await other_server.close()


async def test_a_rollout_pauses_in_the_commit_of_the_failure(
    db: Database, recorder: Recorder, fleet: int
) -> None:
    rollout = await roll_out(recorder, fleet, "1.1.0", failed_percent=50, min_reports=2)
    for name in DEVICES:
        await check_in(recorder, fleet, name)
    await recorder.report(
        fleet,
        [
            report("1.1.0", "failed", "d1", seq=1),
            report("1.1.0", "failed", "d2", seq=1),
            report("1.1.0", "installed", "d3", seq=1),
        ],
    )
    *_, pause, after = await recorded(db, fleet)
    assert pause == RolloutPaused(failed=2, installed=0)
    assert isinstance(after, FirmwareInstalled)
    found = (await controls.read(db, fleet)).rollouts[rollout]
    assert found.phase == "paused"
    assert await differences(db, fleet) == []


async def test_one_report_may_pause_a_rollout_and_meet_the_condition_of_its_phase(
    db: Database, recorder: Recorder, fleet: int
) -> None:
    plan = (PlanPhase(10_000, None, 50, 2), PlanPhase(10_000))
    limits = {"failed_percent": 40, "min_reports": 2}
    rollout = await roll_out(recorder, fleet, "1.1.0", plan=plan, **limits)
    for name in ("d1", "d2"):
        await check_in(recorder, fleet, name)
    reports = [report("1.1.0", "installed", "d1"), report("1.1.0", "failed", "d2")]
    await recorder.report(fleet, reports)
    *_, pause, met = await recorded(db, fleet)
    assert (pause, met) == (RolloutPaused(failed=1, installed=1), RolloutPhaseMet(0, 1, 1))
    await recorder.act(fleet, commands.resume(rollout, None, actor="user/u"))
    found = await controls.read(db, fleet)
    clock = found.rollouts[rollout].clock
    assert clock is not None
    assert clock.phase == 0, "it has been in this phase until it was resumed"
    at = PlanTime(clock.counted_at_ms, found.halts)
    moved = clock_at(found.rollouts[rollout], at)
    assert moved is not None
    assert moved.phase == 1
    assert await differences(db, fleet) == []


async def test_an_install_that_fell_back_counts_when_one_array_reports_all_of_it(
    db: Database, recorder: Recorder, fleet: int
) -> None:
    rollout = await roll_out(recorder, fleet, "1.1.0")
    await check_in(recorder, fleet)
    at_once = [report("1.1.0", "installing"), report("1.0.0", "running")]  # at the same time
    await recorder.report(fleet, at_once)
    _, counted = await device_offers.counts(db, fleet, rollout, 3)
    assert counted["failed"] == 1
    assert await differences(db, fleet) == []


async def test_a_rolled_back_device_goes_to_its_previous_version_and_its_history_says_so(
    db: Database, recorder: Recorder, fleet: int
) -> None:
    await receipts(recorder, fleet, report("1.1.0", seq=1), report("1.2.0", seq=2))
    rollback = await roll_back(recorder, fleet, "1.2.0")
    answer = await check_in(recorder, fleet)
    assert (answer.action, answer.version, answer.rollout) == ("rollback", "1.1.0", rollback)
    await receipts(recorder, fleet, report("1.1.0", seq=3))
    assert (await check_in(recorder, fleet)).version is None
    asked = history_pages.HistoryRequest(fleet, "d1", lines_max=9)
    [page] = await history_pages.pages(db, [asked])
    changes = [entry.change for entry in page.entries]
    assert changes == ["rollback", "upgrade", "upgrade", "first"]
    withdrawn = [each for each in await recorded(db, fleet) if isinstance(each, ReleaseWithdrawn)]
    assert len(withdrawn) == 1
    assert await differences(db, fleet) == []


async def test_a_bare_report_that_answers_a_question_is_news_once(
    db: Database, recorder: Recorder, fleet: int
) -> None:
    asked = await recorder.act(fleet, commands.ask("d1", expires_in_s=60, actor="user/u"))
    answer = report("1.0.0", "running", question=asked.question)
    [first] = await receipts(recorder, fleet, answer)
    [again] = await receipts(recorder, fleet, answer)
    [unasked] = await receipts(recorder, fleet, report("1.0.0", "running", question="nobody's"))
    assert (first.duplicate, again.duplicate, unasked.duplicate) == (False, True, True)
    assert again.position == first.position
    assert await differences(db, fleet) == []


async def test_an_unknown_device_is_refused(recorder: Recorder, fleet: int) -> None:
    with pytest.raises(Refused):
        await check_in(recorder, fleet, "nobody")


async def test_polls_that_change_nothing_record_nothing(
    db: Database, recorder: Recorder, fleet: int
) -> None:
    await roll_out(recorder, fleet, "1.1.0")
    await check_in(recorder, fleet)
    before = (await log.head(db, fleet)).size
    await asyncio.gather(*(check_in(recorder, fleet) for _ in range(200)))
    assert (await log.head(db, fleet)).size == before


async def test_a_command_of_two_events_is_one_commit(
    db: Database, recorder: Recorder, fleet: int
) -> None:
    before = (await log.head(db, fleet)).size

    async def command(commit: Commit) -> None:
        wanted = RollbackStarted("1.2.0", "m", 10_000)
        await commands.roll_back(wanted, "why", actor="user/u")(commit)

    await recorder.act(fleet, command)
    kinds = [type(each).__name__ for each in (await recorded(db, fleet))[before:]]
    assert kinds == ["ReleaseWithdrawn", "RollbackStarted"]
