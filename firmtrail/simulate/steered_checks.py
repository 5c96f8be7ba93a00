"""Compares a service, and its log, with the model of a steered fleet.

visits.py compares the answers to devices when they arrive. This module compares what the service
counts and lists, and derives everything again from the log, from this fleet's first event.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from firmtrail.events.times import time_text
from firmtrail.exits import CouldNotRun
from firmtrail.simulate import attempts, checks, steering
from firmtrail.simulate.attempts import OfferHistory, Pause, ReportedOutcome
from firmtrail.simulate.checks import FetchedEntry
from firmtrail.simulate.client import Client, reason_of
from firmtrail.simulate.steering import BAD, SteeredDevice
from firmtrail.simulate.visits import Simulation

OUTCOME_STATUS = {"FirmwareInstalled": "installed", "FirmwareRunning": "running"}
"""The status of events that do not contain it."""

NAMED_MAX, SEARCHED_MAX = 20_000, 100_000
"""The devices of a rollback that its counts look at, and those among which they look for them."""


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


async def read(client: Client, path: str) -> Any:
    """Returns what the service shows. Raises `CouldNotRun` if it refuses."""
    answer = await client.get(path)
    if answer.status != 200:
        raise CouldNotRun(f"{path} was answered {answer.status}: {reason_of(answer.body)}")
    return msgspec.json.decode(answer.body)


def compare(simulation: Simulation, what: str, actual: object, expected: object) -> None:
    if actual != expected:
        simulation.client.tally.differ(f"{what}: {actual}, should be {expected}")


async def rollout(simulation: Simulation, state: str) -> None:
    """Compares the rollout's progress, in counts and device by device."""
    orders = simulation.orders
    shown = await read(simulation.client, f"/rollouts/{orders.rollout}")
    compare(simulation, "the rollout's state", shown["state"], state)
    matching = len(simulation.devices)
    _compare_progress(simulation, orders.rollout, shown["progress"], matching)
    states = {each.device.name: steering.rollout_state(orders, each) for each in simulation.devices}
    await _compare_states(simulation, orders.rollout, states)


async def rollback(simulation: Simulation) -> None:
    """Compares the rollback's progress, and the devices that it still names."""
    orders = simulation.orders
    shown = await read(simulation.client, f"/rollouts/{orders.rollback}")
    expected_counts = named(simulation, lambda _: False)
    compare(simulation, "devices of the rollback", shown["devices"], expected_counts)
    expected = [(each, steering.rollback_state(orders, each)) for each in simulation.devices]
    states = {each.device.name: state for each, state in expected if state is not None}
    _compare_progress(simulation, orders.rollback, shown["progress"], len(states))
    await _compare_states(simulation, orders.rollback, states)


def named(simulation: Simulation, is_lost: Callable[[SteeredDevice], bool]) -> dict[str, int]:
    """Returns the counts of the devices that a rollback of 1.1.0 names. A device for which
    `is_lost` is true has no earlier version. The service looks at the first `NAMED_MAX` of them."""
    ordered = sorted(simulation.devices, key=lambda each: each.device.name)
    running = sum(each.runs == BAD for each in ordered)
    looked_at = [each for each in ordered[:SEARCHED_MAX] if each.runs == BAD][:NAMED_MAX]
    lost = sum(map(is_lost, looked_at))
    counts = {"named": running, "pinned": 0, "silent": 0, "no_previous": lost}
    return counts if len(looked_at) == running else {**counts, "looked_at": len(looked_at)}


def _compare_progress(simulation: Simulation, name: str, actual: Any, matching: int) -> None:
    counted = attempts.counts((each.offer_history for each in simulation.devices), name)
    compare(simulation, f"progress of {name}", actual, {"matching": matching, **counted})


async def _compare_states(simulation: Simulation, name: str, expected: dict[str, str]) -> None:
    actual: dict[str, str] = {}
    path = f"/rollouts/{name}/devices?limit={checks.PAGE_ITEMS}"
    async for body in checks.pages(simulation.client, path):
        actual |= {each.device: each.state for each in _listed(body).items}
    for device in sorted(actual.keys() | expected.keys()):
        compare(simulation, f"{device} in {name}", actual.get(device), expected.get(device))


def pause(simulation: Simulation, failed_percent: int, min_reports: int) -> Pause:
    """Returns where the rollout must have paused itself, and compares the answers after that.
    Raises `CouldNotRun` if the rollout reached too few devices to pause."""
    of_rollout = [each for each in simulation.outcomes if each.rollout == simulation.orders.rollout]
    expected = attempts.pause(of_rollout, failed_percent, min_reports)
    if expected is None:
        raise CouldNotRun(
            "The rollout had no reason to pause: simulate more devices, or a higher --fail-percent."
        )
    for size, reason in simulation.answers_meanwhile:
        if size > expected.position + 1 and reason != "paused":
            simulation.client.tally.differ(f"after {size} events a device was answered {reason}")
    return expected


