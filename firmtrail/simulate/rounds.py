"""Prepares a steered fleet, lets its devices act round by round, and sums up the simulation."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from random import Random
from typing import Any

from rich.progress import Progress

from firmtrail.simulate import checks, fleet, steering, visits, workload
from firmtrail.simulate.client import Client, Pacer
from firmtrail.simulate.steering import OperatorOrders, SteeredDevice
from firmtrail.simulate.visits import Simulation
from firmtrail.simulate.workload import Checked, Plan

ARTIFACT_BYTES = 4096

type Visit = Callable[[Simulation, SteeredDevice], Awaitable[None]]


async def prepared(
    client: Client, plan: Plan, progress: Progress, releases: Sequence[str]
) -> Simulation:
    """Adds releases, and registers devices that report which versions they ran before."""
    start = await checks.log_size(client)
    model, random = f"sim-{secrets.token_hex(4)}", Random(plan.seed)  # noqa: S311 (a play)
    devices = steering.steered(fleet.devices(model, plan.devices))
    artifacts = {each: await _release(client, model, each, random) for each in releases}
    simulation = Simulation(
        client=client,
        pacer=Pacer(plan.rate),
        progress=progress,
        random=random,
        start=start,
        model=model,
        devices=devices,
        orders=OperatorOrders(artifacts, client.path),
        ends=steering.ends(0, (), ()),
    )
    registering = workload.bar(progress, "Registering", plan.devices)
    await workload.register(client, [each.device for each in devices], model, registering)
    await act(simulation, "Living", visits.report_past)
    return simulation


async def _release(
    client: Client, model: str, version: str, random: Random
) -> tuple[str, int, str]:
    """Adds a release with an artifact. Returns the artifact's name, size and SHA-256."""
    name, data = f"{version}.bin", random.randbytes(ARTIFACT_BYTES)
    await client.command("/releases", {"version": version, "model": model})
    await client.upload(f"/releases/{model}/{version}/artifacts/{name}", data)
    return name, len(data), sha256(data).hexdigest()


async def act(simulation: Simulation, title: str, visit: Visit) -> None:
    """Lets every device that is not silent act once, in random order."""
    awake = [each for each in simulation.devices if not each.is_silent]
    simulation.random.shuffle(awake)
    remaining = workload.counted(awake, workload.bar(simulation.progress, title, len(awake)))

    async def work() -> None:
        for each in remaining:
            await visit(simulation, each)

    await workload.by_many(work)


async def check(simulation: Simulation, seed: str) -> Checked:
    """Compares what the service recorded with the devices of the simulation."""
    return await workload.check(
        simulation.client,
        [each.device for each in simulation.devices],
        model=simulation.model,
        start=simulation.start,
        seed=seed,
        progress=simulation.progress,
    )


def summary(
    client: Client, plan: Plan, checked: Checked, *, seconds: float, done: dict[str, Any]
) -> dict[str, Any]:
    """Returns the summary of a simulation that took this long, with the counts of `done`."""
    return {
        "devices": plan.devices,
        "requests": client.tally.requests,
        "requests a second": round(client.tally.requests / seconds),
        "tried again": client.tally.retries,
        **done,
        "reports recorded": client.tally.recorded,
        "events checked": checked.events,
        "devices checked": plan.devices,
        "histories checked": checked.histories,
        "differences": client.tally.differences,
        "seed": plan.seed,
    }
