"""Plays the shell around the rules of steering for tests, in plain memory."""

from dataclasses import dataclass, field
from typing import Any

from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import (
    REPORTS,
    DeviceRegistered,
    ReleaseAdded,
    ReleaseWithdrawn,
    ReportEvent,
    Status,
)
from firmtrail.events.steering import (
    AttemptsCleared,
    DeviceFellSilent,
    OfferEnded,
    RollbackStarted,
    RolloutStarted,
    UpdateOffered,
)
from firmtrail.projections.check_in import with_way_back
from firmtrail.rules import (
    control,
    device,
    device_order,
    offer,
    rollout,
    rollout_decisions,
    target,
    trail,
)
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState
from firmtrail.rules.offer import Offer
from firmtrail.rules.previous import PastRun
from firmtrail.rules.report import ReportCommand
from firmtrail.rules.rollout import PlanTime, Recent, RolloutState
from firmtrail.rules.situation import Decision, Situation
from firmtrail.rules.trail import TrailStep

DEFAULTS: dict[str, Any] = {"model": "m", "reach": 10_000}


@dataclass
class Fleet:
    """Holds a log of one project, folded as it grows."""

    control: Control = field(default_factory=Control)
    states: dict[str, DeviceState] = field(default_factory=dict)
    offers: dict[str, dict[tuple[str, str], Offer]] = field(default_factory=dict)
    log: list[Recorded] = field(default_factory=list)
    later_ms: int = 0
    """The time that passed without events."""

    @property
    def now_ms(self) -> int:
        return 1_000_000 + len(self.log) + self.later_ms

    @property
    def at(self) -> PlanTime:
        return PlanTime(self.now_ms, self.control.halts)

    def record(self, stream: str, event: Event) -> Recorded:
        position = len(self.log)
        recorded = Recorded(position, self.now_ms, stream, f"e{position}", "user/u", event)
        self.log.append(recorded)
        self.control = control.evolve(self.control, recorded)
        kind, _, name = stream.partition("/")
        if kind == "device":
            self._of_device(name, recorded)
        return recorded

    def _of_device(self, name: str, recorded: Recorded) -> None:
        event, before = recorded.event, self.states.get(name)
        offers = self.offers.setdefault(name, {})
        changed: list[Offer] = []
        if isinstance(event, REPORTS):
            assert before is not None
            at = device_order.placed(before, recorded)
            self.states[name] = device.evolve_report(before, recorded, at, None)
            of_model = offer.of_model(offers.values(), before.model)
            changed = offer.reported(of_model, event, at)
        elif isinstance(event, UpdateOffered):
            assert before is not None
            changed = offer.offered(offers.values(), before, recorded)
        elif isinstance(event, AttemptsCleared):
            assert before is not None
            changed = offer.cleared(offers.values(), before, event)
        elif isinstance(event, DeviceFellSilent):
            changed = offer.silenced(offers.values(), event, recorded.position)
        elif isinstance(event, OfferEnded):
            changed = offer.ended(offers.values(), event)
        else:
            self.states[name] = device.evolve_attributes(before, name, event)
        offers.update((each.key, each) for each in changed)

    def register(self, *names: str, model: str = "m", version: str | None = "1.0.0") -> None:
        for name in names:
            self.record(f"device/{name}", DeviceRegistered(model))
            if version is not None:
                self.report(version, device=name)

    def release(self, *versions: str, model: str = "m") -> None:
        for each in versions:
            self.record(f"release/{model}/{each}", ReleaseAdded(model, each))

    def withdraw(self, of: str, model: str = "m") -> None:
        self.record(f"release/{model}/{of}", ReleaseWithdrawn())

    def report(self, version: str, status: Status = "installed", device: str = "d1") -> None:
        event = _event(ReportCommand(device, version, status, "x"))
        self.record(f"device/{device}", event)
        self._pause()

    def _pause(self) -> None:
        for each in list(self.control.rollouts.values()):
            if paused := rollout_decisions.decide_own_pause(each, self.recent(each)):
                self.record(rollout.stream(each.id), paused)

    def recent(self, of: RolloutState) -> Recent:
        """Counts from scratch, from the offers."""
        outcomes = [
            each.outcome
            for name, offers in self.offers.items()
            if rollout.counts(of, self.states.get(name))
            for each in [offer.latest(one for one in offers.values() if one.source == of.id)]
            if each is not None and each.outcome_position > of.resumed_position
        ]
        return Recent(outcomes.count("installed"), outcomes.count("failed"))

    def roll_out(self, version: str, name: str = "r1", **members: Any) -> RolloutState:
        wanted = RolloutStarted(version=version, **(DEFAULTS | members))
        event = control.decide_rollout(self.control, wanted)
        self.record(rollout.stream(name), event)
        return self.control.rollouts[name]

    def roll_back(self, bad: str, to: str | None = None, name: str = "b1", **members: Any) -> None:
        wanted = RollbackStarted(bad_version=bad, version=to, **(DEFAULTS | members))
        event = control.decide_rollback(self.control, wanted)
        if bad in self.versions(event.model) and not control.is_withdrawn(
            self.control, event.model, bad
        ):
            self.withdraw(bad, event.model)
        self.record(rollout.stream(name), event)

    def versions(self, model: str) -> set[str]:
        return {key.version for key in self.control.releases if key.model == model}

    def case(self, name: str = "d1") -> Situation:
        state = self.states[name]
        offers = offer.of_model(self.offers.get(name, {}).values(), state.model)
        case = Situation(self.control, state, offers, self.now_ms)
        wanted = target.runs_wanted(case)
        if wanted is None:
            return case
        return with_way_back(case, {wanted: self.runs(*wanted)})

    def runs(self, name: str, bad: str) -> list[PastRun]:
        """Returns the runs before the first one of the bad version, newest first."""
        reports = [
            each.event
            for each in self.log
            if each.stream == f"device/{name}" and isinstance(each.event, REPORTS)
        ]
        moving = [each for each in reports if each.status in device.MOVING]
        first = next(n for n, each in enumerate(moving) if each.version == bad)
        return [
            PastRun(each.version, _failed_since(reports, each.version))
            for each in reversed(moving[:first])
        ]

    def decide(self, name: str = "d1") -> Decision:
        return target.decide(self.case(name))

    def trail(self, name: str = "d1") -> list[TrailStep]:
        return trail.trail(self.case(name))

    def check_in(self, name: str = "d1") -> Decision:
        """Decides, and records the offer if it is new."""
        case = self.case(name)
        decision = target.decide(case)
        if decision.version is not None and not offer.is_made(
            case.offers, decision.source, decision.version
        ):
            attempt = offer.attempts(case.offers, decision.version) + 1
            cause = target.cause_of(decision)
            made = UpdateOffered(decision.version, cause, attempt, decision.rollout)
            self.record(f"device/{name}", made)
        return decision

    def offers_made(self) -> list[Recorded]:
        return [each for each in self.log if isinstance(each.event, UpdateOffered)]


def _failed_since(reports: list[ReportEvent], version: str) -> bool:
    last = max(
        n
        for n, each in enumerate(reports)
        if each.version == version and each.status in device.MOVING
    )
    return any(
        each.version == version and each.status in {"failed", "rejected"} for each in reports[last:]
    )


def _event(report: ReportCommand) -> ReportEvent:
    decided = device.decide_report(DeviceState(report.device), report, None)
    assert isinstance(decided, REPORTS)
    return decided


def new_fleet() -> Fleet:
    """Returns a fleet whose device d1 a rollout sends to 1.1.0."""
    fleet = Fleet()
    fleet.release("1.0.0", "1.1.0", "1.2.0")
    fleet.register("d1")
    fleet.roll_out("1.1.0")
    return fleet
