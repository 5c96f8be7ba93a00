"""Models a rollout with a plan, and derives its phases from a log. Pure.

It is written from the interface's text ("Plans" in docs/rollouts.md) and shares no code with the
service's rules: it steps through the events of a log, and moves to the next phase where the times
of two events enclose its beginning.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from firmtrail.simulate.attempts import Result
from firmtrail.simulate.steering import is_reached


class ModelPhase(NamedTuple):
    """Holds a phase of a plan; `after_ms` and `min_reports` may be absent."""

    percent: int
    after_ms: int | None = None
    installed_percent: int = 0
    min_reports: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        """Returns the phase as the body of a request names it."""
        body: dict[str, Any] = {"percent": self.percent}
        if self.after_ms is not None:
            body["after_s"] = self.after_ms // 1000
        if self.min_reports is not None:
            body["when"] = {
                "installed_percent": self.installed_percent,
                "min_reports": self.min_reports,
            }
        return body


class Met(NamedTuple):
    """Holds the event that follows the report with which a phase meets its condition."""

    position: int
    phase: int
    installed: int
    failed: int


class PlanModel:
    """Holds a rollout with a plan, after the events that it was given."""

    def __init__(self, rollout: str, phases: Sequence[ModelPhase], start_ms: int) -> None:
        self._rollout, self._phases = rollout, phases
        self.begins_ms = [start_ms]
        """The times at which its phases began."""
        self.mets_ms: dict[int, int] = {}
        """phase -> the time at which it met its condition"""
        self.mets: list[Met] = []
        self.early: list[str] = []
        """Devices that were offered the version before a phase reached them."""
        self.offers: Counter[int] = Counter()
        """By phase."""
        self.outcomes: Counter[tuple[int, Result]] = Counter()
        """Of the offers made in a phase."""
        self._offered_in: dict[str, int] = {}

    @property
    def phase(self) -> int:
        return len(self.begins_ms) - 1

    def move_to(self, now_ms: int) -> None:
        """Begins the phases that begin until this time."""
        while (end_ms := self._end_ms()) is not None and end_ms <= now_ms:
            self.begins_ms.append(end_ms)

    def _end_ms(self) -> int | None:
        """Returns when the phase ends; None if that is not known yet, or if it is the last."""
        phase = self._phases[self.phase]
        if self.phase == len(self._phases) - 1:
            return None
        met_ms = self.mets_ms.get(self.phase, self.begins_ms[-1])
        if phase.min_reports is not None and self.phase not in self.mets_ms:
            return None
        return max(met_ms, self.begins_ms[-1] + (phase.after_ms or 0))

    def add_offer(self, device: str, now_ms: int) -> None:
        self.move_to(now_ms)
        if not is_reached(self._rollout, self._phases[self.phase].percent, device):
            self.early.append(device)
        self.offers[self.phase] += 1
        self._offered_in[device] = self.phase

    def add_outcome(self, position: int, device: str, result: Result, now_ms: int) -> None:
        """Adds the outcome of the device's last offer, whose report is at this position."""
        self.move_to(now_ms)
        self.outcomes[self._offered_in[device], result] += 1
        of, phase = self._phases[self.phase], self.phase
        if self._offered_in[device] != phase or of.min_reports is None or phase in self.mets_ms:
            return
        installed, failed = self.outcomes[phase, "installed"], self.outcomes[phase, "failed"]
        is_share = 100 * installed >= of.installed_percent * (installed + failed)
        if installed + failed >= of.min_reports and is_share:
            self.mets_ms[phase] = now_ms
            self.mets.append(Met(position + 1, phase, installed, failed))
