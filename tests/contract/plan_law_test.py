"""Tests the laws of plans over any interleaving of reports, clock, orders and restarts.

Time is an input: the database's clock stands still but for the steps of the story. After each step,
the phases that the events lead to are those of a plain model, and so is the answer to a check-in.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from firmtrail.commands import steering as commands
from firmtrail.database.database import Database
from firmtrail.events.entry import decode
from firmtrail.events.event import Event
from firmtrail.events.fleet import DeviceChanged, SettingsChanged
from firmtrail.events.steering import PlanPhase, UpdateOffered, Window
from firmtrail.events.times import time_text
from firmtrail.eventstore import short_streams
from firmtrail.projections import controls
from firmtrail.recording.recorder import Recorder
from firmtrail.rules import phases, rollout
from firmtrail.rules.device import Refused
from firmtrail.rules.rollout import PlanTime
from tests.clock import set_clock
from tests.contract.steered_log import check_in, recorded, release, roll_out
from tests.databases import new_log
from tests.fleet import record_events, register, report
from tests.plan_model import PlanModel
from tests.replay import differences

START_S = 1_790_000_040
"""A time at which the window of the model opens."""
DEVICES = [f"d{number}" for number in range(16)]
WINDOW = Window("*/2 * * * *", 60, "UTC")
OPPOSITE = Window("1-59/2 * * * *", 60, "UTC")
"""It is open while the other one is closed."""

type Whose = Literal["rollout", "cohort", "model", "project"]
"""Whose window counts; those that come later here have the opposite one."""


class Setting(NamedTuple):
    """Holds what a rollout is started with."""

    phases: Sequence[PlanPhase]
    starts_in: int = 0
    window_of: Whose | None = None
    needs_approval: bool = False


class Playing(NamedTuple):
    """Holds the story's log, its servers, and the model."""

    db: Database
    servers: list[Recorder]
    log_id: int
    model: PlanModel


@st.composite
def plans(draw: st.DrawFn) -> tuple[PlanPhase, ...]:
    reaches = sorted(draw(st.sets(st.integers(1, 10), min_size=2, max_size=4)))
    kinds = st.sampled_from(("timed", "conditional", "both", "manual"))
    found = []
    for reach in reaches:
        kind = draw(kinds)
        after_s = draw(st.integers(0, 90)) if kind in {"timed", "both"} else None
        when = (50, draw(st.integers(1, 3))) if kind in {"conditional", "both"} else (None, None)
        found.append(PlanPhase(1000 * reach, after_s, *when))
    return tuple(found)


settings_of = st.builds(
    Setting,
    plans(),
    st.sampled_from((0, 0, 45)),
    st.sampled_from((None, *get_args(Whose.__value__))),
    st.booleans(),
)
devices = st.sampled_from(DEVICES)
steps = st.one_of(
    st.tuples(st.just("tick"), st.integers(1, 100)),
    st.tuples(st.just("tick"), st.integers(1, 100)),
    st.tuples(st.just("all check in")),
    st.tuples(st.just("check in"), devices),
    st.tuples(st.just("report"), devices, st.booleans()),
    st.tuples(st.just("all install")),
    st.tuples(st.sampled_from(("pause", "resume", "halt", "unhalt", "advance", "approve"))),
    st.tuples(st.just("restart")),
)

ALL_KINDS = (
    PlanPhase(1_000, 30),
    PlanPhase(9_000, 60, 50, 2),
    PlanPhase(9_500, None, 50, 1),
    PlanPhase(10_000),
)
EVERY_ORDER: list[tuple[Any, ...]] = [
    ("all check in",), ("approve",), ("all check in",), ("tick", 45), ("all check in",),
    ("tick", 30), ("pause",), ("tick", 20), ("restart",), ("resume",), ("halt",), ("tick", 10),
    ("all check in",), ("unhalt",), ("tick", 50), ("all check in",), ("report", "d1", False),
    ("all install",), ("tick", 60), ("restart",), ("all check in",), ("all install",),
    ("advance",), ("tick", 60), ("all check in",), ("all install",), ("tick", 1),
]  # fmt: skip
"""Every way in which a phase may wait or end, with devices that ask meanwhile."""
ENDS_AS_IT_IS_HALTED: list[tuple[Any, ...]] = [
    ("tick", 30), ("all check in",), ("halt",), ("restart",), ("unhalt",), ("all check in",),
]  # fmt: skip

