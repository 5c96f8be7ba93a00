"""Does a service say of a steered fleet what the model says, and its log too?

What was told is compared as it comes, by steer_visit; here is what the service counts and lists,
and what the log says by itself, told anew from its first event of this fleet.
"""

from collections import Counter
from typing import Any

import msgspec

from firmtrail.events.times import time_text
from firmtrail.exits import CouldNotRun
from firmtrail.simulate import attempts, checks, steering
from firmtrail.simulate.attempts import Outcome, Pause, Trials
from firmtrail.simulate.checks import Entry
from firmtrail.simulate.client import Client, reason_of
from firmtrail.simulate.steering import BAD, Steered
from firmtrail.simulate.visits import Stage

OUTCOME_STATUS = {"FirmwareInstalled": "installed", "FirmwareRunning": "running"}
"""Of the reports that do not say it themselves."""


class _Listed(msgspec.Struct, frozen=True):
    device: str
    state: str


class _Ask(msgspec.Struct, frozen=True):
    question: str
    state: str
    version: str | None


class _Page(msgspec.Struct, frozen=True):
    items: list[_Listed]


_listed = msgspec.json.Decoder(_Page).decode


async def _read(client: Client, path: str) -> Any:
    """What the service shows. Raises `CouldNotRun` where it shows nothing."""
    answer = await client.get(path)
    if answer.status != 200:
        raise CouldNotRun(f"{path} was answered {answer.status}: {reason_of(answer.body)}")
    return msgspec.json.decode(answer.body)


def compare(stage: Stage, what: str, said: object, expected: object) -> None:
    if said != expected:
        stage.client.tally.differ(f"{what}: {said}, should be {expected}")


async def rollout(stage: Stage, state: str) -> None:
    """Compare how far the rollout is, in numbers and device by device."""
    orders = stage.orders
    shown = await _read(stage.client, f"/rollouts/{orders.rollout}")
    compare(stage, "the rollout's state", shown["state"], state)
    matching = len(stage.devices)
    _compare_progress(stage, orders.rollout, shown["progress"], matching)
    states = {each.device.name: steering.rollout_state(orders, each) for each in stage.devices}
    await _compare_states(stage, orders.rollout, states)


async def rollback(stage: Stage) -> None:
    """The same of the rollback, and whom it names still."""
    orders = stage.orders
    shown = await _read(stage.client, f"/rollouts/{orders.rollback}")
    compare(stage, "whom the rollback names", shown["devices"], named(stage, no_previous=0))
    said = [(each, steering.rollback_state(orders, each)) for each in stage.devices]
    states = {each.device.name: state for each, state in said if state is not None}
    _compare_progress(stage, orders.rollback, shown["progress"], len(states))
    await _compare_states(stage, orders.rollback, states)


def named(stage: Stage, *, no_previous: int) -> dict[str, int]:
    """Whom a rollback of 1.1.0 names."""
    running = sum(each.runs == BAD for each in stage.devices)
    return {"named": running, "pinned": 0, "silent": 0, "no_previous": no_previous}


def _compare_progress(stage: Stage, name: str, said: Any, matching: int) -> None:
    counted = attempts.counts((each.trials for each in stage.devices), name)
    compare(stage, f"progress of {name}", said, {"matching": matching, **counted})


async def _compare_states(stage: Stage, name: str, expected: dict[str, str]) -> None:
    said: dict[str, str] = {}
    path = f"/rollouts/{name}/devices?limit={checks.PAGE_ITEMS}"
    async for body in checks.pages(stage.client, path):
        said |= {each.device: each.state for each in _listed(body).items}
    for device in sorted(said.keys() | expected.keys()):
        compare(stage, f"{device} in {name}", said.get(device), expected.get(device))


def pause(stage: Stage, failed_percent: int, min_reports: int) -> Pause:
    """Where the rollout has to have paused itself; compare that it did, there and nowhere else.

    Raises `CouldNotRun` where too few devices were reached for it.
    """
    of_rollout = [each for each in stage.outcomes if each.rollout == stage.orders.rollout]
    expected = attempts.pause(of_rollout, failed_percent, min_reports)
    if expected is None:
        raise CouldNotRun("The rollout had no reason to pause: this play needs more devices.")
    for size, reason in stage.told_meanwhile:
        if size > expected.position + 1 and reason != "paused":
            stage.client.tally.differ(f"after {size} events a device was told {reason}")
    return expected


