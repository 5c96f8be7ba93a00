"""Models how devices of a steered fleet behave, and what a service must answer them. Pure.

It is written from the interface's text, like fleet.py, and shares no code with the service's rules.
A device reports in order: its clock shows the service's time from the last receipt.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import count
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from firmtrail.simulate.attempts import MAX_ATTEMPTS, OfferHistory, state
from firmtrail.simulate.fleet import ReportBody, SimulatedDevice, report

OLD, GOOD, BAD = "0.9.0", "1.0.0", "1.1.0"
RELEASES = (OLD, GOOD, BAD)
FIXED = "1.2.0"
"""The release that follows 1.1.0 in a fleet with a plan."""
ODD = "0.9.1"
"""A version that some devices run and that is not a release: no rollback leads to it."""
LIVES: tuple[tuple[str, ...], ...] = (
    *(((GOOD,),) * 10),
    *(((OLD, GOOD),) * 5),
    *(((OLD,),) * 3),
    (OLD, ODD),
    (ODD,),
)
"""The versions that each device of twenty ran before 1.1.0."""
BEGAN_MS_AGO = 60_000

type InstallEnding = Literal[
    "installed", "failed", "rejected", "falls back", "never", "reverts", "falls silent"
]
FAILURES: tuple[InstallEnding, ...] = ("failed", "never", "falls back", "rejected")
ROLLBACK_FAILURES: tuple[InstallEnding, ...] = ("failed", "falls back", "rejected")
OTHER_ENDINGS: tuple[InstallEnding, ...] = ("falls silent", "reverts")
"""How one successful install of every `OTHER_ENDING_EVERY` ends instead."""
OTHER_ENDING_EVERY = 20


class OfferedArtifact(Struct, frozen=True):
    """Names a file that a device must download."""

    name: str
    size: int
    sha256: str
    url: str
    download_url: str = ""
    """Changes from time to time: it expires."""


class CheckInAnswer(Struct, frozen=True):
    """Holds the service's answer to a check-in."""

    action: str
    version: str | None
    rollout: str | None
    reason: str
    artifacts: tuple[OfferedArtifact, ...] = ()
    question: str | None = None
    report_wanted: bool = False
    last_seq: int | None = None
    offer: int | None = None
    """The number of the offer among those of the device."""

    @property
    def ordered(self) -> "CheckInAnswer":
        """Returns what it orders: without the number of the offer, and addresses that expire."""
        artifacts = tuple(replace(each, download_url="") for each in self.artifacts)
        return replace(self, artifacts=artifacts, offer=None)


class SteeredDevice:
    """Holds a device with its version, the last answer that it got, and the results of offers."""

    __slots__ = (
        "answered",
        "awaited",
        "device",
        "etag",
        "is_silent",
        "last_answer",
        "offer_history",
        "offers",
        "past_versions",
        "question",
        "runs",
    )  # fmt: skip

    def __init__(self, device: SimulatedDevice, past_versions: Sequence[str]) -> None:
        self.device = device
        self.past_versions = past_versions
        self.runs = past_versions[-1]
        self.etag = ""
        self.last_answer: CheckInAnswer | None = None
        self.offers = 0
        self.offer_history = OfferHistory()
        self.question: str | None = None
        """The question that it was asked and has not answered."""
        self.answered: tuple[str, str] | None = None
        """The question that it answered, and the version in its answer."""
        self.is_silent = False
        self.awaited: str | None = None
        """The version that it was installing when it fell silent."""

    @property
    def home(self) -> str:
        """Returns the version to which a rollback of 1.1.0 leads: its last release before that, or
        else the fallback."""
        return next((each for each in reversed(self.past_versions) if each in RELEASES), GOOD)

    def next_report(self, status: str, version: str, now_ms: int, **about: str) -> ReportBody:
        """Returns a report in the device's style; `about` as in `fleet.report`."""
        recorded = self.device.recorded
        claim_ms = recorded[-1].recorded_at_ms if recorded else now_ms - BEGAN_MS_AGO
        return report(self.device, version, status, claim_ms, **about)


