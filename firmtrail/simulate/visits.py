"""What a device of a steered fleet does: it checks in, answers what it is asked, loads and installs
what it is told, and says how that went. Whatever it is told is compared with the model at once.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

import msgspec
from rich.progress import Progress

from firmtrail.simulate import steering, workload
from firmtrail.simulate.attempts import Outcome, Pause
from firmtrail.simulate.client import Answer, Client, Pacer
from firmtrail.simulate.fleet import MOVING, Post
from firmtrail.simulate.steering import Artifact, End, Orders, Steered, Told

_NO_PAUSE = Pause(-1, 0, 0)

_told = msgspec.json.Decoder(Told).decode


@dataclass(kw_only=True)
class Stage:
    """A fleet, and what goes on in it."""

    client: Client
    pacer: Pacer
    progress: Progress
    random: Random
    start: int
    """The log's size before it."""
    model: str
    devices: list[Steered]
    orders: Orders
    ends: Iterator[End]
    """How the next installs end."""
    may_pause: bool = False
    """Whether the rollout may pause itself at any time."""
    told_meanwhile: list[tuple[int, str]] = field(default_factory=list)
    """The log's size and the reason of each answer by the rollout, while that was so."""
    pause: Pause = _NO_PAUSE
    """Where it has to have paused itself, once that is known."""
    outcomes: list[Outcome] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    """What devices did, in numbers."""

    def differ(self, each: Steered, text: str) -> None:
        self.client.tally.differ(f"{each.device.name}: {text}")


async def visit(stage: Stage, each: Steered) -> None:
    """Check in, and do what is said. A device whose installs never work tries until it may not."""
    told = await _check_in(stage, each)
    if told is None or told.version is None:
        return
    end = next(stage.ends)
    await _install(stage, each, told, end)
    while end == "never" and (told := await _check_in(stage, each)) and told.version:
        await _install(stage, each, told, end)


async def come_back(stage: Stage, each: Steered) -> None:
    """As `visit`; a device that fell silent while it installed says first that it got there."""
    if each.awaited is not None:
        await say(stage, each, "installed", each.awaited)
        each.awaited = None
    await visit(stage, each)


async def live(stage: Stage, each: Steered) -> None:
    """Report everything that it ran before."""
    reports = [each.next_report("installed", version, workload.now_ms()) for version in each.life]
    await stage.pacer.wait(1)
    await stage.client.play(Post(each.device, reports, is_array=len(reports) > 1))


async def say(stage: Stage, each: Steered, status: str, version: str, **about: str) -> int | None:
    """Report, and take down what follows from it; the position, None where there is none."""
    recorded = each.device.recorded
    known = len(recorded)
    report = each.next_report(status, version, workload.now_ms(), **about)
    await stage.pacer.wait(1)
    await stage.client.play(Post(each.device, [report]))
    if len(recorded) == known:
        return None  # the client has told the difference
    position = recorded[-1].position
    for rollout, result in each.trials.said(status, version):
        stage.outcomes.append(Outcome(position, rollout, each.device.name, result))
    if status in MOVING:
        each.runs = version
    return position


async def _check_in(stage: Stage, each: Steered) -> Told | None:
    await stage.pacer.wait(1)
    answer = await stage.client.check_in(each.device, each.etag)
    stage.done["check-ins"] += 1
    told = _read(stage, each, answer)
    if told is None:
        return None
    _compare(stage, each, told)
    if stage.may_pause and told.rollout == stage.orders.rollout:
        stage.told_meanwhile.append((answer.log_size or 0, told.reason))
    if told.rollout is not None and told.version is not None:
        each.trials.told(told.rollout, told.version)
    each.told, each.etag = told, answer.etag
    if told.question is not None:
        await _answer(stage, each, told.question)
    return told


def _read(stage: Stage, each: Steered, answer: Answer) -> Told | None:
    """The answer; 304 stands for the one before, and for nothing else."""
    if answer.status == 304:
        stage.done["told nothing new"] += 1
        return each.told
    try:
        told = _told(answer.body) if answer.status == 200 else None
    except msgspec.MsgspecError:
        told = None
    if told is None:
        said = answer.body.decode(errors="replace")[:300]
        stage.differ(each, f"its check-in was answered {answer.status} {said}")
    elif told == each.told:
        stage.differ(each, f"was told again what it has: {told}")
    return told


def _compare(stage: Stage, each: Steered, told: Told) -> None:
    orders = stage.orders
    possible = [steering.expected(orders, each)]
    if stage.may_pause:
        possible.append(steering.expected(orders._replace(is_paused=True), each))
    if told not in possible:
        stage.differ(each, f"was told {told}, should be {' or '.join(map(str, possible))}")


async def _answer(stage: Stage, each: Steered, question: str) -> None:
    each.answered, each.question = (question, each.runs), None
    await say(stage, each, "running", each.runs, question=question)
    stage.done["questions answered"] += 1


async def _install(stage: Stage, each: Steered, told: Told, end: End) -> None:
    assert told.version is not None
    about = {} if told.rollout is None else {"rollout": told.rollout}
    await say(stage, each, "downloading", told.version, **about)
    for artifact in told.artifacts:
        await _load(stage, each, artifact)
    await say(stage, each, "installing", told.version, **about)
    for status, version in steering.last_words(end, told.version, each.runs):
        position = await say(stage, each, status, version, **about)
        if told.action == "rollback" and status == "installed" and position is not None:
            each.device.rollbacks.add(position)
    if end == "falls silent":
        each.is_silent, each.awaited = True, told.version
    stage.done[end] += 1


async def _load(stage: Stage, each: Steered, artifact: Artifact) -> None:
    await stage.pacer.wait(1)
    answer = await stage.client.load(each.device, artifact.url)
    is_it = sha256(answer.body).hexdigest() == artifact.sha256
    if answer.status != 200 or not is_it or len(answer.body) != artifact.size:
        stage.differ(each, f"{artifact} was answered {answer.status}, {len(answer.body)} bytes")
    stage.done["artifacts loaded"] += 1