PAUSED_OVER_ITS_END: list[tuple[Any, ...]] = [
    ("tick", 10), ("pause",), ("tick", 60), ("restart",), ("all check in",), ("resume",),
    ("tick", 19), ("all check in",), ("tick", 1), ("all check in",),
]  # fmt: skip
ADVANCED_BEFORE_ITS_START: list[tuple[Any, ...]] = [
    ("advance",), ("tick", 44), ("all check in",), ("tick", 1), ("all check in",),
    ("all install",), ("tick", 59), ("all check in",), ("tick", 1), ("all check in",),
]  # fmt: skip


async def begin(db: Database, recorder: Recorder, found: Setting) -> Playing:
    """Registers devices that run 1.0.0, and starts the rollout of 1.1.0."""
    await set_clock(db, START_S * 1000)
    log_id = await new_log(db)
    await register(recorder, log_id, *DEVICES, model="m")
    of_cohort = [(f"device/{name}", DeviceChanged(cohort="c")) for name in DEVICES]
    await record_events(recorder, log_id, [*of_cohort, *windows_of(found.window_of)])
    await release(recorder, log_id, "1.0.0", "1.1.0")
    await recorder.report(log_id, [report(device=name) for name in DEVICES])
    start = START_S + found.starts_in
    name = await roll_out(
        recorder,
        log_id,
        "1.1.0",
        reach=found.phases[0].reach,
        plan=tuple(found.phases),
        start_at=time_text(start * 1000) if found.starts_in else None,
        window=WINDOW if found.window_of == "rollout" else None,
        approvals=1 if found.needs_approval else None,
        started_by="u",
    )
    model = PlanModel(
        *(found.phases, START_S, start, not found.needs_approval),
        has_window=found.window_of is not None,
        rollout=name,
    )
    return Playing(db, [recorder], log_id, model)


def windows_of(whose: Whose | None) -> list[tuple[str, Event]]:
    """Returns the change of the project's settings that makes this window count."""
    if whose is None:
        return []
    of_cohort, of_model, of_project = (
        WINDOW if each == whose else OPPOSITE if whose in before else None
        for each, before in (
            ("cohort", {"rollout"}),
            ("model", {"rollout", "cohort"}),
            ("project", {"rollout", "cohort", "model"}),
        )
    )
    changed = SettingsChanged(
        cohort_windows={"c": of_cohort} if of_cohort else {},
        model_windows={"m": of_model} if of_model else {},
        window=of_project,
    )
    return [("project/acme", changed)]


async def do(playing: Playing, step: tuple[Any, ...]) -> None:
    db, servers, log_id, model = playing
    match step:
        case "tick", seconds:
            model.tick(seconds)
            await set_clock(db, model.now * 1000)
        case "check in", device:
            await ask(playing, device)
        case ("all check in",):
            await asyncio.gather(*(ask(playing, device) for device in DEVICES))
        case "report", device, is_installed if device in model.open_offers:
            await outcome(playing, device, is_installed=is_installed)
        case ("all install",):
            for device in sorted(model.open_offers):
                await outcome(playing, device, is_installed=True)
        case ("restart",):
            servers.append(Recorder(db))
        case (order,):
            await command(servers[-1], log_id, model, order)


