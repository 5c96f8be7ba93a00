"""Runs `firmtrail simulate --plan`: two releases, each through a plan of four phases.

Half of the installs of 1.1.0 fail, so it must pause itself in its first phase. Hardly any of those
of 1.2.0 fail, and its phases begin one after the other while devices check in. Answers are compared
immediately. When each phase began, and which offers and outcomes belong to it, is derived from the
log at the end, and compared with what the service shows.
"""

import asyncio
import time
from collections.abc import Sequence
from math import ceil, sqrt
from typing import Any

from rich.progress import Progress

from firmtrail.events.times import time_ms
from firmtrail.exits import CouldNotRun
from firmtrail.simulate import plan_checks, rounds, steered_checks, steering, visits
from firmtrail.simulate.client import Client
from firmtrail.simulate.plan_checks import PlanRecount
from firmtrail.simulate.plan_model import ModelPhase
from firmtrail.simulate.steering import BAD, FAILURES, FIXED, RELEASES, ROLLBACK_FAILURES
from firmtrail.simulate.visits import Simulation
from firmtrail.simulate.workload import Plan

DEVICES_MIN = 300
FAILED_PERCENT = 20
"""The percentage of failed outcomes above which each of the two rollouts pauses itself."""
BAD_PERCENT = 50
"""The percentage of installs of 1.1.0 that fail."""
FAIL_PERCENT_MAX = 5
"""More failed installs of 1.2.0 could keep a small phase from its 90 percent."""
AFTER_MS = 2000
ROUNDS_MAX = 100
DEVIATIONS = 6
"""How many standard deviations a phase may differ from the devices that the dry run names."""


