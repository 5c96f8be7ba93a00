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
from random import Random
from typing import Any

from rich.progress import Progress

from firmtrail.cli import fleet, fleet_check, fleet_steering, fleet_work, steer_check, steer_visit
from firmtrail.cli.fleet_client import Client, Pacer
from firmtrail.cli.fleet_steering import (
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
from firmtrail.cli.fleet_trials import Pause
from firmtrail.cli.fleet_work import Plan
from firmtrail.cli.steer_visit import Stage

DEVICES_MIN = 200
"""Of fewer, it is left to chance whether enough are reached for the rollout to pause."""
FIRST_PERCENT, THEN_PERCENT = 10, 50
REPORTS_MIN = 100
"""So many outcomes before the rollout may pause; in a small fleet, of one device in ten."""
SILENT_EVERY = 20
ASKED_MAX = 200
ARTIFACT_BYTES = 4096

type Visit = Callable[[Stage, Steered], Awaitable[None]]


async def play(client: Client, plan: Plan, progress: Progress) -> dict[str, Any]:
    """The whole story, and its summary."""
    began_s = time.monotonic()
    start = await fleet_check.log_size(client)
    stage = await _stage(client, plan, progress)
    await _roll_out(stage, plan)
    pause = await _advance(stage, plan)
    await _roll_back(stage, plan)
    await _come_back(stage)
    seconds = time.monotonic() - began_s
    devices = [each.device for each in stage.devices]
    checked = await fleet_work.check(
        client, devices, model=stage.model, start=start, seed=plan.seed, progress=progress
    )
    await steer_check.log(stage, start, pause)
    asked = await steer_check.asks(stage)
    done, tally = stage.done, client.tally
    return {
        "devices": plan.devices,
        "requests": tally.requests,
        "requests a second": round(tally.requests / seconds),
        "tried again": tally.retries,
        "check-ins": done["check-ins"],
        "of these, nothing new (304)": done["told nothing new"],
        "artifacts loaded": done["artifacts loaded"],
        "offers": sum(each.trials.offers.total() for each in stage.devices),
        **{f"installs: {end}": done[end] for end in (*FAILURES, *TURNS, "installed")},
        "came back from silence": done["came back"],
        "paused itself after": f"{pause.failed} of {pause.failed + pause.installed} failed",
        "paused itself at position": pause.position + 1,
        "rolled back": sum(stage.orders.rollback in each.trials.results for each in stage.devices),
        "questions answered": f"{done['questions answered']} of {asked}",
        **{f"ended on {version}": n for version, n in sorted(steer_check.at_home(stage).items())},
        "reports recorded": tally.recorded,
        "events checked": checked.events,
        "histories checked": checked.histories,
        "differences": tally.differences,
        "seed": plan.seed,
    }


async def _stage(client: Client, plan: Plan, progress: Progress) -> Stage:
    """Devices that run something, releases, and a first check-in that nothing is ordered for."""
    model, random = f"sim-{secrets.token_hex(4)}", Random(plan.seed)  # noqa: S311 (a play)
    devices = fleet_steering.steered(fleet.devices(model, plan.devices))
    artifacts = {each: await _release(client, model, each, random) for each in RELEASES}
    stage = Stage(
        client,
        Pacer(plan.rate),
        progress,
        random,
        model,
        devices,
        Orders(artifacts, client.path),
        fleet_steering.ends(0, (), ()),
    )
    registering = fleet_work.bar(progress, "Registering", plan.devices)
    await fleet_work.register(client, [each.device for each in devices], model, registering)
    await _round(stage, "Living", steer_visit.live)
    await _round(stage, "Checking in", steer_visit.visit)
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
    remaining = fleet_work.counted(awake, fleet_work.bar(stage.progress, title, len(awake)))

    async def work() -> None:
        for each in remaining:
            await visit(stage, each)

    await fleet_work.by_many(work)


async def _roll_out(stage: Stage, plan: Plan) -> None:
    """To a few, of whom hardly any fail."""
    wish = {
        "version": BAD,
        "model": stage.model,
        "percent": FIRST_PERCENT,
        "pause_if": {"failed_percent": _failed_percent(plan), "min_reports": _min_reports(plan)},
    }
    tried = await stage.client.order("/rollouts", {**wish, "dry_run": True})
    steer_check.compare(
        stage, "a rollout would match", tried["progress"]["matching"], len(stage.devices)
    )
    started = await stage.client.order("/rollouts", wish)
    stage.orders = stage.orders._replace(rollout=started["id"], percent=FIRST_PERCENT)
    stage.ends = fleet_steering.ends(plan.fail_percent // 8, FAILURES, TURNS)
    await _round(stage, f"Rollout, {FIRST_PERCENT} %", steer_visit.visit)
    await steer_check.rollout(stage, "running")


def _failed_percent(plan: Plan) -> int:
    return plan.fail_percent // 2


def _min_reports(plan: Plan) -> int:
    return min(REPORTS_MIN, plan.devices // 10)


async def _advance(stage: Stage, plan: Plan) -> Pause:
    """To more, of whom so many fail that it has to pause itself; then nobody is told of it."""
    for each in stage.random.sample(stage.devices, len(stage.devices) // SILENT_EVERY):
        each.is_silent = True
    await _ask(stage)
    rollout = f"/rollouts/{stage.orders.rollout}"
    await stage.client.order(f"{rollout}/advance", {"percent": THEN_PERCENT})
    stage.orders = stage.orders._replace(percent=THEN_PERCENT)
    stage.ends, stage.may_pause = fleet_steering.ends(plan.fail_percent, FAILURES, TURNS), True
    await _round(stage, f"Rollout, {THEN_PERCENT} %", steer_visit.visit)
    stage.may_pause, stage.orders = False, stage.orders._replace(is_paused=True)
    pause = steer_check.pause(stage, _failed_percent(plan), _min_reports(plan))
    await steer_check.rollout(stage, "paused")
    await _round(stage, "Paused", steer_visit.visit)
    await steer_check.rollout(stage, "paused")
    return pause


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
    steer_check.compare(
        stage, "a rollback would name", tried["devices"], steer_check.named(stage, no_previous=lost)
    )
    started = await stage.client.order("/rollbacks", {**wish, "fallback": GOOD})
    stage.orders = stage.orders._replace(rollback=started["rollout"])
    stage.ends = fleet_steering.ends(plan.fail_percent, ROLLBACK_FAILURES, ())
    await _round(stage, "Rollback", steer_visit.visit)
    await steer_check.rollback(stage)


async def _come_back(stage: Stage) -> None:
    """Who was silent comes back, whose way back failed tries again."""
    stage.done["came back"] = sum(each.is_silent for each in stage.devices)
    for each in stage.devices:
        each.is_silent = False
    stage.ends = fleet_steering.ends(0, (), ())
    await _round(stage, "Coming back", steer_visit.come_back)
    await steer_check.rollout(stage, "withdrawn")
    await steer_check.rollback(stage)
