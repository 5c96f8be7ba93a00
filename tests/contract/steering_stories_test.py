"""Tests the law of steering over any story: offers obey it, and every count equals a recount."""

from collections import Counter
from uuid import uuid4

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from firmtrail.access.device_secrets import SealedSecret
from firmtrail.commands import actions
from firmtrail.commands import devices as device_commands
from firmtrail.commands import steering as commands
from firmtrail.database.database import Database
from firmtrail.events.entry import decode
from firmtrail.events.event import Event
from firmtrail.events.fleet import (
    DeviceChanged,
    FirmwareInstalled,
    FirmwareRunning,
    SettingsChanged,
    UpdateFailed,
    UpdateProgressed,
)
from firmtrail.events.steering import (
    AttemptsCleared,
    DeviceFellSilent,
    OfferEnded,
    PlanPhase,
    RolloutPlanChanged,
    UpdateOffered,
)
from firmtrail.eventstore import short_streams
from firmtrail.projections import (
    controls,
    device_current,
    device_offers,
    rollouts,
)
from firmtrail.recording.recorder import Recorder
from firmtrail.rules import offer
from firmtrail.rules.device import DeviceState, Refused
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.version import is_higher
from tests.contract.steered_log import (
    DEVICES,
    MOVING,
    VERSIONS,
    begin,
    check_in,
    roll_back,
    roll_out,
)
from tests.databases import new_log
from tests.fleet import record_events, report
from tests.replay import differences


async def check_law(db: Database, recorder: Recorder, log_id: int, name: str) -> None:
    """Checks in once, and compares the decision with the law, by the events of the log."""
    before = await recorded_of(db, log_id, name)
    decision = await check_in(recorder, log_id, name)
    decides = recorder.controls.known(log_id)
    assert decides is not None
    if decision.version is None:
        return
    assert not decides.releases[ReleaseKey("m", decision.version)].is_withdrawn
    assert decides.halt is None or (decides.halt == "rollouts" and decision.reason == "rollback")
    moving = [each for each in before if isinstance(each, MOVING)]
    if is_higher(moving[-1].version, decision.version):
        assert decision.reason in {"rollback", "pinned"}
    assert attempts(before, decision.version) < decides.settings.max_attempts


async def recorded_of(db: Database, log_id: int, name: str) -> list[Event]:
    rows = await short_streams.read(db, log_id, f"device/{name}")
    return [decode(position, text).event for position, _, text in rows]


def attempts(history: list[Event], version: str) -> int:
    """Counts failures, once an offer, since the last install or retry; without those by
    `installing`."""
    counted, can_count = 0, False
    for each in history:
        match each:
            case UpdateOffered(version=offered) if offered == version:
                can_count = True
            case UpdateFailed(version=failed) if failed == version and can_count:
                counted, can_count = counted + 1, False
            case AttemptsCleared(cleared) if cleared == version:
                counted = 0
            case OfferEnded(version=ended, ending="cancelled") if ended == version:
                can_count = False
            case FirmwareInstalled(version=ran) | FirmwareRunning(version=ran):
                if ran == version:
                    counted, can_count = 0, False
    return counted


