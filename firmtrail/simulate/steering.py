"""How devices of a steered fleet live, and what a service must tell them. Pure.

Written from the interface's text, like fleet.py: it shares no code with the service's rules.
A device reports in order: its clock is the service's, as it was told it last.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import count
from typing import Literal, NamedTuple

from msgspec import Struct

from firmtrail.simulate.attempts import MAX_ATTEMPTS, Trials, state
from firmtrail.simulate.fleet import Device, Report, report

OLD, GOOD, BAD = "0.9.0", "1.0.0", "1.1.0"
RELEASES = (OLD, GOOD, BAD)
ODD = "0.9.1"
"""Runs on some devices, and is no release: no rollback goes there."""
LIVES: tuple[tuple[str, ...], ...] = (
    *(((GOOD,),) * 10),
    *(((OLD, GOOD),) * 5),
    *(((OLD,),) * 3),
    (OLD, ODD),
    (ODD,),
)
"""What devices ran before 1.1.0, so many of twenty."""
BEGAN_MS_AGO = 60_000

type End = Literal[
    "installed", "failed", "rejected", "falls back", "never", "reverts", "falls silent"
]
FAILURES: tuple[End, ...] = ("failed", "never", "falls back", "rejected")
ROLLBACK_FAILURES: tuple[End, ...] = ("failed", "falls back", "rejected")
TURNS: tuple[End, ...] = ("falls silent", "reverts")
"""What an install can also come to, one of `TURN_EVERY`."""
TURN_EVERY = 20


class Artifact(Struct, frozen=True):
    """A file that a device is told to load."""

    name: str
    size: int
    sha256: str
    url: str


class Told(Struct, frozen=True):
    """The answer to a check-in."""

    action: str
    version: str | None
    rollout: str | None
    reason: str
    artifacts: tuple[Artifact, ...] = ()
    question: str | None = None
    report_wanted: bool = False
    last_seq: int | None = None


class Steered:
    """A device with what it runs, what it was told, and what came of it."""

    __slots__ = (
        "answered", "awaited", "device", "etag", "is_silent", "life", "question", "runs", "told",
        "trials",
    )  # fmt: skip

    def __init__(self, device: Device, life: Sequence[str]) -> None:
        self.device = device
        self.life = life
        self.runs = life[-1]
        self.etag = ""
        self.told: Told | None = None
        self.trials = Trials()
        self.question: str | None = None
        """Which it was asked, and has not answered."""
        self.answered: tuple[str, str] | None = None
        """The question that it answered, and with which version."""
        self.is_silent = False
        self.awaited: str | None = None
        """The version that it was installing when it fell silent."""

    @property
    def home(self) -> str:
        """Where a rollback of 1.1.0 sends it: to its last release before, else the fallback."""
        return next((each for each in reversed(self.life) if each in RELEASES), GOOD)

    def next_report(self, status: str, version: str, now_ms: int, **about: str) -> Report:
        """In the device's style; `about` as `fleet.report` has it."""
        recorded = self.device.recorded
        claim_ms = recorded[-1].recorded_at_ms if recorded else now_ms - BEGAN_MS_AGO
        return report(self.device, version, status, claim_ms, **about)


class Orders(NamedTuple):
    """What the operator ordered so far."""

    artifacts: Mapping[str, tuple[str, int, str]]
    """version -> name, size in bytes and SHA-256 of its artifact"""
    path: str
    """Of the project."""
    rollout: str = ""
    percent: int = 0
    is_paused: bool = False
    rollback: str = ""


def steered(devices: Sequence[Device]) -> list[Steered]:
    """Of each life some of each style."""
    return [Steered(device, LIVES[n // 4 % len(LIVES)]) for n, device in enumerate(devices)]


def ends(fail_percent: int, failures: Sequence[End], turns: Sequence[End]) -> Iterator[End]:
    """How one install after the other ends. Of any number so many in a hundred fail, exactly."""
    failed = went = 0
    for n in count(1):
        if n * fail_percent // 100 > failed:
            yield failures[failed % len(failures)]
            failed += 1
        else:
            went += 1
            is_turn = turns and went % TURN_EVERY == 0
            yield turns[went // TURN_EVERY % len(turns)] if is_turn else "installed"


def last_words(end: End, version: str, before: str) -> list[tuple[str, str]]:
    """Status and version of what a device reports after it began to install the version."""
    match end:
        case "installed":
            return [("installed", version)]
        case "reverts":
            return [("installed", version), ("running", before)]
        case "falls back":
            return [("running", before)]
        case "falls silent":
            return []
        case "never":
            return [("failed", version)]
        case "failed" | "rejected":
            return [(end, version)]


def is_reached(rollout: str, percent: int, device: str) -> bool:
    digest = sha256(f"{rollout}/{device}".encode()).digest()
    return int.from_bytes(digest, "big") % 10_000 < percent * 100


def expected(orders: Orders, each: Steered) -> Told:
    """What the device must be told."""
    action, version, rollout, reason = _decided(orders, each)
    return Told(
        action,
        version,
        rollout,
        reason,
        _artifacts(orders, each, version),
        each.question,
        last_seq=each.device.seq if each.device.style == "seq" else None,
    )


def _decided(orders: Orders, each: Steered) -> tuple[str, str | None, str | None, str]:
    """Action, version, rollout and reason."""
    if orders.rollback and each.runs == BAD:
        return "rollback", each.home, orders.rollback, "rollback"
    if not is_reached(orders.rollout, orders.percent, each.device.name):
        return "none", None, None, "not_reached"
    reason = _refusal(orders, each)
    if reason is None:
        return "update", BAD, orders.rollout, "rollout"
    return "none", None, orders.rollout, reason


def _refusal(orders: Orders, each: Steered) -> str | None:
    """Why the rollout sends a device nowhere that it reaches."""
    refusals = {
        "withdrawn": bool(orders.rollback),
        "paused": orders.is_paused,
        "up_to_date": each.runs == BAD,
        "attempts_exhausted": each.trials.attempts[BAD] >= MAX_ATTEMPTS,
    }
    return next((reason for reason, applies in refusals.items() if applies), None)


def _artifacts(orders: Orders, each: Steered, version: str | None) -> tuple[Artifact, ...]:
    if version is None:
        return ()
    name, size, digest = orders.artifacts[version]
    url = f"{orders.path}/devices/{each.device.name}/artifacts/{digest}"
    return (Artifact(name, size, digest, url),)


def rollout_state(orders: Orders, each: Steered) -> str:
    """In which state the rollout must have the device. Without it, none comes to 1.1.0."""
    trials, rollout = each.trials, orders.rollout
    if rollout in trials.results and (came := state(trials, rollout)):
        return came
    if not is_reached(rollout, orders.percent, each.device.name):
        return "not_reached"
    if expected(orders, each).version != BAD:
        return "held"
    return "offered" if rollout in trials.results else "pending"


def rollback_state(orders: Orders, each: Steered) -> str | None:
    """In which state the rollback must have the device; None: it is not meant for it."""
    if orders.rollback in each.trials.results:
        return state(each.trials, orders.rollback) or "offered"
    return "pending" if each.runs == BAD else None
