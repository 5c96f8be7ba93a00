"""Tests the metrics of rollouts: every process shows those of all projects."""

import asyncio
from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from firmtrail.events.event import Recorded
from firmtrail.events.steering import PlanPhase, RolloutStarted
from firmtrail.events.times import time_text
from firmtrail.http import rollout_metrics
from firmtrail.http.metrics import text_of
from firmtrail.http.rollout_metrics import RolloutCounts, RolloutTotals, settled
from firmtrail.http.shared_reads import SharedReads
from firmtrail.projections.controls import Controls
from firmtrail.rules import phases, rollout
from firmtrail.rules.control import Control
from tests.contract.migrations import run_outside
from tests.service.site import Site
from tests.service.steered import post, roll_out

DAY_MS = 86_400_000


def other_process(site: Site) -> RolloutTotals:
    """Returns the totals of a process that no call has reached."""
    return RolloutTotals(site.services.db, Controls(site.services.db))


async def scraped(totals: RolloutTotals, site: Site) -> list[str]:
    return (await totals.text(site.services.access.now_ms())).decode().splitlines()


async def test_a_process_that_no_call_reached_shows_the_rollouts_of_all_projects(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    when = {"installed_percent": 90, "min_reports": 50}
    plan = {"phases": [{"percent": 50, "when": when}, {"percent": 100}]}
    name = await roll_out(fleet, plan=plan)
    monkeypatch.setattr(phases, "STUCK_MS", 0)
    totals = other_process(fleet)
    shown = await scraped(totals, fleet)
    assert 'firmtrail_rollouts{state="running"} 1.0' in shown
    assert 'firmtrail_rollouts_in_phase{phase="1"} 1.0' in shown
    assert "firmtrail_rollouts_stuck 1.0" in shown
    await post(fleet, f"rollouts/{name}/pause")
    monkeypatch.setattr(totals, "_reads", SharedReads())
    shown = await scraped(totals, fleet)
    assert 'firmtrail_rollouts{state="paused"} 1.0' in shown
    assert "firmtrail_rollouts_stuck 0.0" in shown


async def test_the_last_counts_are_shown_while_the_database_does_not_answer(
    fleet: Site, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await roll_out(fleet)
    totals = other_process(fleet)
    before = await scraped(totals, fleet)
    await run_outside(database_url, "ALTER TABLE rollouts RENAME TO rollouts_elsewhere")
    monkeypatch.setattr(totals, "_reads", SharedReads())
    assert await scraped(other_process(fleet), fleet) == []
    assert await scraped(totals, fleet) == before
    await run_outside(database_url, "ALTER TABLE rollouts_elsewhere RENAME TO rollouts")
    assert await scraped(totals, fleet) == before


async def test_closing_the_counts_of_rollouts_ends_a_read_for_a_scrape(fleet: Site) -> None:
    totals = other_process(fleet)
    scrape = asyncio.create_task(totals.text(0))
    await asyncio.sleep(0)
    await totals.close()
    assert await scrape == b""


def started(number: int, event: RolloutStarted) -> rollout.RolloutState:
    return rollout.started(Recorded(number, 0, f"rollout/r{number}", "k", "user/u_1", event))


def test_counts_that_are_kept_are_right_at_any_later_time() -> None:
    timed = (PlanPhase(1_000, after_s=86_400), PlanPhase(5_000, after_s=86_400), PlanPhase(10_000))
    waits = (PlanPhase(1_000, None, 90, 50), PlanPhase(10_000))
    wanted = [
        RolloutStarted("1.0.0", "m", 10_000),
        RolloutStarted("1.0.0", "m", 10_000, start_at=time_text(5 * DAY_MS)),
        RolloutStarted("1.0.0", "m", 1_000, plan=timed),
        RolloutStarted("1.0.0", "m", 1_000, plan=waits),
        RolloutStarted("1.0.0", "m", 1_000, plan=waits, approvals=1),
    ]
    states = [started(number, event) for number, event in enumerate(wanted)]
    aborted = [aborted_as(each, number) for number, each in enumerate(states)]
    of = Control(rollouts={each.id: each for each in (*states, *aborted)})
    for first in range(6):
        kept = settled(of, first * DAY_MS)
        for later in range(first, 7):
            found, expected = RolloutCounts(), RolloutCounts()
            kept.add_to(found, later * DAY_MS)
            for each in of.rollouts.values():
                expected.add(of, each, later * DAY_MS)
            assert found == expected
    assert [each.id for each in settled(of, 0).changing] == ["r1", "r2", "r3"]
    assert [each.id for each in settled(of, 6 * DAY_MS).changing] == ["r3"]
    assert settled(replace(of, halt="all"), 0).counts.states["aborted"] == len(states)


def aborted_as(state: rollout.RolloutState, number: int) -> rollout.RolloutState:
    return msgspec.structs.replace(state, id=f"aborted{number}", phase="aborted")


def test_a_phase_that_a_plan_may_have_has_a_series_and_all_later_ones_share_one() -> None:
    counts = RolloutCounts(in_phase=Counter({0: 2, 20: 3}))
    lines = text_of(rollout_metrics.families(counts)).decode().splitlines()
    shown = [line for line in lines if line.startswith("firmtrail_rollouts_in_phase{")]
    assert len(shown) == 21
    assert shown[0].endswith('phase="1"} 2.0')
    assert shown[-1].endswith('phase="more"} 3.0')