def how_it_went(  # noqa: C901 (a table of events)
    history: list[Event], rollout: str, max_attempts: int
) -> str | None:
    """Returns the outcome of the rollout's last offer to a device, by its events alone, if any.

    A report belongs to the last offer of its version, by any rollout. An attempt
    fails once an offer: by `failed`, or by running another version after `installing`.
    """
    made_last: dict[str, str | None] = {}
    outcomes: dict[tuple[str | None, str], str] = {}
    failures: Counter[str] = Counter()
    can_count: set[str] = set()
    installing: set[str] = set()
    for each in history:
        failed: set[str] = set()
        match each:
            case UpdateOffered(version=version):
                made_last[version] = each.rollout
                outcomes[each.rollout, version] = outcomes.pop((each.rollout, version), "offered")
                can_count.add(version)
            case AttemptsCleared(version):
                del failures[version]
            case DeviceFellSilent(version, of):
                outcomes[of, version] = "failed"
            case OfferEnded(version, ending="cancelled"):
                can_count.discard(version)
                installing.discard(version)
            case UpdateProgressed(version=version, status="installing"):
                installing |= {version} & can_count
            case UpdateFailed(version=version):
                failed = {version} & can_count
            case FirmwareInstalled(version=ran) | FirmwareRunning(version=ran):
                failed = installing - {ran}
                if ran in made_last:
                    outcomes[made_last[ran], ran] = "installed"
                del failures[ran]
                can_count.discard(ran)
                installing.discard(ran)
        for version in failed:
            outcomes[made_last[version], version] = "failed"
            failures[version] += 1
        can_count -= failed
        installing -= failed
    offers = [(version, how) for (source, version), how in outcomes.items() if source == rollout]
    if not offers:
        return None
    version, outcome = offers[-1]
    is_exhausted = failures[version] >= max_attempts and outcome != "installed"
    return "exhausted" if is_exhausted else outcome


versions, devices = st.sampled_from(VERSIONS), st.sampled_from(DEVICES)
statuses = st.sampled_from(("installed", "running", "failed", "installing"))
wishes = st.one_of(
    st.tuples(st.just("check in"), devices),
    st.tuples(st.just("report"), devices, versions, statuses),
    st.tuples(st.just("report"), devices, versions, statuses),
    st.tuples(st.just("roll out"), versions, st.sampled_from((0, 5_000, 10_000))),
    st.tuples(st.just("plan"), versions),
    st.tuples(st.just("change plan"), st.sampled_from((0, 1))),
    st.tuples(st.just("approve")),
    st.tuples(st.just("advance")),
    st.tuples(st.just("roll back"), versions),
    st.tuples(st.just("pause")),
    st.tuples(st.just("halt"), st.booleans()),
    st.tuples(st.just("unhalt")),
    st.tuples(st.just("follow")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("retry"), devices, versions),
    st.tuples(st.just("pin"), devices, st.one_of(st.none(), versions)),
    st.tuples(st.just("move"), devices, st.sampled_from(("m", "k"))),
    st.tuples(st.just("decommission"), devices, st.booleans()),
    st.tuples(st.just("fall silent"), devices),
    st.tuples(st.just("end"), devices, st.sampled_from(("cancelled", "confirmed"))),
)


PLAN = (
    PlanPhase(5_000, None, 50, 2),
    PlanPhase(8_000, 0),
    PlanPhase(9_000, None, 100, 1),
    PlanPhase(10_000),
)


EVERY_OUTCOME: list[tuple[str, ...]] = [
    ("roll out", "1.1.0", 10_000),  # type: ignore[list-item]
    ("report", "d1", "1.1.0", "failed"),
    ("report", "d2", "1.1.0", "installing"),
    ("report", "d2", "1.0.0", "running"),
    ("resume",),
    ("report", "d1", "1.1.0", "failed"),
    ("report", "d3", "1.1.0", "installed"),
    ("resume",),
    ("report", "d1", "1.1.0", "failed"),
    ("report", "d3", "1.0.0", "installed"),
    ("roll out", "1.1.0", 10_000),  # type: ignore[list-item]
    ("report", "d3", "1.1.0", "failed"),
]
"""One device fails until its attempts are exhausted, one fails once, one installs; and that one
fails with the next rollout."""


BY_PLAN: list[tuple[str, ...]] = [
    ("plan", "1.1.0"),
    ("report", "d1", "1.1.0", "failed"),
    ("report", "d2", "1.1.0", "installed"),
    ("pause",),
    ("report", "d3", "1.1.0", "installed"),
    ("move", "d2", "k"),
    ("resume",),
    ("halt", False),  # type: ignore[list-item]
    ("report", "d1", "1.1.0", "installed"),
    ("unhalt",),
    ("move", "d2", "m"),
    ("advance",),
    ("change plan", 1),  # type: ignore[list-item]
    ("report", "d2", "1.1.0", "failed"),
    ("approve",),
    ("report", "d2", "1.1.0", "installed"),
    ("change plan", 0),  # type: ignore[list-item]
]
"""A plan whose phases outcomes, time and a person end, with devices that come and go."""


