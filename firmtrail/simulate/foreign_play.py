"""Runs `firmtrail simulate --protocol`: a fleet that speaks a protocol made by others.

Devices say that they run 1.0.0 and poll, which must record nothing. Then 1.1.0 is rolled out to all
of them; some installs fail once, and some each time, until the service offers no more. At the end a
rollback brings every device back. Every offer is compared when it comes, and at the end the
versions of all devices and the counts of the rollout.
"""

import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
from rich.progress import Progress

from firmtrail.simulate import checks, fleet, workload
from firmtrail.simulate.attempts import MAX_ATTEMPTS
from firmtrail.simulate.client import Client, Pacer
from firmtrail.simulate.fleet import SimulatedDevice
from firmtrail.simulate.workload import Plan

FIRST, SECOND = "1.0.0", "1.1.0"
IMAGE_BYTES = 4096

type InstallStatus = Literal["downloading", "installing", "installed", "failed"]


class ForeignOffer(NamedTuple):
    """Holds the version that a device is offered, where its file is, and what identifies both."""

    id: str
    version: str
    url: str
    digest: str
    """The SHA-256 of the file, if the protocol says it."""


@dataclass
class ForeignDevice:
    """Holds a device of another protocol, with what it runs and how its installs end."""

    device: SimulatedDevice
    model: str
    failures_left: int
    """How many of its installs still fail."""
    runs: str = FIRST
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return self.device.name


class Speech(Protocol):
    """Speaks a protocol for the devices of one model."""

    suffix: str
    """The end of the names of the files that its clients install."""
    can_fail: bool
    """Whether a device can report that an install failed."""

    def image(self, model: str, version: str, data: bytes) -> bytes:
        """Returns the file of a release, with these bytes in it."""

    async def introduce(self, device: ForeignDevice) -> None:
        """Says what the device is and runs."""

    async def ask(self, device: ForeignDevice) -> ForeignOffer | None:
        """Asks what the device should run."""

    async def load(self, device: ForeignDevice, offer: ForeignOffer) -> bytes:
        """Returns the bytes of the offered file."""

    async def report(
        self, device: ForeignDevice, offer: ForeignOffer, status: InstallStatus
    ) -> None:
        """Says how far the device is."""


@dataclass
class ForeignPlay:
    """Holds a fleet of another protocol, and the state of its simulation."""

    client: Client
    speech: Speech
    pacer: Pacer
    progress: Progress
    model: str
    devices: list[ForeignDevice]
    images: dict[str, bytes] = field(default_factory=dict)
    wanted: str | None = None
    """The version that every device should run that does not run it; None: nothing is ordered."""
    done: Counter[str] = field(default_factory=Counter)

    def differ(self, each: ForeignDevice, text: str) -> None:
        self.client.tally.differ(f"{each.name}: {text}")


async def play(client: Client, speech: Speech, plan: Plan, progress: Progress) -> dict[str, Any]:
    """Performs the simulation, compares the service with it, and returns the summary."""
    began_s = time.monotonic()
    playing = await _prepared(client, speech, plan, progress)
    before = await checks.log_size(client)
    await _round(playing, "Polling", _poll)
    _compare(playing, "the log's size after idle polls", await checks.log_size(client), before)
    rollout = await _order(playing, "/rollouts", {"version": SECOND}, SECOND)
    await _check_rollout(playing, rollout["id"])
    back = {"bad_version": SECOND, "reason": "Too many installs failed."}
    await _order(playing, "/rollbacks", back, FIRST)
    await _check_versions(playing)
    return _summary(playing, plan, time.monotonic() - began_s)


def _summary(playing: ForeignPlay, plan: Plan, seconds: float) -> dict[str, Any]:
    tally = playing.client.tally
    return {
        "devices": plan.devices,
        "requests": tally.requests,
        "requests a second": round(tally.requests / seconds),
        "tried again": tally.retries,
        "polls": playing.done["polls"],
        "files loaded": playing.done["loaded"],
        "installed": playing.done["installed"],
        "failed": playing.done["failed"],
        "differences": tally.differences,
        "seed": plan.seed,
    }


async def _prepared(client: Client, speech: Speech, plan: Plan, progress: Progress) -> ForeignPlay:
    model, random = f"sim-{secrets.token_hex(4)}", Random(plan.seed)  # noqa: S311 (a play)
    devices = [
        ForeignDevice(each, model, _failures(n, plan.fail_percent) if speech.can_fail else 0)
        for n, each in enumerate(fleet.devices(model, plan.devices))
    ]
    playing = ForeignPlay(client, speech, Pacer(plan.rate), progress, model, devices)
    registering = workload.bar(progress, "Registering", plan.devices)
    await workload.register(client, [each.device for each in devices], model, registering)
    for version in (FIRST, SECOND):
        await _release(playing, version, random)
    await _round(playing, "Introducing", _introduce)
    return playing


