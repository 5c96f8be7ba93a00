"""Compares the phases that a service shows, and its log, with the model of a plan."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, override

from firmtrail.events.times import time_ms, time_text
from firmtrail.simulate import attempts, checks, steered_checks
from firmtrail.simulate.attempts import MAX_ATTEMPTS
from firmtrail.simulate.checks import FetchedEntry
from firmtrail.simulate.plan_model import Met, ModelPhase, PlanModel
from firmtrail.simulate.steered_checks import Recount, compare
from firmtrail.simulate.steering import SteeredDevice
from firmtrail.simulate.visits import Simulation


class PlanRecount(Recount):
    """Derives also the phases of two rollouts with the same plan from the log alone: of one that
    pauses itself, and of one that continues."""

    def __init__(
        self,
        devices: list[SteeredDevice],
        rollouts: tuple[str, str],
        phases: Sequence[ModelPhase],
    ) -> None:
        super().__init__(devices, rollouts)
        self.plans: dict[str, PlanModel] = {}
        self.mets: list[tuple[str, Met]] = []
        self.paused_in: int | None = None
        """The number of the phase, from 1, in which a rollout paused itself."""
        self._rollouts, self._phases = rollouts, phases

    @property
    def plan(self) -> PlanModel:
        """Returns the plan of the rollout that continues."""
        return self.plans[self._rollouts[1]]

    @override
    def take(self, position: int, entry: FetchedEntry) -> None:
        event, stream, now_ms = entry.type.split(".")[1], entry.subject, time_ms(entry.time)
        rollout, known = stream.removeprefix("rollout/"), len(self.outcomes)
        super().take(position, entry)
        if rollout in self._rollouts:
            if event == "RolloutStarted":
                self.plans[rollout] = PlanModel(rollout, self._phases, now_ms)
            self._take_order(position, event, rollout, entry)
        elif event == "UpdateOffered" and stream in self.histories:
            self.plans[entry.data["rollout"]].add_offer(stream.removeprefix("device/"), now_ms)
        for _, of, device, result in self.outcomes[known:]:
            self.plans[of].add_outcome(position, device, result, now_ms)

    def _take_order(self, position: int, event: str, rollout: str, entry: FetchedEntry) -> None:
        if event == "RolloutPaused":
            self.plans[rollout].move_to(time_ms(entry.time))
            self.paused_in = self.plans[rollout].phase + 1
        elif event == "RolloutPhaseMet":
            counts = (entry.data[name] for name in ("phase", "installed", "failed"))
            self.mets.append((rollout, Met(position, *counts)))


async def log(
    simulation: Simulation, rollouts: tuple[str, str], phases: Sequence[ModelPhase]
) -> PlanRecount:
    """Derives everything again from the log alone, and compares that with the model and with the
    phases that the service shows."""
    recount = PlanRecount(simulation.devices, rollouts, phases)
    async for position, entry in checks.entries(simulation.client, simulation.start):
        recount.take(position, entry)
    steered_checks.compare_outcomes(simulation, recount)
    steered_checks.compare_pause(simulation, recount, rollouts[0])
    _compare_plans(simulation, recount)
    await _compare_shown(simulation, recount.plan)
    return recount


def _compare_plans(simulation: Simulation, recount: PlanRecount) -> None:
    early = [each for plan in recount.plans.values() for each in plan.early]
    compare(simulation, "devices that were offered a version before their phase", early, [])
    expected = [(name, met) for name, plan in recount.plans.items() for met in plan.mets]
    compare(simulation, "conditions that were met", recount.mets, expected)
    compare(simulation, "the phase in which the bad release paused", recount.paused_in, 1)
    histories = [each.offer_history for each in simulation.devices]
    for name in recount.plans:
        again = attempts.counts(recount.histories.values(), name)
        compare(simulation, f"{name} in the log", again, attempts.counts(histories, name))


async def _shown_phases(simulation: Simulation) -> list[dict[str, Any]]:
    path = f"/rollouts/{simulation.orders.rollout}"
    phases: list[dict[str, Any]] = (await steered_checks.read(simulation.client, path))["phases"]
    return phases


async def shown_phase(simulation: Simulation) -> int:
    """Returns the index of the phase that the service shows as the current one."""
    shown = await _shown_phases(simulation)
    return [each["state"] for each in shown].index("current")


async def _compare_shown(simulation: Simulation, plan: PlanModel) -> None:
    shown = [(each["began_at"], each["reached_at"]) for each in await _shown_phases(simulation)]
    expected = [
        (time_text(began_ms), time_text(plan.mets_ms[n]) if n in plan.mets_ms else None)
        for n, began_ms in enumerate(plan.begins_ms)
    ]
    compare(simulation, "the times of the phases", shown, expected)


def ended(simulation: Simulation) -> dict[str, int]:
    """Returns how many devices ended on each version. Compares: a device that does not have the
    release of the last rollout has used up its attempts."""
    version = simulation.orders.version
    for each in simulation.devices:
        is_exhausted = each.offer_history.failed_attempts[version] >= MAX_ATTEMPTS
        compare(simulation, f"{each.device.name} has it", each.runs == version, not is_exhausted)
    return dict(sorted(Counter(each.runs for each in simulation.devices).items()))


def summary(plan: PlanModel, phase: int) -> str:
    """Returns in words when a phase began, and what became of the offers that were made in it."""
    began_s = (plan.begins_ms[phase] - plan.begins_ms[0]) / 1000
    installed, failed = plan.outcomes[phase, "installed"], plan.outcomes[phase, "failed"]
    return (
        f"began after {began_s:.1f} s; {plan.offers[phase]} offers, "
        f"{installed} installed, {failed} failed"
    )