def ended(simulation: Simulation) -> dict[str, int]:
    """Returns how many devices ended on each version, and compares each with its expected one."""
    for each in simulation.devices:
        went_back = simulation.orders.rollback in each.offer_history.results
        compare(
            simulation,
            each.device.name,
            each.runs,
            each.home if went_back else each.past_versions[-1],
        )
    return dict(sorted(Counter(each.runs for each in simulation.devices).items()))


async def asks(simulation: Simulation) -> None:
    """Compares the answers to all questions."""
    asked = [each for each in simulation.devices if each.answered or each.question]
    for each in asked:
        shown = await read(simulation.client, f"/devices/{each.device.name}/asks")
        found = msgspec.convert(shown["items"], list[_Ask])
        actual = [msgspec.structs.astuple(ask) for ask in found]
        question, version = each.answered or (each.question, None)
        expected = [(question, "answered" if version else "open", version)]
        compare(simulation, f"questions of {each.device.name}", actual, expected)


class Recount:
    """Derives a fleet's offers, outcomes and pauses from the log alone, event by event."""

    def __init__(self, devices: list[SteeredDevice], rollouts: tuple[str, str]) -> None:
        self.histories = {f"device/{each.device.name}": OfferHistory() for each in devices}
        self.outcomes: list[ReportedOutcome] = []
        self.pauses: list[tuple[int, FetchedEntry]] = []
        self.offers: dict[str, list[int]] = {name: [] for name in rollouts}
        """rollout -> the positions of its offers"""
        self.repeated: list[str] = []
        """Devices that were offered the same version twice."""
        self._pauses_of = {f"rollout/{name}" for name in rollouts}

    def take(self, position: int, entry: FetchedEntry) -> None:
        event = entry.type.split(".")[1]
        history = self.histories.get(entry.subject)
        if event == "RolloutPaused" and entry.subject in self._pauses_of:
            self.pauses.append((position, entry))
        elif history is None:
            return
        elif event == "UpdateOffered":
            rollout = entry.data["rollout"]
            self.offers.setdefault(rollout, []).append(position)
            if not history.add_offer(rollout, entry.data["version"]):
                self.repeated.append(entry.subject)
        elif event in checks.REPORTS:
            status = OUTCOME_STATUS.get(event) or entry.data["status"]
            name = entry.subject.removeprefix("device/")
            for rollout, result in history.add_report(status, entry.data["version"]):
                self.outcomes.append(ReportedOutcome(position, rollout, name, result))


async def log(simulation: Simulation) -> Recount:
    """Derives everything again from the log alone, and compares that with the model."""
    orders = simulation.orders
    recount = Recount(simulation.devices, (orders.rollout, orders.rollback))
    async for position, entry in checks.entries(simulation.client, simulation.start):
        recount.take(position, entry)
    compare_outcomes(simulation, recount)
    histories = [each.offer_history for each in simulation.devices]
    for name in (orders.rollout, orders.rollback):
        again = attempts.counts(recount.histories.values(), name)
        compare(simulation, f"{name} in the log", again, attempts.counts(histories, name))
        offers = sum(each.offers[name] for each in histories)
        compare(simulation, f"offers of {name} in the log", len(recount.offers[name]), offers)
    compare_pause(simulation, recount, orders.rollout)
    return recount


def compare_outcomes(simulation: Simulation, recount: Recount) -> None:
    """Compares the outcomes that follow from the log with those that follow from receipts."""
    compare(simulation, "offered twice", recount.repeated, [])
    for outcome in sorted({*recount.outcomes} ^ {*simulation.outcomes}):
        simulation.client.tally.differ(f"only the log or only the receipts have {outcome}")


def compare_pause(simulation: Simulation, recount: Recount, rollout: str) -> None:
    """Compares the pause: the system recorded exactly one, right after the report and in the same
    commit, and no offer follows it."""
    pause = simulation.pause
    times = (
        time_text(report.recorded_at_ms)
        for each in simulation.devices
        for report in each.device.recorded
        if report.position == pause.position
    )
    counted = {"failed": pause.failed, "installed": pause.installed}
    expected = (pause.position + 1, f"rollout/{rollout}", "system", next(times, None), counted)
    actual = [
        (position, each.subject, each.actor, each.time, each.data)
        for position, each in recount.pauses
    ]
    compare(simulation, "pauses in the log", actual, [expected])
    later = [each for each in recount.offers[rollout] if each > pause.position]
    compare(simulation, "offers after the pause", later, [])
