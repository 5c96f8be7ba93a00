"""Plays a device of a steered fleet: it checks in, answers questions, downloads and installs what
it is offered, and reports the result. Every answer is compared with the model immediately."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

import msgspec
from rich.progress import Progress

from firmtrail.simulate import steering, workload
from firmtrail.simulate.attempts import Pause, ReportedOutcome
from firmtrail.simulate.client import Client, Pacer, ServiceAnswer
from firmtrail.simulate.fleet import MOVING, Post
from firmtrail.simulate.steering import (
    CheckInAnswer,
    InstallEnding,
    OfferedArtifact,
    OperatorOrders,
    SteeredDevice,
)

_NO_PAUSE = Pause(-1, 0, 0)

_decoded = msgspec.json.Decoder(CheckInAnswer).decode


@dataclass(kw_only=True)
class Simulation:
    """Holds a steered fleet, and the state of its simulation."""

    client: Client
    pacer: Pacer
    progress: Progress
    random: Random
    start: int
    """The log's size before the simulation."""
    model: str
    devices: list[SteeredDevice]
    orders: OperatorOrders
    ends: Iterator[InstallEnding]
    """Yields how the next installs end."""
    may_pause: bool = False
    """Whether the rollout may pause itself at any moment."""
    later_percents: tuple[int, ...] = ()
    """Percentages that the rollout may reach at any moment, as its plan says."""
    answers_meanwhile: list[tuple[int, str]] = field(default_factory=list)
    """The log's size and the reason of each answer about the rollout during `may_pause`."""
    pause: Pause = _NO_PAUSE
    """Where the rollout must have paused itself, once that is known."""
    outcomes: list[ReportedOutcome] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    """Counts what devices did."""

    def differ(self, each: SteeredDevice, text: str) -> None:
        self.client.tally.differ(f"{each.device.name}: {text}")


async def visit(simulation: Simulation, each: SteeredDevice) -> None:
    """Checks in and follows the answer. A device whose installs never work tries until it is no
    longer offered the version."""
    answer = await _check_in(simulation, each)
    if answer is None or answer.version is None:
        return
    end = next(simulation.ends)
    await _install(simulation, each, answer, end)
    while end == "never" and (answer := await _check_in(simulation, each)) and answer.version:
        await _install(simulation, each, answer, end)


async def come_back(simulation: Simulation, each: SteeredDevice) -> None:
    """Visits as `visit`. A device that fell silent while it installed reports the install first."""
    if each.awaited is not None:
        await report(simulation, each, "installed", each.awaited)
        each.awaited = None
    await visit(simulation, each)


async def report_past(simulation: Simulation, each: SteeredDevice) -> None:
    """Reports every version that the device ran before."""
    reports = [
        each.next_report("installed", version, workload.now_ms()) for version in each.past_versions
    ]
    await simulation.pacer.wait(1)
    await simulation.client.send(Post(each.device, reports, is_array=len(reports) > 1))


async def report(
    simulation: Simulation, each: SteeredDevice, status: str, version: str, **about: str
) -> int | None:
    """Reports, and records the outcome in the model. Returns the position, None if the report was
    not recorded."""
    recorded = each.device.recorded
    known = len(recorded)
    body = each.next_report(status, version, workload.now_ms(), **about)
    await simulation.pacer.wait(1)
    await simulation.client.send(Post(each.device, [body]))
    if len(recorded) == known:
        return None  # the client has noted the difference
    position = recorded[-1].position
    for rollout, result in each.offer_history.add_report(status, version):
        simulation.outcomes.append(ReportedOutcome(position, rollout, each.device.name, result))
    if status in MOVING:
        each.runs = version
    return position


async def _check_in(simulation: Simulation, each: SteeredDevice) -> CheckInAnswer | None:
    await simulation.pacer.wait(1)
    response = await simulation.client.check_in(each.device, each.etag)
    simulation.done["check-ins"] += 1
    answer = _read(simulation, each, response)
    if answer is None:
        return None
    _compare(simulation, each, answer)
    if simulation.may_pause and answer.rollout == simulation.orders.rollout:
        simulation.answers_meanwhile.append((response.log_size or 0, answer.reason))
    if answer.rollout is not None and answer.version is not None:
        each.offer_history.add_offer(answer.rollout, answer.version)
    each.last_answer, each.etag = answer, response.etag
    if answer.question is not None:
        await _answer(simulation, each, answer.question)
    return answer


def _read(
    simulation: Simulation, each: SteeredDevice, response: ServiceAnswer
) -> CheckInAnswer | None:
    """Returns the answer. 304 stands for the previous answer, and that is never sent again."""
    if response.status == 304:
        simulation.done["nothing new"] += 1
        return each.last_answer
    try:
        answer = _decoded(response.body) if response.status == 200 else None
    except msgspec.MsgspecError:
        answer = None
    if answer is None:
        text = response.body.decode(errors="replace")[:300]
        simulation.differ(each, f"its check-in was answered {response.status} {text}")
    elif answer == each.last_answer:
        simulation.differ(each, f"got an answer again that it has already: {answer}")
    return answer


def _compare(simulation: Simulation, each: SteeredDevice, answer: CheckInAnswer) -> None:
    possible = [steering.expected(orders, each) for orders in _possible_orders(simulation)]
    if answer.ordered not in possible:
        simulation.differ(each, f"was answered {answer}, not {' or '.join(map(str, possible))}")
    if answer.version is not None and answer.offer not in {each.offers or 1, each.offers + 1}:
        simulation.differ(each, f"got offer {answer.offer} after {each.offers} offers")
    each.offers = max(each.offers, answer.offer or 0)


def _possible_orders(simulation: Simulation) -> list[OperatorOrders]:
    """Returns the orders that may be in force: a rollout may pause, or begin a phase, meanwhile."""
    orders = simulation.orders
    percents = [orders.percent, *simulation.later_percents]
    found = [orders._replace(percent=percent) for percent in percents]
    if simulation.may_pause:
        found.append(orders._replace(is_paused=True))
    return found


async def _answer(simulation: Simulation, each: SteeredDevice, question: str) -> None:
    each.answered, each.question = (question, each.runs), None
    await report(simulation, each, "running", each.runs, question=question)
    simulation.done["questions answered"] += 1


async def _install(
    simulation: Simulation, each: SteeredDevice, answer: CheckInAnswer, end: InstallEnding
) -> None:
    assert answer.version is not None
    about = {} if answer.rollout is None else {"rollout": answer.rollout}
    await report(simulation, each, "downloading", answer.version, **about)
    for artifact in answer.artifacts:
        await _download(simulation, each, artifact)
    await report(simulation, each, "installing", answer.version, **about)
    for status, version in steering.final_reports(end, answer.version, each.runs):
        position = await report(simulation, each, status, version, **about)
        if answer.action == "rollback" and status == "installed" and position is not None:
            each.device.rollbacks.add(position)
    if end == "falls silent":
        each.is_silent, each.awaited = True, answer.version
    simulation.done[end] += 1


async def _download(simulation: Simulation, each: SteeredDevice, artifact: OfferedArtifact) -> None:
    await simulation.pacer.wait(1)
    answer = await simulation.client.download(each.device, artifact.url)
    is_it = sha256(answer.body).hexdigest() == artifact.sha256
    if answer.status != 200 or not is_it or len(answer.body) != artifact.size:
        simulation.differ(
            each, f"{artifact} was answered {answer.status}, {len(answer.body)} bytes"
        )
    simulation.done["artifacts loaded"] += 1
