"""Folds one commit into the views of rollouts, offers and questions, as a part of `fold.Fold`.

The caller first loads the project's `Control`, the recent outcomes of rollouts that may pause
themselves, the offers of the named devices, and the questions that reports answer. A project
without a release has never offered anything, so it has no offers to load.
"""

from collections.abc import Mapping, Sequence

from firmtrail.database.database import Statement
from firmtrail.events.event import Recorded
from firmtrail.events.fleet import REPORTS
from firmtrail.events.steering import (
    Asked,
    AttemptsCleared,
    DeviceFellSilent,
    OfferEnded,
    RolloutPaused,
    RolloutPhaseMet,
    RolloutResumed,
    UpdateOffered,
)
from firmtrail.projections import device_asks, device_offers, rollouts
from firmtrail.projections.device_asks import Asks
from firmtrail.projections.device_offers import DeviceOffers
from firmtrail.rules import ask, control, device, offer, rollout
from firmtrail.rules.control import Control
from firmtrail.rules.device import MOVING, DeviceState, LaterReport, Placed
from firmtrail.rules.offer import Offer
from firmtrail.rules.rollout import PlanTime, Recent, RolloutState
from firmtrail.rules.rollout_decisions import decide_own_pause, decide_phase_met

_NONE: DeviceOffers = {}


