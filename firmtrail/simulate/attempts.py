"""What came of what devices were offered, and when that has to pause a rollout. Pure.

Written from the interface's text (API, "Deciding"): it shares no code with the service's rules.
The same is fed once with what devices were told and answered, once with the service's log.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from firmtrail.simulate.fleet import FAILING, MOVING

MAX_ATTEMPTS = 3
"""Of a project that never changed it."""

type Result = Literal["installed", "failed"]


class Outcome(NamedTuple):
    """A report by which an offer of the rollout came to its end, for now."""

    position: int
    rollout: str
    device: str
    result: Result


class Pause(NamedTuple):
    """The report over which a rollout pauses itself, and what was counted then."""

    position: int
    failed: int
    installed: int


class Trials:
    """What one device was offered, and what came of it."""

    __slots__ = ("_installing", "_latest", "_open", "attempts", "offers", "results", "versions")

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        """By version, since its last install."""
        self.offers: Counter[str] = Counter()
        """By rollout."""
        self.results: dict[str, Result | None] = {}
        """The latest, by rollout."""
        self.versions: dict[str, str] = {}
        """The one that a rollout offered last."""
        self._latest: dict[str, str] = {}
        """version -> the rollout that offered it last"""
        self._open: set[str] = set()
        """Versions whose last offer has no attempt or install yet."""
        self._installing: set[str] = set()

    def told(self, rollout: str, version: str) -> bool:
        """Takes down what a check-in said; whether it is an offer, and none that stands already."""
        if version in self._open and self._latest[version] == rollout:
            return False
        self._open.add(version)
        self._latest[version] = rollout
        self.versions[rollout] = version
        self.offers[rollout] += 1
        self.results.setdefault(rollout, None)
        return True

    def said(self, status: str, version: str) -> list[tuple[str, Result]]:
        """The rollouts of whose offers this report is an outcome."""
        if status in MOVING:
            left = [each for each in self._installing if each != version]
            return [*self._went(version), *(each for other in left for each in self._failed(other))]
        if status in FAILING:
            return self._failed(version)
        if status == "installing" and version in self._open:
            self._installing.add(version)
        return []

    def _went(self, version: str) -> list[tuple[str, Result]]:
        if version not in self._latest:
            return []
        self._open.discard(version)
        self._installing.discard(version)
        del self.attempts[version]
        return self._ended(version, "installed")

    def _failed(self, version: str) -> list[tuple[str, Result]]:
        """An attempt, which counts once an offer."""
        self._installing.discard(version)
        if version not in self._open:
            return []
        self._open.remove(version)
        self.attempts[version] += 1
        return self._ended(version, "failed")

    def _ended(self, version: str, result: Result) -> list[tuple[str, Result]]:
        rollout = self._latest[version]
        self.results[rollout] = result
        return [(rollout, result)]


def counts(trials: Iterable[Trials], rollout: str) -> dict[str, int]:
    """How far a rollout is, as the service counts it."""
    found = Counter(each for one in trials for each in _states(one, rollout))
    return {name: found[name] for name in ("offered", "installed", "failed", "exhausted")}


def _states(trials: Trials, rollout: str) -> list[str]:
    if rollout not in trials.results:
        return []
    return ["offered", state(trials, rollout)]


def state(trials: Trials, rollout: str) -> str:
    """Of a device that the rollout offered something: what came of it, "" for nothing yet."""
    result = trials.results[rollout]
    if result == "failed" and trials.attempts[trials.versions[rollout]] >= MAX_ATTEMPTS:
        return "exhausted"
    return result or ""


def pause(outcomes: Iterable[Outcome], failed_percent: int, min_reports: int) -> Pause | None:
    """Where the outcomes of one rollout, of each device its latest, make it pause itself."""
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
