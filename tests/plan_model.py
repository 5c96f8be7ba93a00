"""Models one rollout with a plan as docs/rollouts.md describes it: it moves second by second.

It is slow on purpose, and shares no code with the rules but the struct of a phase.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from firmtrail.events.steering import PlanPhase

ATTEMPTS_MAX = 3
WINDOW_S = 60
"""A window of the model opens for a minute, every two minutes."""


@dataclass
class PlanModel:
    """Holds a rollout to all devices of a model, and what became of its offers."""

    phases: Sequence[PlanPhase]
    now: int
    """Seconds; the rollout is started at this time."""
    start: int
    """The time before which it offers nothing."""
    is_approved: bool = True
    has_window: bool = False
    rollout: str = ""
    is_paused: bool = False
    halted_since: int | None = None
    phase: int = 0
    spent: int = 0
    is_met: bool = False
    begins: list[int] = field(default_factory=list)
    """When each of its phases began, in order; a skipped phase has -1."""
    offered_at: dict[str, int] = field(default_factory=dict)
    """device -> the time of its last offer"""
    open_offers: set[str] = field(default_factory=set)
    installed: set[str] = field(default_factory=set)
    failures: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of the offers made in the present phase."""

    def __post_init__(self) -> None:
        if self.is_approved:
            self.begins.append(max(self.now, self.start))
        self.settle()

    @property
    def reach(self) -> int:
        return self.phases[self.phase].reach

    @property
    def is_window_open(self) -> bool:
        return not self.has_window or self.now // WINDOW_S % 2 == 0

    @property
    def begun(self) -> list[int]:
        """Returns the times of the phases that began until now, and of those before them that were
        skipped."""
        began = [n for n, each in enumerate(self.begins) if 0 <= each <= self.now]
        return self.begins[: began[-1] + 1] if began else []

    def tick(self, seconds: int) -> None:
        for _ in range(seconds):
            is_counting = self.is_approved and not self.is_paused and self.halted_since is None
            self.spent += is_counting and self.now >= self.start
            self.now += 1
            self.settle()

    def settle(self) -> None:
        """Begins each phase whose turn has come. A halt that began this very second is too late to
        stop it."""
        is_halted = self.halted_since is not None and self.halted_since < self.now
        is_early = not self.is_approved or self.now < self.start
        while not (is_halted or is_early or self.is_paused) and self._ends():
            self._begin(self.phase + 1)

    def _ends(self) -> bool:
        phase = self.phases[self.phase]
        if self.phase == len(self.phases) - 1:
            return False
        waits = phase.min_reports is not None or phase.after_s is None
        return (self.is_met or not waits) and self.spent >= (phase.after_s or 0)

    def _begin(self, phase: int) -> None:
        if self.begins[-1] > self.now:
            self.begins[-1] = -1
        self.begins += [-1] * (phase - self.phase - 1) + [max(self.now, self.start)]
        self.phase, self.spent, self.is_met = phase, 0, False
        self.outcomes.clear()

    def advance(self) -> bool:
        """Begins the next phase; returns whether there is one."""
        if not self.is_approved or self.phase == len(self.phases) - 1:
            return False
        self._begin(self.phase + 1)
        self.settle()
        return True

    def approve(self) -> None:
        self.is_approved = True
        self.begins.append(max(self.now, self.start))
        self.settle()

    def reason(self, device: str) -> str:
        """Returns the reason that a check-in of the device must name."""
        digest = sha256(f"{self.rollout}/{device}".encode()).digest()
        is_window = self.is_window_open or device in self.open_offers
        refusals = {
            "halted": self.halted_since is not None,
            "not_reached": int.from_bytes(digest) % 10_000 >= self.reach,
            "waiting": not self.is_approved,
            "paused": self.is_paused,
            "scheduled": self.now < self.start,
            "up_to_date": device in self.installed,
            "attempts_exhausted": self.failures[device] >= ATTEMPTS_MAX,
            "window": not is_window,
        }
        return next((reason for reason, applies in refusals.items() if applies), "rollout")

    def offer(self, device: str) -> None:
        if device not in self.open_offers:
            self.open_offers.add(device)
            self.offered_at[device] = self.now

    def report(self, device: str, *, is_installed: bool) -> None:
        """Adds the outcome of the device's open offer."""
        self.open_offers.remove(device)
        if is_installed:
            self.installed.add(device)
        else:
            self.failures[device] += 1
        if self.begins and self.offered_at[device] >= self.begins[-1]:
            self.outcomes["installed" if is_installed else "failed"] += 1
        phase, count = self.phases[self.phase], self.outcomes.total()
        if phase.min_reports is None or phase.installed_percent is None or self.is_met:
            return
        is_share = 100 * self.outcomes["installed"] >= phase.installed_percent * count
        self.is_met = count >= phase.min_reports and is_share
        self.settle()