def _failures(number: int, fail_percent: int) -> int:
    """Returns how many installs of a device fail: none, one, or more than it may try."""
    if number % 100 >= fail_percent:
        return 0
    return 1 if number % 2 else MAX_ATTEMPTS


async def _release(playing: ForeignPlay, version: str, random: Random) -> None:
    data = playing.speech.image(playing.model, version, random.randbytes(IMAGE_BYTES))
    playing.images[version] = data
    await playing.client.command("/releases", {"version": version, "model": playing.model})
    name = f"image-{version}{playing.speech.suffix}"
    await playing.client.upload(f"/releases/{playing.model}/{version}/artifacts/{name}", data)


async def _order(
    playing: ForeignPlay, path: str, body: dict[str, Any], wanted: str
) -> dict[str, Any]:
    """Sends an order, and lets each device follow it until it is offered nothing more."""
    started: dict[str, Any] = await playing.client.command(path, {"model": playing.model, **body})
    playing.wanted = wanted
    await _round(playing, f"To {wanted}", _follow)
    await _round(playing, "Polling", _poll)
    return started


type ForeignVisit = Callable[[ForeignPlay, ForeignDevice], Awaitable[None]]


async def _round(playing: ForeignPlay, title: str, visit: ForeignVisit) -> None:
    """Lets every device act once."""
    advance = workload.bar(playing.progress, title, len(playing.devices))
    remaining = workload.counted(playing.devices, advance)

    async def work() -> None:
        for each in remaining:
            await playing.pacer.wait(1)
            await visit(playing, each)

    await workload.by_many(work)


async def _introduce(playing: ForeignPlay, each: ForeignDevice) -> None:
    await playing.speech.introduce(each)


async def _poll(playing: ForeignPlay, each: ForeignDevice) -> None:
    """Polls when nothing is to do."""
    playing.done["polls"] += 1
    if (offer := await playing.speech.ask(each)) is not None:
        playing.differ(each, f"runs {each.runs}, and was offered {offer}")


async def _follow(playing: ForeignPlay, each: ForeignDevice) -> None:
    """Installs what the device is offered; after a failure again, until it may not try again."""
    wanted = playing.wanted
    while each.runs != wanted and each.failed[wanted or ""] < MAX_ATTEMPTS:
        playing.done["polls"] += 1
        offer = await playing.speech.ask(each)
        if offer is None or offer.version != wanted:
            playing.differ(each, f"was offered {offer}, not {wanted}")
            return
        await _install(playing, each, offer)


async def _install(playing: ForeignPlay, each: ForeignDevice, offer: ForeignOffer) -> None:
    await playing.speech.report(each, offer, "downloading")
    await _load(playing, each, offer)
    await playing.speech.report(each, offer, "installing")
    fails = offer.version == SECOND and each.failures_left > 0
    ending: InstallStatus = "failed" if fails else "installed"
    if fails:
        each.failures_left -= 1
        each.failed[offer.version] += 1
    else:
        each.runs = offer.version
    await playing.speech.report(each, offer, ending)
    playing.done[ending] += 1


async def _load(playing: ForeignPlay, each: ForeignDevice, offer: ForeignOffer) -> None:
    loaded = await playing.speech.load(each, offer)
    digest = sha256(loaded).hexdigest()
    if loaded != playing.images[offer.version] or offer.digest not in {"", digest}:
        playing.differ(each, f"loaded other bytes than those of {offer}")
    playing.done["loaded"] += 1


async def _check_rollout(playing: ForeignPlay, rollout: str) -> None:
    answer = await playing.client.get(f"/rollouts/{rollout}")
    progress = msgspec.json.decode(answer.body)["progress"]
    exhausted = sum(each.failed[SECOND] >= MAX_ATTEMPTS for each in playing.devices)
    installed = sum(each.runs == SECOND for each in playing.devices)
    _compare(playing, "installed in the rollout", progress["installed"], installed)
    _compare(playing, "exhausted in the rollout", progress["exhausted"], exhausted)


async def _check_versions(playing: ForeignPlay) -> None:
    wanted = {each.name: each.runs for each in playing.devices}
    answer = await playing.client.get(
        f"/devices?model={playing.model}", accept="application/x-ndjson"
    )
    found = [msgspec.json.decode(line) for line in answer.body.splitlines()]
    recorded = {each["device"]: each["version"] for each in found}
    _compare(playing, "the versions of the devices", recorded, wanted)


def _compare(playing: ForeignPlay, what: str, found: object, expected: object) -> None:
    if found != expected:
        playing.client.tally.differ(f"{what}: {found}, not {expected}")