def ended(stage: Stage) -> dict[str, int]:
    """How many devices ended on which version; compare that each is on its own from before."""
    for each in stage.devices:
        went_back = stage.orders.rollback in each.trials.results
        compare(stage, each.device.name, each.runs, each.home if went_back else each.life[-1])
    return dict(sorted(Counter(each.runs for each in stage.devices).items()))


async def asks(stage: Stage) -> None:
    """Compare the answers to all questions."""
    asked = [each for each in stage.devices if each.answered or each.question]
    for each in asked:
        shown = await _read(stage.client, f"/devices/{each.device.name}/asks")
        found = msgspec.convert(shown["items"], list[_Ask])
        said = [msgspec.structs.astuple(ask) for ask in found]
        question, version = each.answered or (each.question, None)
        expected = [(question, "answered" if version else "open", version)]
        compare(stage, f"questions of {each.device.name}", said, expected)


class Recount:
    """What the log says by itself of a fleet's rollouts, event by event."""

    def __init__(self, devices: list[Steered], rollouts: tuple[str, str]) -> None:
        self.trials = {f"device/{each.device.name}": Trials() for each in devices}
        self.outcomes: list[Outcome] = []
        self.pauses: list[tuple[int, Entry]] = []
        self.offers: dict[str, list[int]] = {name: [] for name in rollouts}
        """rollout -> the positions of its offers"""
        self.repeated: list[str] = []
        """Devices that were offered what they were offered already."""
        self._pauses_of = {f"rollout/{name}" for name in rollouts}

    def take(self, position: int, entry: Entry) -> None:
        event = entry.type.split(".")[1]
        trials = self.trials.get(entry.subject)
        if event == "RolloutPaused" and entry.subject in self._pauses_of:
            self.pauses.append((position, entry))
        elif trials is None:
            return
        elif event == "UpdateOffered":
            rollout = entry.data["rollout"]
            self.offers.setdefault(rollout, []).append(position)
            if not trials.told(rollout, entry.data["version"]):
                self.repeated.append(entry.subject)
        elif event in checks.REPORTS:
            status = OUTCOME_STATUS.get(event) or entry.data["status"]
            name = entry.subject.removeprefix("device/")
            for rollout, result in trials.said(status, entry.data["version"]):
                self.outcomes.append(Outcome(position, rollout, name, result))


async def log(stage: Stage) -> Recount:
    """Tell everything anew from the log alone, and compare that with the model."""
    orders = stage.orders
    recount = Recount(stage.devices, (orders.rollout, orders.rollback))
    async for position, entry in checks.entries(stage.client, stage.start):
        recount.take(position, entry)
    compare(stage, "offered twice", recount.repeated, [])
    for outcome in sorted({*recount.outcomes} ^ {*stage.outcomes}):
        stage.client.tally.differ(f"only the log or only the receipts have {outcome}")
    trials = [each.trials for each in stage.devices]
    for name in (orders.rollout, orders.rollback):
        again = attempts.counts(recount.trials.values(), name)
        compare(stage, f"{name} in the log", again, attempts.counts(trials, name))
        offers = sum(each.offers[name] for each in trials)
        compare(stage, f"offers of {name} in the log", len(recount.offers[name]), offers)
    _compare_pause(stage, recount)
    return recount


def _compare_pause(stage: Stage, recount: Recount) -> None:
    """The one pause is recorded by the system, right behind the report, in its very commit; and
    no offer behind it."""
    rollout, pause = stage.orders.rollout, stage.pause
    times = (
        time_text(report.recorded_at_ms)
        for each in stage.devices
        for report in each.device.recorded
        if report.position == pause.position
    )
    counted = {"failed": pause.failed, "installed": pause.installed}
    expected = (pause.position + 1, f"rollout/{rollout}", "system", next(times, None), counted)
    said = [
        (position, each.subject, each.actor, each.time, each.data)
        for position, each in recount.pauses
    ]
    compare(stage, "pauses in the log", said, [expected])
    behind = [each for each in recount.offers[rollout] if each > pause.position]
    compare(stage, "offers behind the pause", behind, [])