class SteeringFold:
    """Takes the `Control`, the offers and the questions from before a commit to after it."""

    def __init__(self) -> None:
        self.control = Control()
        self.recent: dict[str, Recent] = {}
        self.offers: dict[str, DeviceOffers] = {}
        self.asks: Asks = {}
        self.outcomes: set[str] = set()
        """Rollouts whose recent outcomes changed since `own_pauses` last looked at them."""
        self._rollouts: set[str] = set()
        self._offers: dict[tuple[str, str, str], Offer] = {}
        self._cells: dict[device_offers.RolloutCell, int] = {}
        self._recalled: dict[str, int] = {}
        self._asks: set[tuple[str, str]] = set()

    def apply_control(self, recorded: Recorded) -> None:
        self.control = control.evolve(self.control, recorded)
        kind, _, name = recorded.stream.partition("/")
        if kind == "rollout":
            self._rollouts.add(name)
            if isinstance(recorded.event, RolloutResumed):
                recent = self.recent.get(name, Recent())
                self.recent[name] = recent._replace(installed=0, failed=0)

    def apply_to_device(self, state: DeviceState, recorded: Recorded) -> DeviceState | None:
        """Folds an offer, its end, a retry, a silence or a question of a device; returns the device
        after it. Returns None for any other event."""
        event, offers = recorded.event, self.offers.get(state.device, _NONE)
        now_ms = recorded.recorded_at_ms
        match event:
            case UpdateOffered(version):
                self._save(state, offer.offered(offers.values(), state, recorded), now_ms)
                return device.evolve_ordered(state, version)
            case AttemptsCleared(version):
                self._save(state, offer.cleared(offers.values(), state, event), now_ms)
                return device.evolve_ordered(state, version)
            case DeviceFellSilent():
                silenced = offer.silenced(offers.values(), event, recorded.position)
                self._save(state, silenced, now_ms)
                return state
            case OfferEnded():
                self._save(state, offer.ended(offers.values(), event), now_ms)
                return state
            case Asked(question):
                asked = ask.asked(state.device, recorded, state.last_place)
                self.asks[state.device, question] = asked
                self._asks.add((state.device, question))
                return state
        return None

    def offers_of(self, state: DeviceState) -> list[Offer]:
        """Returns the offers of the device that count for its present model."""
        return offer.of_model(self.offers.get(state.device, _NONE).values(), state.model)

    def is_resumed(self, state: DeviceState, version: str) -> bool:
        """Returns whether a rollout that offered the device this version was resumed after the
        device's last report."""
        recorded_position = state.recorded_position or 0
        rollouts_of = (
            self.control.rollouts.get(made.source)
            for made in self.offers_of(state)
            if made.version == version
        )
        return any(found and found.resumed_position > recorded_position for found in rollouts_of)

    def apply_report(
        self, state: DeviceState, recorded: Recorded, at: Placed, later: LaterReport | None
    ) -> offer.Follows | None:
        """Folds a report of a device; returns the offers that its version follows."""
        event, offers = recorded.event, self.offers_of(state)
        assert isinstance(event, REPORTS)
        self._save(state, offer.reported(offers, event, at, later), recorded.recorded_at_ms)
        return offer.followed(offers, event.version, at) if event.status in MOVING else None

    def apply_answer(self, name: str, recorded: Recorded, at: Placed) -> None:
        """Folds a report that names a question; it answers the question if that is open."""
        event = recorded.event
        assert isinstance(event, REPORTS)
        if event.question is None or not ask.answers(event.status):
            return
        asked = self.asks.get((name, event.question))
        if ask.is_answered_by(asked, at.place, recorded.recorded_at_ms):
            assert asked is not None
            self.asks[name, event.question] = ask.answered(asked, recorded)
            self._asks.add((name, event.question))

    def apply_attributes(self, before: DeviceState | None, after: DeviceState, now_ms: int) -> None:
        """Folds a change of a device's attributes: its outcomes count only for rollouts that are
        meant for it."""
        offers = self.offers.get(after.device, _NONE).values()
        for source in dict.fromkeys(each.source for each in offers):
            self._move(self._cell(before, source), self._cell(after, source))
        self.apply_run(before, after)
        for each in offers:
            found = self.control.rollouts.get(each.source)
            if found is None:
                continue
            change = rollout.counts(found, after) - rollout.counts(found, before)
            if found.watches:
                self._add(found, _recent(each, found), change)
            if found.has_conditions:
                self._add_to_phase(found, [(each, change)], now_ms)

    def apply_run(self, before: DeviceState | None, after: DeviceState) -> None:
        """Folds a change of what a device runs, or of its attributes: rollbacks count the devices
        that they sent away from the bad version."""
        sources = {each.source for each in self.offers.get(after.device, _NONE).values()}
        for source in sources:
            self._add_recalled(source, after, was=self._is_recalled(before, source))

    def _is_recalled(self, device: DeviceState | None, source: str) -> bool:
        """Returns whether a rollback counts the device, which has an offer of it, as one that does
        not run the bad version."""
        found = self.control.rollouts.get(source)
        if found is None or device is None or not found.is_rollback:
            return False
        return rollout.counts(found, device) and device.version != found.bad_version

    def _add_recalled(self, source: str, after: DeviceState | None, *, was: bool) -> None:
        change = self._is_recalled(after, source) - was
        if change:
            self._recalled[source] = self._recalled.get(source, 0) + change

    def _cell(self, device: DeviceState | None, source: str) -> device_offers.RolloutCell | None:
        """Returns the cell that counts the device, if the source is a rollout meant for it."""
        found = self.control.rollouts.get(source)
        if found is None or device is None or not rollout.counts(found, device):
            return None
        offers = self.offers.get(device.device, _NONE).values()
        return device_offers.cell_of(offer.latest(each for each in offers if each.source == source))

    def _move(
        self, left: device_offers.RolloutCell | None, entered: device_offers.RolloutCell | None
    ) -> None:
        if left == entered:
            return
        for cell, change in ((left, -1), (entered, 1)):
            if cell is not None:
                self._cells[cell] = self._cells.get(cell, 0) + change

    def _save(self, device: DeviceState | None, changed: list[Offer], now_ms: int) -> None:
        left = {after.source: self._cell(device, after.source) for after in changed}
        known = {source for each in changed for source, _ in self.offers.get(each.device, _NONE)}
        for after in changed:
            offers = self.offers.setdefault(after.device, {})
            self._count(device, (offers.get(after.key), after), now_ms)
            offers[after.key] = self._offers[after.device, *after.key] = after
        for source, cell in left.items():
            self._move(cell, self._cell(device, source))
            if source not in known:
                self._add_recalled(source, device, was=False)  # it had no offer

    def _count(
        self, device: DeviceState | None, change: tuple[Offer | None, Offer], now_ms: int
    ) -> None:
        """Updates the outcomes of a rollout that may pause, or whose phase may end, over a new
        one. `change` has the offer before and after it."""
        before, after = change
        found = self.control.rollouts.get(after.source)
        outcome_before = before.outcome_position if before else -1
        if found is None or after.outcome_position == outcome_before:
            return
        if not rollout.counts(found, device):
            return
        if found.watches:
            self._add(found, _recent(before, found), -1)
            self._add(found, _recent(after, found), 1)
        if found.has_conditions:
            self._add_to_phase(found, [(before, -1), (after, 1)], now_ms)

    def _add(self, found: RolloutState, outcome: offer.OfferOutcome | None, change: int) -> None:
        if outcome is None or not change:
            return
        counts = self.recent.get(found.id, Recent())
        self.recent[found.id] = counts._replace(**{outcome: getattr(counts, outcome) + change})
        self._note(found)

    def _add_to_phase(
        self, found: RolloutState, changes: Sequence[tuple[Offer | None, int]], now_ms: int
    ) -> None:
        """Updates the outcomes of the offers that were made in the present phase."""
        clock = rollout.clock_at(found, PlanTime(now_ms, self.control.halts))
        if clock is None:
            return
        for made, change in changes:
            if made and not made.is_pending and made.offered_at_ms >= clock.began_at_ms and change:
                counts = self.recent.get(found.id, Recent()).in_phase(clock.phase)
                member = f"phase_{made.outcome}"
                self.recent[found.id] = counts._replace(
                    **{member: getattr(counts, member) + change}
                )
                self._note(found)

    def _note(self, found: RolloutState) -> None:
        self.outcomes.add(found.id)
        self._rollouts.add(found.id)

    def own_orders(self, now_ms: int) -> list[tuple[str, RolloutPaused | RolloutPhaseMet]]:
        """Returns the events, by stream, of rollouts that pause, and of those whose phase has met
        its condition, over the events folded since the last call. One report may do both."""
        orders: list[tuple[str, RolloutPaused | RolloutPhaseMet]] = []
        at = PlanTime(now_ms, self.control.halts)
        while self.outcomes:
            name = self.outcomes.pop()
            found, counts = self.control.rollouts[name], self.recent.get(name, Recent())
            decided = (
                decide_own_pause(found, counts),
                decide_phase_met(found, counts, at),
            )
            orders += [(rollout.stream(name), order) for order in decided if order is not None]
        return sorted(orders, key=lambda order: order[0])

    def statements(self, log_id: int, generations: Mapping[str, int]) -> list[Statement]:
        """Returns the statements that take these views from before the commit to after it."""
        statements: list[Statement] = []
        if self._rollouts and (generation := generations.get(rollouts.NAME)) is not None:
            changed = [self.control.rollouts[name] for name in self._rollouts]
            statements.append(rollouts.save(log_id, generation, changed, self.recent))
        if self._offers and (generation := generations.get(device_offers.NAME)) is not None:
            statements.append(device_offers.save(log_id, generation, self._offers.values()))
        if self._cells and (generation := generations.get(device_offers.NAME)) is not None:
            statements.append(device_offers.count(log_id, generation, self._cells))
        if self._recalled and (generation := generations.get(device_offers.NAME)) is not None:
            statements.append(device_offers.count_recalled(log_id, generation, self._recalled))
        if self._asks and (generation := generations.get(device_asks.NAME)) is not None:
            asks = [self.asks[key] for key in self._asks]
            statements.append(device_asks.save(log_id, generation, asks))
        return statements


def _recent(made: Offer | None, of: RolloutState) -> offer.OfferOutcome | None:
    """Returns the offer's outcome, unless it is from before the rollout's last resume."""
    return made.outcome if made and made.outcome_position > of.resumed_position else None
