"""The play of `firmtrail simulate --steer`: a rollout that goes wrong, and the way back.

Every device checks in, round after round, and does what it is told. 1.1.0 goes to some, then to
more; installs fail, until the rollout has to pause itself; a rollback brings each device back to
what it ran before. What is told is compared at once, what is counted between two rounds, when
nobody is under way.
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from itertools import chain
from random import Random
from typing import Any

from rich.progress import Progress

from firmtrail.simulate import checks, fleet, steered_checks, steering, visits, workload
from firmtrail.simulate.client import Client, Pacer
from firmtrail.simulate.steered_checks import Recount
from firmtrail.simulate.steering import (
    BAD,
    FAILURES,
    GOOD,
    ODD,
    RELEASES,
    ROLLBACK_FAILURES,
    TURNS,
    Orders,
    Steered,
)
from firmtrail.simulate.visits import Stage
from firmtrail.simulate.workload import Plan

DEVICES_MIN = 300
"""Of fewer, it is left to chance whether enough are reached for the rollout to pause."""
FIRST_PERCENT, THEN_PERCENT = 10, 50
REPORTS_MIN = 100
"""So many outcomes before the rollout may pause."""
SILENT_EVERY = 20
ASKED_MAX = 200
ARTIFACT_BYTES = 4096

type Visit = Callable[[Stage, Steered], Awaitable[None]]


async def play(client: Client, plan: Plan, progress: Progress) -> dict[str, Any]:
    """The whole story, compared with what the service has of it; gives the summary."""
    began_s = time.monotonic()
    stage = await perform(client, plan, progress)
    seconds = time.monotonic() - began_s
    checked = await workload.check(
        client,
        [each.device for each in stage.devices],
        model=stage.model,
        start=stage.start,
        seed=plan.seed,
        progress=progress,
    )
    await steered_checks.asks(stage)
    recount = await steered_checks.log(stage)
    return {
        "devices": plan.devices,
        "requests": client.tally.requests,
        "requests a second": round(client.tally.requests / seconds),
        "tried again": client.tally.retries,
        **_done(stage, recount),
        "reports recorded": client.tally.recorded,
        "events checked": checked.events,
        "devices checked": plan.devices,
        "histories checked": checked.histories,
        "differences": client.tally.differences,
        "seed": plan.seed,
    }


def _done(stage: Stage, recount: Recount) -> dict[str, Any]:
    """What the fleet did, and what was done with it."""
    done, pause, orders = stage.done, stage.pause, stage.orders
    offers = recount.offers[orders.rollout]
    went_back = [each for each in stage.devices if orders.rollback in each.trials.results]
    return {
        "check-ins": done["check-ins"],
        "check-ins without news (304)": done["told nothing new"],
        "artifacts loaded": done["artifacts loaded"],
        **{f"installs: {end}": done[end] for end in ("installed", *FAILURES, *TURNS)},
        "questions answered": done["questions answered"],
        "came back from silence": done["came back"],
        "failed when it paused": f"{pause.failed} of {pause.failed + pause.installed}",
        "position of the report over it": pause.position,
        "position of the pause": recount.pauses[0][0] if recount.pauses else None,
        "offers before it": sum(each < pause.position for each in offers),
        "offers after it": sum(each > pause.position for each in offers),
        "rolled back": len(went_back),
        **{f"ended on {version}": n for version, n in steered_checks.ended(stage).items()},
    }


async def perform(client: Client, plan: Plan, progress: Progress) -> Stage:
    """The whole story, on a fleet and releases of its own."""
    stage = await _stage(client, plan, progress)
    await _roll_out(stage, plan)
    await _advance(stage, plan)
    await _roll_back(stage, plan)
    await _come_back(stage)
    return stage


async def _stage(client: Client, plan: Plan, progress: Progress) -> Stage:
    """Devices that run something, releases, and a first check-in that nothing is ordered for."""
    start = await checks.log_size(client)
    model, random = f"sim-{secrets.token_hex(4)}", Random(plan.seed)  # noqa: S311 (a play)
    devices = steering.steered(fleet.devices(model, plan.devices))
    artifacts = {each: await _release(client, model, each, random) for each in RELEASES}
    stage = Stage(
        client=client,
        pacer=Pacer(plan.rate),
        progress=progress,
        random=random,
        start=start,
        model=model,
        devices=devices,
        orders=Orders(artifacts, client.path),
        ends=steering.ends(0, (), ()),
    )
    registering = workload.bar(progress, "Registering", plan.devices)
    await workload.register(client, [each.device for each in devices], model, registering)
    await _round(stage, "Living", visits.live)
    await _round(stage, "Checking in", visits.visit)
    return stage


async def _release(
    client: Client, model: str, version: str, random: Random
) -> tuple[str, int, str]:
    """Add a release with an artifact: its name, size and SHA-256."""
    name, data = f"{version}.bin", random.randbytes(ARTIFACT_BYTES)
    await client.order("/releases", {"version": version, "model": model})
    await client.upload(f"/releases/{model}/{version}/artifacts/{name}", data)
    return name, len(data), sha256(data).hexdigest()


async def _round(stage: Stage, title: str, visit: Visit) -> None:
    """Every device that is not silent acts once, in no order."""
    awake = [each for each in stage.devices if not each.is_silent]
    stage.random.shuffle(awake)
    remaining = workload.counted(awake, workload.bar(stage.progress, title, len(awake)))

    async def work() -> None:
        for each in remaining:
            await visit(stage, each)

    await workload.by_many(work)


async def _roll_out(stage: Stage, plan: Plan) -> None:
    """To a few, of whom hardly any fail; but one always."""
    wish = {
        "version": BAD,
        "model": stage.model,
        "percent": FIRST_PERCENT,
        "pause_if": {"failed_percent": _failed_percent(plan), "min_reports": REPORTS_MIN},
    }
    tried = await stage.client.order("/rollouts", {**wish, "dry_run": True})
    steered_checks.compare(
        stage, "a rollout would match", tried["progress"]["matching"], len(stage.devices)
    )
    started = await stage.client.order("/rollouts", wish)
    stage.orders = stage.orders._replace(rollout=started["id"], percent=FIRST_PERCENT)
    stage.ends = chain(("never",), steering.ends(plan.fail_percent // 8, FAILURES, TURNS))
    await _round(stage, f"Rollout, {FIRST_PERCENT} %", visits.visit)
    await steered_checks.rollout(stage, "running")


def _failed_percent(plan: Plan) -> int:
    return plan.fail_percent // 2


async def _advance(stage: Stage, plan: Plan) -> None:
    """To more, of whom so many fail that it has to pause itself; then nobody is told of it."""
    for each in stage.random.sample(stage.devices, len(stage.devices) // SILENT_EVERY):
        each.is_silent = True
    await _ask(stage)
    rollout = f"/rollouts/{stage.orders.rollout}"
    await stage.client.order(f"{rollout}/advance", {"percent": THEN_PERCENT})
    stage.orders = stage.orders._replace(percent=THEN_PERCENT)
    stage.ends, stage.may_pause = steering.ends(plan.fail_percent, FAILURES, TURNS), True
    await _round(stage, f"Rollout, {THEN_PERCENT} %", visits.visit)
    stage.may_pause, stage.orders = False, stage.orders._replace(is_paused=True)
    stage.pause = steered_checks.pause(stage, _failed_percent(plan), REPORTS_MIN)
    await steered_checks.rollout(stage, "paused")
    await _round(stage, "Paused", visits.visit)
    await steered_checks.rollout(stage, "paused")


async def _ask(stage: Stage) -> None:
    """Ask some devices what they run, of whom some are silent."""
    asked = min(ASKED_MAX, len(stage.devices) // 10)
    for each in stage.random.sample(stage.devices, asked):
        answer = await stage.client.order(f"/devices/{each.device.name}/ask", {})
        each.question = answer["question"]


async def _roll_back(stage: Stage, plan: Plan) -> None:
    """Everybody who runs it; at the first attempt as many fail as did going there."""
    wish = {"bad_version": BAD, "model": stage.model, "reason": "Too many installs failed."}
    tried = await stage.client.order("/rollbacks", {**wish, "dry_run": True})
    lost = sum(each.runs == BAD and each.life == (ODD,) for each in stage.devices)
    steered_checks.compare(
        stage,
        "a rollback would name",
        tried["devices"],
        steered_checks.named(stage, no_previous=lost),
    )
    started = await stage.client.order("/rollbacks", {**wish, "fallback": GOOD})
    stage.orders = stage.orders._replace(rollback=started["rollout"])
    stage.ends = steering.ends(plan.fail_percent, ROLLBACK_FAILURES, ())
    await _round(stage, "Rollback", visits.visit)
    await steered_checks.rollback(stage)


async def _come_back(stage: Stage) -> None:
    """Who was silent comes back, whose way back failed tries again."""
    stage.done["came back"] = sum(each.is_silent for each in stage.devices)
    for each in stage.devices:
        each.is_silent = False
    stage.ends = steering.ends(0, (), ())
    await _round(stage, "Coming back", visits.come_back)
    await steered_checks.rollout(stage, "withdrawn")
    await steered_checks.rollback(stage)