async def command(server: Recorder, log_id: int, model: PlanModel, order: str) -> None:
    """Gives an order to the service and to the model; both or neither take it."""
    name, takes = model.rollout, True
    match order:
        case "pause":
            wanted: Any = commands.pause(name, None, actor="user/u")
            takes, model.is_paused = not model.is_paused, True
        case "resume":
            wanted = commands.resume(name, None, actor="user/u")
            takes, model.is_paused = model.is_paused, False
            model.settle()
        case "halt":
            wanted = commands.halt(None, is_all=True, actor="user/u")
            takes = model.halted_since is None
            model.halted_since = model.now if takes else model.halted_since
        case "unhalt":
            wanted = commands.end_halt(None, actor="user/u")
            takes, model.halted_since = model.halted_since is not None, None
            model.settle()
        case "approve":
            wanted = commands.approve(name, None, person="v", actor="user/v")
            takes = not model.is_approved
            if takes:
                model.approve()
        case _:
            wanted = commands.advance(name, None, None, actor="user/u")
            takes = model.advance()
    assert await is_taken(server, log_id, wanted) == takes, order


async def is_taken(server: Recorder, log_id: int, wanted: Any) -> bool:
    try:
        await server.act(log_id, wanted)
    except Refused:
        return False
    return True


async def ask(playing: Playing, device: str) -> None:
    """Lets a device check in, and compares the answer with the model's."""
    model = playing.model
    expected = model.reason(device)
    decision = await check_in(playing.servers[-1], playing.log_id, device)
    assert (decision.reason, decision.version) == (
        expected,
        "1.1.0" if expected == "rollout" else None,
    )
    if decision.version is not None:
        model.offer(device)


async def outcome(playing: Playing, device: str, *, is_installed: bool) -> None:
    status = "installed" if is_installed else "failed"
    await playing.servers[-1].report(playing.log_id, [report("1.1.0", status, device)])  # type: ignore[arg-type]
    playing.model.report(device, is_installed=is_installed)


async def check_phases(playing: Playing, reach_before: int) -> int:
    """Compares the phases with the model's; returns the reach, which has not become less."""
    model, found = playing.model, await controls.read(playing.db, playing.log_id)
    at, state = PlanTime(model.now * 1000, found.halts), found.rollouts[model.rollout]
    rows = await short_streams.read(playing.db, playing.log_id, rollout.stream(state.id))
    past = phases.past([decode(position, text) for position, _, text in rows], at)
    began = [each.began_at_ms for each in past.times]
    assert began == [None if each < 0 else each * 1000 for each in model.begun]
    assert rollout.reach_at(state, at) == rollout.reach_at(past.state, at) == model.reach
    assert model.reach >= reach_before
    for server in playing.servers:
        known = server.controls.known(playing.log_id)
        if known is not None and known.count == found.count:
            own = known.rollouts[model.rollout]
            assert rollout.clock_at(own, at) == rollout.clock_at(state, at)
    return model.reach


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(of=settings_of, story=st.lists(steps, min_size=4, max_size=20))
@example(of=Setting(ALL_KINDS, 45, "rollout", needs_approval=True), story=EVERY_ORDER)
@example(of=Setting(ALL_KINDS, 0, "cohort"), story=EVERY_ORDER)
@example(of=Setting(ALL_KINDS, 45, "model"), story=EVERY_ORDER)
@example(of=Setting(ALL_KINDS, 0, "project", needs_approval=True), story=EVERY_ORDER)
@example(of=Setting(ALL_KINDS), story=EVERY_ORDER)
@example(of=Setting(ALL_KINDS), story=ENDS_AS_IT_IS_HALTED)
@example(of=Setting(ALL_KINDS), story=PAUSED_OVER_ITS_END)
@example(of=Setting(ALL_KINDS, 45), story=ADVANCED_BEFORE_ITS_START)
async def test_phases_and_answers_are_those_of_a_plain_model(
    db: Database, recorder: Recorder, of: Setting, story: list[tuple[Any, ...]]
) -> None:
    playing = await begin(db, recorder, of)
    try:
        reach = await check_phases(playing, 0)
        for step in story:
            await do(playing, step)
            reach = await check_phases(playing, reach)
    finally:
        for each in playing.servers[1:]:
            await each.close()
    assert await differences(db, playing.log_id) == []
    offers = [
        each for each in await recorded(db, playing.log_id) if isinstance(each, UpdateOffered)
    ]
    if story == EVERY_ORDER:
        assert len(offers) >= len(DEVICES)
        assert playing.model.phase == len(of.phases) - 1