COMING_AND_GOING: list[tuple[str, ...]] = [
    ("roll out", "1.1.0", 10_000),  # type: ignore[list-item]
    ("report", "d1", "1.1.0", "installed"),
    ("move", "d1", "k"),
    ("fall silent", "d2"),
    ("decommission", "d2", True),  # type: ignore[list-item]
    ("move", "d1", "m"),
    ("decommission", "d2", False),  # type: ignore[list-item]
    ("report", "d2", "1.1.0", "failed"),
]
"""Devices that count, no longer count, and count again."""


GIVEN_UP: list[tuple[str, ...]] = [
    ("roll out", "1.1.0", 10_000),  # type: ignore[list-item]
    ("report", "d1", "1.1.0", "installing"),
    ("end", "d1", "cancelled"),
    ("report", "d1", "1.0.0", "running"),
    ("end", "d2", "cancelled"),
    ("pause",),
    ("report", "d2", "1.1.0", "failed"),
    ("resume",),
    ("report", "d1", "1.1.0", "failed"),
    ("end", "d3", "confirmed"),
    ("report", "d3", "1.1.0", "installed"),
]
"""Offers that their devices give up are no attempts; what is offered later is one."""


async def fall_silent(recorder: Recorder, log_id: int, name: str) -> None:
    """Records the device's silence, if it waits for the outcome of a rollout's offer."""
    made = offer.latest(list((await offers_of(recorder, log_id, name)).values()))
    if made is not None and made.is_pending and made.cause == "rollout":
        silence = DeviceFellSilent(made.version, made.source, "2026-03-15T12:00:00.000Z")
        await record_events(recorder, log_id, [(f"device/{name}", silence)])


async def end_newest(recorder: Recorder, log_id: int, name: str, ending: str) -> None:
    """Ends the device's newest offer, as its client does that confirms updates by an id."""
    made = offer.latest(list((await offers_of(recorder, log_id, name)).values()))
    if made is not None:
        command = actions.end(name, made.ordinal, ending, actor="user/u")  # type: ignore[arg-type]
        await recorder.act(log_id, command)


async def offers_of(recorder: Recorder, log_id: int, name: str) -> device_offers.DeviceOffers:
    return (await device_offers.live(recorder._db, log_id, [name])).get(name, {})


async def decommission(recorder: Recorder, log_id: int, name: str, *, is_gone: bool) -> None:
    wanted = device_commands.WantedChange(DeviceChanged(), decommissioned=is_gone)
    secret = SealedSecret(name, f"sec_{uuid4().hex}", uuid4().hex, None)
    change = device_commands.change(name, wanted, secret=secret, actor="user/u")
    await recorder.act(log_id, change)


async def states_of(db: Database, log_id: int) -> dict[str, DeviceState]:
    return device_current.states(await db.read(device_current.load(log_id, 1, DEVICES)))


async def check_counts(db: Database, recorder: Recorder, log_id: int) -> None:
    """Checks that a rollout counts only outcomes of the devices that it is meant for."""
    states, decides = await states_of(db, log_id), await controls.read(db, log_id)
    counts = rollouts.recent(await db.read(rollouts.load_recent(log_id, 1)))
    made = [each for name in DEVICES for each in (await offers_of(recorder, log_id, name)).values()]
    for name, counted in counts.items():
        of = decides.rollouts[name]
        if not of.watches:
            continue
        outcomes = [
            each.outcome
            for each in made
            if each.source == name
            and each.outcome_position > of.resumed_position
            and states[each.device].model == "m"
            and not states[each.device].decommissioned
        ]
        assert counted[:2] == (outcomes.count("installed"), outcomes.count("failed"))