class OperatorOrders(NamedTuple):
    """Holds what the operator has ordered so far."""

    artifacts: Mapping[str, tuple[str, int, str]]
    """version -> name, size in bytes and SHA-256 of its artifact"""
    path: str
    """The project's path."""
    rollout: str = ""
    version: str = BAD
    """The version that the rollout sends devices to."""
    percent: int = 0
    is_paused: bool = False
    rollback: str = ""


def steered(devices: Sequence[SimulatedDevice]) -> list[SteeredDevice]:
    """Gives each device the versions that it ran before; each combination has devices of each
    style."""
    return [SteeredDevice(device, LIVES[n // 4 % len(LIVES)]) for n, device in enumerate(devices)]


def ends(
    fail_percent: int, failures: Sequence[InstallEnding], others: Sequence[InstallEnding]
) -> Iterator[InstallEnding]:
    """Yields how each install ends. Exactly `fail_percent` of any number of installs fail."""
    failed = worked = 0
    for n in count(1):
        if n * fail_percent // 100 > failed:
            yield failures[failed % len(failures)]
            failed += 1
        else:
            worked += 1
            is_other = others and worked % OTHER_ENDING_EVERY == 0
            yield others[worked // OTHER_ENDING_EVERY % len(others)] if is_other else "installed"


def final_reports(end: InstallEnding, version: str, before: str) -> list[tuple[str, str]]:
    """Returns the statuses and versions that a device reports after it began to install a
    version."""
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


def expected(orders: OperatorOrders, each: SteeredDevice) -> CheckInAnswer:
    """Returns what the service must answer the device."""
    action, version, rollout, reason = _decided(orders, each)
    return CheckInAnswer(
        action,
        version,
        rollout,
        reason,
        _artifacts(orders, each, version),
        each.question,
        last_seq=each.device.seq if each.device.style == "seq" else None,
    )


def _decided(
    orders: OperatorOrders, each: SteeredDevice
) -> tuple[str, str | None, str | None, str]:
    """Returns the action, version, rollout and reason."""
    if orders.rollback and each.runs == BAD:
        return "rollback", each.home, orders.rollback, "rollback"
    if not is_reached(orders.rollout, orders.percent, each.device.name):
        return "none", None, None, "not_reached"
    reason = _refusal(orders, each)
    if reason is None:
        return "update", orders.version, orders.rollout, "rollout"
    return "none", None, orders.rollout, reason


def _refusal(orders: OperatorOrders, each: SteeredDevice) -> str | None:
    """Returns why the rollout offers nothing to a device that it reaches; None if it offers."""
    refusals = {
        "withdrawn": bool(orders.rollback),
        "paused": orders.is_paused,
        "up_to_date": each.runs == orders.version,
        "attempts_exhausted": (each.offer_history.failed_attempts[orders.version] >= MAX_ATTEMPTS),
    }
    return next((reason for reason, applies in refusals.items() if applies), None)


def _artifacts(
    orders: OperatorOrders, each: SteeredDevice, version: str | None
) -> tuple[OfferedArtifact, ...]:
    if version is None:
        return ()
    name, size, digest = orders.artifacts[version]
    url = f"{orders.path}/devices/{each.device.name}/artifacts/{digest}"
    return (OfferedArtifact(name, size, digest, url),)


def rollout_state(orders: OperatorOrders, each: SteeredDevice) -> str:
    """Returns the state that the device must have in the rollout, the only way to its version."""
    history, rollout = each.offer_history, orders.rollout
    if rollout in history.results and (result := state(history, rollout)):
        return result
    if not is_reached(rollout, orders.percent, each.device.name):
        return "not_reached"
    if expected(orders, each).version != orders.version:
        return "held"
    return "offered" if rollout in history.results else "pending"


def rollback_state(orders: OperatorOrders, each: SteeredDevice) -> str | None:
    """Returns the state that the device must have in the rollback; None if it is not part of it."""
    if orders.rollback in each.offer_history.results:
        return state(each.offer_history, orders.rollback) or "offered"
    return "pending" if each.runs == BAD else None
