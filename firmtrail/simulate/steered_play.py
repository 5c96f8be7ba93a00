"""Runs `firmtrail simulate --steer`: a failing rollout, and its rollback.

In each round every device checks in and follows the answer. 1.1.0 is rolled out to some devices,
then to more; installs fail until the rollout must pause itself; a rollback brings each device back
to the version that it ran before. Answers are compared immediately; counts are compared between two
rounds, when no device is active.
"""

import time
from itertools import chain
from typing import Any

from rich.progress import Progress

from firmtrail.simulate import rounds, steered_checks, steering, visits
from firmtrail.simulate.client import Client
from firmtrail.simulate.steered_checks import Recount
from firmtrail.simulate.steering import (
    BAD,
    FAILURES,
    GOOD,
    ODD,
    OTHER_ENDINGS,
    RELEASES,
    ROLLBACK_FAILURES,
)
from firmtrail.simulate.visits import Simulation
from firmtrail.simulate.workload import Plan

DEVICES_MIN = 300
"""With fewer devices, chance decides whether the rollout reaches enough of them to pause."""
FIRST_PERCENT, THEN_PERCENT = 10, 50
REPORTS_MIN = 100
"""How many outcomes must be reported before the rollout may pause."""
SILENT_EVERY = 20
ASKED_MAX = 200


async def play(client: Client, plan: Plan, progress: Progress) -> dict[str, Any]:
    """Performs the simulation, compares the service with it, and returns the summary."""
    began_s = time.monotonic()
    simulation = await perform(client, plan, progress)
    seconds = time.monotonic() - began_s
    checked = await rounds.check(simulation, plan.seed)
    await steered_checks.asks(simulation)
    recount = await steered_checks.log(simulation)
    done = _done(simulation, recount)
    return rounds.summary(client, plan, checked, seconds=seconds, done=done)


def _done(simulation: Simulation, recount: Recount) -> dict[str, Any]:
    """Returns the summary's counts of what the fleet and the rollouts did."""
    done, pause, orders = simulation.done, simulation.pause, simulation.orders
    offers = recount.offers[orders.rollout]
    went_back = [
        each for each in simulation.devices if orders.rollback in each.offer_history.results
    ]
    return {
        "check-ins": done["check-ins"],
        "check-ins without news (304)": done["nothing new"],
        "artifacts loaded": done["artifacts loaded"],
        **{f"installs: {end}": done[end] for end in ("installed", *FAILURES, *OTHER_ENDINGS)},
        "questions answered": done["questions answered"],
        "came back from silence": done["came back"],
        "failed when it paused": f"{pause.failed} of {pause.failed + pause.installed}",
        "position of the report over it": pause.position,
        "position of the pause": recount.pauses[0][0] if recount.pauses else None,
        "offers before it": sum(each < pause.position for each in offers),
        "offers after it": sum(each > pause.position for each in offers),
        "rolled back": len(went_back),
        **{f"ended on {version}": n for version, n in steered_checks.ended(simulation).items()},
    }


async def perform(client: Client, plan: Plan, progress: Progress) -> Simulation:
    """Performs the whole simulation, with its own fleet and releases."""
    simulation = await rounds.prepared(client, plan, progress, RELEASES)
    await rounds.act(simulation, "Checking in", visits.visit)
    await _roll_out(simulation, plan)
    await _advance(simulation, plan)
    await _roll_back(simulation, plan)
    await _come_back(simulation)
    return simulation


async def _roll_out(simulation: Simulation, plan: Plan) -> None:
    """Rolls out to a few devices. Hardly any of them fail, but one always does."""
    body = {
        "version": BAD,
        "model": simulation.model,
        "percent": FIRST_PERCENT,
        "pause_if": {"failed_percent": _failed_percent(plan), "min_reports": REPORTS_MIN},
    }
    tried = await simulation.client.command("/rollouts", {**body, "dry_run": True})
    steered_checks.compare(
        simulation, "a rollout would match", tried["progress"]["matching"], len(simulation.devices)
    )
    started = await simulation.client.command("/rollouts", body)
    simulation.orders = simulation.orders._replace(rollout=started["id"], percent=FIRST_PERCENT)
    simulation.ends = chain(
        ("never",), steering.ends(plan.fail_percent // 8, FAILURES, OTHER_ENDINGS)
    )
    await rounds.act(simulation, f"Rollout, {FIRST_PERCENT} %", visits.visit)
    await steered_checks.rollout(simulation, "running")


def _failed_percent(plan: Plan) -> int:
    return plan.fail_percent // 2


async def _advance(simulation: Simulation, plan: Plan) -> None:
    """Rolls out to more devices, of which so many fail that the rollout must pause itself. Then it
    must offer nothing more."""
    for each in simulation.random.sample(
        simulation.devices, len(simulation.devices) // SILENT_EVERY
    ):
        each.is_silent = True
    await _ask(simulation)
    rollout = f"/rollouts/{simulation.orders.rollout}"
    await simulation.client.command(f"{rollout}/advance", {"percent": THEN_PERCENT})
    simulation.orders = simulation.orders._replace(percent=THEN_PERCENT)
    simulation.ends, simulation.may_pause = (
        steering.ends(plan.fail_percent, FAILURES, OTHER_ENDINGS),
        True,
    )
    await rounds.act(simulation, f"Rollout, {THEN_PERCENT} %", visits.visit)
    simulation.may_pause, simulation.orders = False, simulation.orders._replace(is_paused=True)
    simulation.pause = steered_checks.pause(simulation, _failed_percent(plan), REPORTS_MIN)
    await steered_checks.rollout(simulation, "paused")
    await rounds.act(simulation, "Paused", visits.visit)
    await steered_checks.rollout(simulation, "paused")


async def _ask(simulation: Simulation) -> None:
    """Asks some devices, of which some are silent, what they run."""
    asked = min(ASKED_MAX, len(simulation.devices) // 10)
    for each in simulation.random.sample(simulation.devices, asked):
        answer = await simulation.client.command(f"/devices/{each.device.name}/ask", {})
        each.question = answer["question"]


async def _roll_back(simulation: Simulation, plan: Plan) -> None:
    """Rolls back every device that runs 1.1.0. At the first attempt the same percentage fails as in
    the rollout."""
    body = {"bad_version": BAD, "model": simulation.model, "reason": "Too many installs failed."}
    tried = await simulation.client.command("/rollbacks", {**body, "dry_run": True})
    expected = steered_checks.named(simulation, lambda each: each.past_versions == (ODD,))
    steered_checks.compare(simulation, "a rollback would name", tried["devices"], expected)
    started = await simulation.client.command("/rollbacks", {**body, "fallback": GOOD})
    simulation.orders = simulation.orders._replace(rollback=started["rollout"])
    simulation.ends = steering.ends(plan.fail_percent, ROLLBACK_FAILURES, ())
    await rounds.act(simulation, "Rollback", visits.visit)
    await steered_checks.rollback(simulation)


async def _come_back(simulation: Simulation) -> None:
    """Lets silent devices come back, and devices whose rollback failed try again."""
    simulation.done["came back"] = sum(each.is_silent for each in simulation.devices)
    for each in simulation.devices:
        each.is_silent = False
    simulation.ends = steering.ends(0, (), ())
    await rounds.act(simulation, "Coming back", visits.come_back)
    await steered_checks.rollout(simulation, "withdrawn")
    await steered_checks.rollback(simulation)
