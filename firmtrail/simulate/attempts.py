"""Derives what resulted from each offer to a device, and when that must pause a rollout. Pure.

It is written from the interface's text (API, "Deciding") and shares no code with the service's
rules. The same model is fed once with what devices were answered and reported, and once with the
service's log.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from firmtrail.simulate.fleet import FAILING, MOVING

MAX_ATTEMPTS = 3
"""The limit in a project that never changed it."""

type Result = Literal["installed", "failed"]


class ReportedOutcome(NamedTuple):
    """Records that a device's report ended an offer of a rollout, for now."""

    position: int
    rollout: str
    device: str
    result: Result


class Pause(NamedTuple):
    """Names the report at which a rollout pauses itself, with the counts at that position."""

    position: int
    failed: int
    installed: int


class OfferHistory:
    """Holds what one device was offered, and what resulted from it."""

    __slots__ = (
        "_installing", "_latest", "_open", "failed_attempts", "offers", "results", "versions",
    )  # fmt: skip

    def __init__(self) -> None:
        self.failed_attempts: Counter[str] = Counter()
        """By version, since its last install."""
        self.offers: Counter[str] = Counter()
        """By rollout."""
        self.results: dict[str, Result | None] = {}
        """The latest, by rollout."""
        self.versions: dict[str, str] = {}
        """The version that a rollout offered last."""
        self._latest: dict[str, str] = {}
        """version -> the rollout that offered it last"""
        self._open: set[str] = set()
        """Versions whose last offer has no attempt or install yet."""
        self._installing: set[str] = set()

    def add_offer(self, rollout: str, version: str) -> bool:
        """Adds what a check-in answered; returns whether it is an offer that was not open yet."""
        if version in self._open and self._latest[version] == rollout:
            return False
        self._open.add(version)
        self._latest[version] = rollout
        self.versions[rollout] = version
        self.offers[rollout] += 1
        self.results.setdefault(rollout, None)
        return True

    def add_report(self, status: str, version: str) -> list[tuple[str, Result]]:
        """Adds a report; returns the rollouts whose offers it ends, each with the result."""
        if status in MOVING:
            left = [each for each in self._installing if each != version]
            installed = self._installed(version)
            return [*installed, *(each for other in left for each in self._failed(other))]
        if status in FAILING:
            return self._failed(version)
        if status == "installing" and version in self._open:
            self._installing.add(version)
        return []

    def _installed(self, version: str) -> list[tuple[str, Result]]:
        if version not in self._latest:
            return []
        self._open.discard(version)
        self._installing.discard(version)
        del self.failed_attempts[version]
        return self._ended(version, "installed")

    def _failed(self, version: str) -> list[tuple[str, Result]]:
        """Counts a failed attempt, at most one for each offer."""
        self._installing.discard(version)
        if version not in self._open:
            return []
        self._open.remove(version)
        self.failed_attempts[version] += 1
        return self._ended(version, "failed")

    def _ended(self, version: str, result: Result) -> list[tuple[str, Result]]:
        rollout = self._latest[version]
        self.results[rollout] = result
        return [(rollout, result)]


def counts(histories: Iterable[OfferHistory], rollout: str) -> dict[str, int]:
    """Returns a rollout's progress, counted as the service counts it."""
    found = Counter(each for history in histories for each in _states(history, rollout))
    return {name: found[name] for name in ("offered", "installed", "failed", "exhausted")}


def _states(history: OfferHistory, rollout: str) -> list[str]:
    if rollout not in history.results:
        return []
    return ["offered", state(history, rollout)]


def state(history: OfferHistory, rollout: str) -> str:
    """Returns the result for a device that the rollout made an offer; "" if there is none yet."""
    result = history.results[rollout]
    if result == "failed" and history.failed_attempts[history.versions[rollout]] >= MAX_ATTEMPTS:
        return "exhausted"
    return result or ""


def pause(
    outcomes: Iterable[ReportedOutcome], failed_percent: int, min_reports: int
) -> Pause | None:
    """Returns where a rollout's outcomes, of each device its latest, make the rollout pause."""
    latest: dict[str, Result] = {}
    found: Counter[Result] = Counter()
    for position, _, device, result in sorted(outcomes):
        if device in latest:
            found[latest[device]] -= 1
        latest[device] = result
        found[result] += 1
        failed, installed = found["failed"], found["installed"]
        outcomes_so_far = failed + installed
        if outcomes_so_far >= min_reports and 100 * failed > failed_percent * outcomes_so_far:
            return Pause(position, failed, installed)
    return None