async def do(  # noqa: C901, PLR0912 (a table of commands)
    recorder: Recorder, log_id: int, wish: tuple[str, ...]
) -> None:
    newest = list((await controls.read(recorder._db, log_id)).rollouts)[-1:]
    match wish:
        case "report", device, version, status:
            await recorder.report(log_id, [report(version, status, device)])  # type: ignore[arg-type]
        case "roll out", version, reach:
            await roll_out(recorder, log_id, version, reach=reach, failed_percent=30, min_reports=2)
        case "plan", version:
            await roll_out(recorder, log_id, version, reach=PLAN[0].reach, plan=PLAN)
        case "change plan", approvals if newest:
            wanted = RolloutPlanChanged(PLAN[1:], int(approvals) or None, "u")
            change = commands.change_plan(newest[0], None, wanted=wanted, actor="user/u")
            await recorder.act(log_id, change)
        case ("approve",) if newest:
            await recorder.act(
                log_id, commands.approve(newest[0], None, person="v", actor="user/v")
            )
        case ("advance",) if newest:
            await recorder.act(log_id, commands.advance(newest[0], None, None, actor="user/u"))
        case "roll back", bad:
            await roll_back(recorder, log_id, bad)
        case ("pause",) if newest:
            await recorder.act(log_id, commands.pause(newest[0], "why", actor="user/u"))
        case ("resume",) if newest:
            await recorder.act(log_id, commands.resume(newest[0], None, actor="user/u"))
        case "halt", is_all:
            await recorder.act(log_id, commands.halt(None, is_all=bool(is_all), actor="user/u"))
        case ("unhalt",):
            await recorder.act(log_id, commands.end_halt("over", actor="user/u"))
        case ("follow",):
            follows = SettingsChanged(follow_latest=True, max_attempts=2)
            await record_events(recorder, log_id, [("project/acme", follows)])
        case "move", device, model:
            event = DeviceChanged(model=model)
            await record_events(recorder, log_id, [(f"device/{device}", event)])
        case "decommission", device, is_gone:
            await decommission(recorder, log_id, device, is_gone=bool(is_gone))
        case "fall silent", device:
            await fall_silent(recorder, log_id, device)
        case "end", device, ending:
            await end_newest(recorder, log_id, device, ending)
        case "retry", device, version:
            await recorder.act(log_id, commands.retry(device, version, actor="user/u"))
        case "pin", device, version:
            event = DeviceChanged(pinned=version)
            await record_events(recorder, log_id, [(f"device/{device}", event)])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(wishes, min_size=5, max_size=25))
@example(story=EVERY_OUTCOME)
@example(story=COMING_AND_GOING)
@example(story=BY_PLAN)
@example(story=[("plan", "1.0.0"), ("halt", False), ("pause",)])
@example(story=GIVEN_UP)
async def test_offers_obey_the_law_and_counts_equal_a_recount(
    db: Database, recorder: Recorder, story: list[tuple[str, ...]]
) -> None:
    log_id = await new_log(db)
    await begin(recorder, log_id)
    for wish in story:
        try:
            await do(recorder, log_id, wish)
        except Refused:
            continue
        for name, state in (await states_of(db, log_id)).items():
            if not state.decommissioned:
                await check_law(db, recorder, log_id, name)
        await check_counts(db, recorder, log_id)
    assert await differences(db, log_id) == []
    for rollout in (await controls.read(db, log_id)).rollouts:
        histories = [
            await recorded_of(db, log_id, name)
            for name, state in (await states_of(db, log_id)).items()
            if state.model == "m" and not state.decommissioned
        ]
        for max_attempts in (1, 2, 3):  # a value that the project's setting may have reached
            _, counted = await device_offers.counts(db, log_id, rollout, max_attempts)
            went = [how_it_went(each, rollout, max_attempts) for each in histories]
            assert counted == {
                "offered": len(went) - went.count(None),
                "installed": went.count("installed"),
                "failed": went.count("failed"),
                "exhausted": went.count("exhausted"),
            }