def phases_for(devices: int) -> list[ModelPhase]:
    """Returns a plan whose first phase reaches at least 30 of the devices, or one percent."""
    percents = [max(1, ceil(3000 / devices)), max(10, ceil(6000 / devices)), 50, 100]
    half = [
        max(1, devices * (percent - before) // 200)
        for before, percent in zip([0, *percents], percents, strict=False)
    ]
    return [
        ModelPhase(percents[0], AFTER_MS, 90, half[0]),
        ModelPhase(percents[1], None, 90, half[1]),
        ModelPhase(percents[2], AFTER_MS),
        ModelPhase(percents[3]),
    ]


async def play(client: Client, plan: Plan, progress: Progress) -> dict[str, Any]:
    """Performs the simulation, compares the service with it, and returns the summary."""
    began_s = time.monotonic()
    phases = phases_for(plan.devices)
    simulation, rollouts = await perform(client, plan, phases, progress)
    seconds = time.monotonic() - began_s
    checked = await rounds.check(simulation, plan.seed)
    recount = await plan_checks.log(simulation, rollouts, phases)
    done = _done(simulation, recount, phases, rollouts)
    return rounds.summary(client, plan, checked, seconds=seconds, done=done)


async def perform(
    client: Client, plan: Plan, phases: Sequence[ModelPhase], progress: Progress
) -> tuple[Simulation, tuple[str, str]]:
    """Performs the whole simulation, with its own fleet and releases. Returns it with its two
    rollouts: the one that stops itself, and the one that reaches all devices."""
    simulation = await rounds.prepared(client, plan, progress, (*RELEASES, FIXED))
    bad = await _stop_itself(simulation, phases)
    return simulation, (bad, await _follow(simulation, plan, phases))


def _done(
    simulation: Simulation,
    recount: PlanRecount,
    phases: Sequence[ModelPhase],
    rollouts: tuple[str, str],
) -> dict[str, Any]:
    """Returns the summary's counts of what the fleet and the two rollouts did."""
    done, pause = simulation.done, simulation.pause
    stopped = recount.offers[rollouts[0]]
    return {
        "check-ins": done["check-ins"],
        "check-ins without news (304)": done["nothing new"],
        **{f"installs: {end}": done[end] for end in ("installed", *FAILURES)},
        f"{BAD}: failed when it paused": f"{pause.failed} of {pause.failed + pause.installed}",
        f"{BAD}: phase in which it paused": recount.paused_in,
        f"{BAD}: offers before the pause": sum(each < pause.position for each in stopped),
        f"{BAD}: offers after the pause": sum(each > pause.position for each in stopped),
        **{
            f"{FIXED}: phase {n + 1}, {phase.percent} %": plan_checks.summary(recount.plan, n)
            for n, phase in enumerate(phases)
        },
        **{f"ended on {version}": n for version, n in plan_checks.ended(simulation).items()},
    }


async def _start(simulation: Simulation, version: str, phases: Sequence[ModelPhase]) -> str:
    """Starts a rollout with the plan, after a dry run whose forecast must name its phases."""
    body = {
        "version": version,
        "model": simulation.model,
        "plan": {"phases": [each.body for each in phases]},
        "pause_if": {"failed_percent": FAILED_PERCENT, "min_reports": _reports_min(phases)},
    }
    tried = await simulation.client.command("/rollouts", {**body, "dry_run": True})
    rollout: str = (await simulation.client.command("/rollouts", body))["id"]
    for phase, forecast in zip(phases, tried["phases"], strict=True):
        _compare_forecast(simulation, rollout, phase, forecast)
    simulation.orders = simulation.orders._replace(
        rollout=rollout, version=version, percent=phases[0].percent, is_paused=False
    )
    return rollout


def _reports_min(phases: Sequence[ModelPhase]) -> int:
    return max(5, (phases[0].min_reports or 0) // 2)


def _compare_forecast(
    simulation: Simulation, rollout: str, phase: ModelPhase, forecast: dict[str, Any]
) -> None:
    """Compares what a dry run says of a phase with the devices that it reaches, and with its time.
    A rollout chooses its devices when it starts, so a dry run names about how many they are."""
    names = [each.device.name for each in simulation.devices]
    reached = sum(steering.is_reached(rollout, phase.percent, each) for each in names)
    deviation = sqrt(len(names) * phase.percent * (100 - phase.percent)) / 100
    if abs(forecast["devices"] - reached) > DEVIATIONS * deviation + 1:
        simulation.client.tally.differ(f"{phase} reaches {reached} devices, forecast: {forecast}")
    if forecast["earliest_end"] is not None:
        length_ms = time_ms(forecast["earliest_end"]) - time_ms(forecast["began_at"])
        steered_checks.compare(simulation, f"length of {phase}", length_ms, phase.after_ms or 0)


async def _stop_itself(simulation: Simulation, phases: Sequence[ModelPhase]) -> str:
    """Rolls out 1.1.0, which must pause itself in its first phase and then offer nothing. A person
    aborts it; the devices that installed it keep it."""
    rollout = await _start(simulation, BAD, phases)
    simulation.ends = steering.ends(BAD_PERCENT, ROLLBACK_FAILURES, ())
    simulation.may_pause = True
    await rounds.act(simulation, f"{BAD}, {phases[0].percent} %", visits.visit)
    simulation.may_pause, simulation.orders = False, simulation.orders._replace(is_paused=True)
    simulation.pause = steered_checks.pause(simulation, FAILED_PERCENT, _reports_min(phases))
    await steered_checks.rollout(simulation, "paused")
    await rounds.act(simulation, "Paused", visits.visit)
    await steered_checks.rollout(simulation, "paused")
    await simulation.client.command(f"/rollouts/{rollout}/abort", {})
    return rollout


async def _follow(simulation: Simulation, plan: Plan, phases: Sequence[ModelPhase]) -> str:
    """Rolls out 1.2.0, whose phases begin while devices check in, until all of them have it."""
    rollout = await _start(simulation, FIXED, phases)
    simulation.ends = steering.ends(plan.fail_percent, FAILURES, ())
    for _ in range(ROUNDS_MAX):
        phase = await plan_checks.shown_phase(simulation)
        before = simulation.client.tally.recorded
        simulation.orders = simulation.orders._replace(percent=phases[phase].percent)
        simulation.later_percents = tuple(each.percent for each in phases[phase + 1 :])
        await rounds.act(simulation, f"{FIXED}, {phases[phase].percent} %", visits.visit)
        if simulation.client.tally.recorded != before:
            continue
        if phase == len(phases) - 1:
            await steered_checks.rollout(simulation, "running")
            return rollout
        await asyncio.sleep(AFTER_MS / 1000)
    raise CouldNotRun(f"The plan of rollout {rollout} did not end in {ROUNDS_MAX} rounds.")
