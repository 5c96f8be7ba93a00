"""Tests that a rollout in which nothing fails goes as its dry run has forecast."""

import asyncio
from collections.abc import Sequence

from hypothesis import HealthCheck, assume, example, given, note, settings
from hypothesis import strategies as st

from firmtrail.commands import steering as commands
from firmtrail.database.database import Database
from firmtrail.events.entry import decode
from firmtrail.events.event import Recorded
from firmtrail.events.steering import PlanPhase, RolloutStarted, Window
from firmtrail.events.times import time_ms, time_text
from firmtrail.eventstore import short_streams
from firmtrail.http.api.rollout_plans import ShownPhase, forecast_of, shown_phases
from firmtrail.projections import controls
from firmtrail.recording.recorder import Recorder
from firmtrail.rules import phases, rollout, window
from firmtrail.rules.control import Control
from firmtrail.rules.outlook import Counted, Outlook, outlook, windows_of
from firmtrail.rules.rollout import PlanTime
from tests.clock import set_clock
from tests.contract.steered_log import check_in, release
from tests.databases import new_log
from tests.fleet import register, report

NOW_MS = time_ms("2026-09-21T14:13:20Z")
SKIPPED_MS = time_ms("2026-03-29T00:30:00Z")
"""Half an hour before clocks in Berlin skip from 02:00 to 03:00."""
REPEATED_MS = time_ms("2026-10-25T00:50:00Z")
"""Ten minutes before clocks in Berlin go back from 03:00 to 02:00."""
DEVICES = [f"d{number}" for number in range(24)]
STEP = 2_500
"""Each phase reaches at least so many buckets more, so that devices report in each."""
LATER_MS = 6 * 86_400_000
NIGHT = Window("30 2 * * *", 1800, "Europe/Berlin")
HOURLY = Window("0 * * * *", 600, "Europe/Berlin")


@st.composite
def plans(draw: st.DrawFn) -> tuple[PlanPhase, ...]:
    reaches = sorted(draw(st.sets(st.integers(1, 4), min_size=1)))
    found = []
    for reach in reaches:
        after_s = draw(st.one_of(st.none(), st.integers(0, 3600)))
        when = draw(st.sampled_from(((None, None), (90, 1), (100, 2))))
        found.append(PlanPhase(STEP * reach, after_s, *when))
    return tuple(found)


def forecast(wanted: RolloutStarted, now_ms: int, matching: int) -> list[ShownPhase]:
    """Returns what a dry run shows of the phases."""
    tried = rollout.started(Recorded(0, now_ms, "rollout/", "e", "user/u", wanted))
    ahead = outlook(Control(), tried, PlanTime(now_ms), Counted(matching))
    return forecast_of(tried, PlanTime(now_ms), matching, ahead)


async def install_what_is_offered(recorder: Recorder, log_id: int) -> None:
    """Lets all devices check in and install, until none of them is offered anything."""
    while True:
        decisions = await asyncio.gather(*(check_in(recorder, log_id, name) for name in DEVICES))
        reports = [
            report("1.1.0", "installed", name)
            for name, decision in zip(DEVICES, decisions, strict=True)
            if decision.version is not None
        ]
        if not reports:
            return
        await recorder.report(log_id, reports)


async def phases_of(db: Database, log_id: int, name: str, now_ms: int) -> list[ShownPhase]:
    """Returns the phases as `GET P/rollouts/{id}` shows them."""
    found = await controls.read(db, log_id)
    rows = await short_streams.read(db, log_id, rollout.stream(name))
    at = PlanTime(now_ms, found.halts)
    past = phases.past([decode(position, text) for position, _, text in rows], at)
    ahead = Outlook(windows_of(found, found.rollouts[name]))
    return shown_phases(found.rollouts[name], at, past.times, ahead)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=plans(),
    starts_in=st.sampled_from((0, 600)),
    now_ms=st.sampled_from((NOW_MS, SKIPPED_MS, REPEATED_MS)),
    opens=st.sampled_from((None, NIGHT, HOURLY)),
)
@example(
    plan=(
        PlanPhase(STEP, 60, 90, 1),
        PlanPhase(2 * STEP, None, 100, 2),
        PlanPhase(3 * STEP, 3600),
        PlanPhase(4 * STEP),
    ),
    starts_in=600,
    now_ms=NOW_MS,
    opens=None,
)
@example(
    plan=(PlanPhase(STEP, 60), PlanPhase(2 * STEP), PlanPhase(4 * STEP)),
    starts_in=0,
    now_ms=NOW_MS,
    opens=None,
)
@example(
    plan=(PlanPhase(STEP, 0), PlanPhase(2 * STEP, 60, 90, 1), PlanPhase(4 * STEP)),
    starts_in=0,
    now_ms=SKIPPED_MS,
    opens=NIGHT,
)
@example(
    plan=(PlanPhase(STEP, 3600, 90, 1), PlanPhase(2 * STEP, None, 90, 1), PlanPhase(4 * STEP)),
    starts_in=600,
    now_ms=REPEATED_MS,
    opens=NIGHT,
)
async def test_a_rollout_in_which_nothing_fails_has_the_phases_of_its_forecast(
    db: Database,
    recorder: Recorder,
    plan: tuple[PlanPhase, ...],
    starts_in: int,
    now_ms: int,
    opens: Window | None,
) -> None:
    await set_clock(db, now_ms)
    log_id = await new_log(db)
    await register(recorder, log_id, *DEVICES, model="m")
    await release(recorder, log_id, "1.0.0", "1.1.0")
    await recorder.report(log_id, [report(device=name) for name in DEVICES])
    start_at = time_text(now_ms + starts_in * 1000) if starts_in else None
    wanted = RolloutStarted("1.1.0", "m", plan[0].reach, plan=plan, start_at=start_at, window=opens)
    expected = forecast(wanted, now_ms, len(DEVICES))
    name = (await recorder.act(log_id, commands.start(wanted, actor="user/u"))).id
    assume(is_possible(plan, name))
    for moment in moments(expected, opens, now_ms):
        await set_clock(db, moment)
        await install_what_is_offered(recorder, log_id)
        found = await phases_of(db, log_id, name, moment)
        known = [each.began_at for each in expected if each.began_at is not None]
        then = [each for each in known if time_ms(each) <= moment]
        note(f"{wanted} {expected} {found}")
        assert [each.began_at for each in found if each.began_at is not None] == then
    ends = [each.earliest_end for each in expected[:-1]]
    assert ends == [each.began_at for each in found[1:]]


def moments(expected: Sequence[ShownPhase], opens: Window | None, now_ms: int) -> list[int]:
    """Returns the times at which something can happen: phases begin, or the window opens."""
    begins = {time_ms(each.began_at) for each in expected if each.began_at is not None}
    windows = () if opens is None else (opens,)
    openings = {window.first_open(windows, each) for each in begins}
    return sorted({*begins, *(each for each in openings if each), now_ms + LATER_MS})


def is_possible(plan: Sequence[PlanPhase], name: str) -> bool:
    """Returns whether each phase reaches as many new devices as its condition needs reports of: a
    rollout chooses its devices when it starts."""
    buckets = [rollout.bucket(name, device) for device in DEVICES]
    before = [0, *(phase.reach for phase in plan)]
    new = [
        sum(low <= each < phase.reach for each in buckets)
        for low, phase in zip(before, plan, strict=False)
    ]
    return all((phase.min_reports or 0) <= count for phase, count in zip(plan, new, strict=True))


@settings(max_examples=20)
@given(
    reaches=st.sets(st.integers(1, 10_000), min_size=1, max_size=5),
    name=st.uuids().map(lambda found: f"r_{found.hex}"),
)
def test_a_forecast_counts_about_the_devices_that_each_phase_reaches(
    reaches: set[int], name: str
) -> None:
    devices = [f"device-{number}" for number in range(2_000)]
    plan = [PlanPhase(reach, 0) for reach in sorted({*reaches, 10_000})]
    wanted = RolloutStarted("1.1.0", "m", plan[0].reach, plan=tuple(plan))
    for phase, shown in zip(plan, forecast(wanted, NOW_MS, len(devices)), strict=True):
        reached = sum(rollout.bucket(name, each) < phase.reach for each in devices)
        share = phase.reach / rollout.BUCKETS
        deviation = (len(devices) * share * (1 - share)) ** 0.5
        assert isinstance(shown.devices, int)
        assert abs(shown.devices - reached) <= 6 * deviation + 1
    assert reached == len(devices)
