"""Folds the events of one commit into the rows that it changes, so that a device named ten times in
the commit costs one row.

Live writing and rebuilding both use this fold, so a view can't depend on which of the two wrote it.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence

from firmtrail.database.database import Row, Statement
from firmtrail.events.event import Recorded
from firmtrail.events.fleet import REPORTS, DeviceSecretIssued
from firmtrail.projections import (
    device_asks,
    device_attributes,
    device_current,
    device_history,
    device_offers,
    fleet_labels,
    fleet_versions,
    history_lines,
    releases,
    rollouts,
)
from firmtrail.projections.steering_fold import SteeringFold
from firmtrail.projections.view import View
from firmtrail.rules import device, device_order, offer
from firmtrail.rules.device import DeviceState, LaterReport, Placed

VIEWS: tuple[View, ...] = (
    device_current,
    device_attributes,
    device_history,
    fleet_versions,
    releases,
    rollouts,
    device_offers,
    device_asks,
)
"""The views that this code writes."""

ORDERED: tuple[View, ...] = (
    device_current,
    device_history,
    fleet_versions,
    rollouts,
    device_offers,
    device_asks,
)
"""The views whose rows depend on the order of a device's reports."""

ORDER_REVISION = 0
"""Raise it with `device_order`, when the same reports get another order: every server then rebuilds
these views."""

REVISIONS = {
    view.NAME: view.REVISION + (ORDER_REVISION if view in ORDERED else 0) for view in VIEWS
}
"""The form of each view's rows."""

_START = """\
INSERT INTO views (log_id, name, revision, generation, position)
VALUES ($1, $2, $3, 1, 0)"""

_LIVE = """\
SELECT name, revision, generation
FROM views
WHERE log_id = $1
ORDER BY name
LIMIT 100"""


def start(log_id: int) -> list[Statement]:
    """Returns the statements that make the first generation of every view live, for a new log."""
    return [Statement(_START, (log_id, *view)) for view in REVISIONS.items()]


def live(log_id: int) -> Statement:
    """Reads (name, revision, generation) of each view's live generation."""
    return Statement(_LIVE, (log_id,))


class Fold:
    """Takes the devices that a commit names from the states before it to the states after it.

    The caller first loads the state of each named device, the rows that `SteeringFold` needs, and,
    where a report is not the last in its device's order, the reports after it.
    """

    def __init__(self) -> None:
        self.states: dict[str, DeviceState] = {}
        self.steering = SteeringFold()
        self._later: dict[str, list[LaterReport]] = {}
        self._changed: set[str] = set()
        self._attributes: list[tuple[int, DeviceState]] = []
        self._reports: list[device_history.FoldedReport] = []
        self._moves: list[fleet_versions.CellMove] = []
        self._labelled: fleet_labels.LabelChanges = {}
        self.release_events: list[Recorded] = []

    def continued(self) -> "Fold":
        """Returns a fold that continues where this one ends, once its statements have run."""
        after = Fold()
        after.states, after._later = self.states, self._later
        after.steering.control, after.steering.recent = self.steering.control, self.steering.recent
        after.steering.offers, after.steering.asks = self.steering.offers, self.steering.asks
        return after

    def add_later(self, places: Sequence[tuple[str, int]], rows: Iterable[Row]) -> None:
        """Adds the reports in the rows of `device_history.later(…, places)`."""
        for n, *later in rows:
            insort(self._later.setdefault(places[n][0], []), LaterReport(*later))

    def apply(self, recorded: Recorded) -> None:
        """Folds one event. The caller applies events in the order of their positions."""
        if recorded.event.IS_CONTROL:
            self.steering.apply_control(recorded)
        kind, _, name = recorded.stream.partition("/")
        if kind == "device":
            self._apply_to_device(name, recorded)
        elif kind == "release":
            self.release_events.append(recorded)

    def _apply_to_device(self, name: str, recorded: Recorded) -> None:
        before = self.states.get(name)
        if isinstance(recorded.event, REPORTS):
            assert before is not None, f"a report of {name}, which is not registered"
            after = self._apply_report(before, recorded)
        else:
            after = self._apply_to_attributes(before, name, recorded)
        if after is not before:
            self._keep(recorded.position, before, after)

    def _apply_to_attributes(
        self, before: DeviceState | None, name: str, recorded: Recorded
    ) -> DeviceState:
        if before is not None and (after := self.steering.apply_to_device(before, recorded)):
            return after
        after = device.evolve_attributes(before, name, recorded.event, recorded.recorded_at_ms)
        if after != before and not isinstance(recorded.event, DeviceSecretIssued):
            self.steering.apply_attributes(before, after, recorded.recorded_at_ms)
            self._attributes.append((recorded.position, after))
        return after

    def _apply_report(self, state: DeviceState, recorded: Recorded) -> DeviceState:
        event = recorded.event
        assert isinstance(event, REPORTS)
        offers = self.steering.offers_of(state) if self.steering.offers else []
        offer_place = offer.last_place(offers, event.version) if offers else -1
        at = device_order.placed(state, recorded, offer_place)
        moves = self._later.setdefault(state.device, [])
        later = _next(moves, at) if at.late else None
        if event.status in device.MOVING:
            insort(moves, LaterReport(at.place, at.position, event.version, at.time_ms))
        if event.question is not None:
            self.steering.apply_answer(state.device, recorded, at)
        follows = self.steering.apply_report(state, recorded, at, later) if offers else None
        self._reports.append((state, event, at, recorded.recorded_at_ms, follows))
        after = device.evolve_report(state, recorded, at, later)
        if offers and after.version != state.version:
            self.steering.apply_run(state, after)
        return after

    def _keep(self, position: int, before: DeviceState | None, after: DeviceState) -> None:
        self.states[after.device] = after
        self._changed.add(after.device)
        left, entered = fleet_versions.cell_of(before), fleet_versions.cell_of(after)
        if left != entered:
            self._moves.append(fleet_versions.CellMove(position, left, entered))
        fleet_labels.add_move(self._labelled, before, after)

    def statements(self, log_id: int, generations: Mapping[str, int]) -> list[Statement]:
        """Returns the statements that write the changes to those views that have a generation
        here."""
        statements: list[Statement] = []
        if self._changed and (generation := generations.get(device_current.NAME)) is not None:
            changed = [self.states[name] for name in self._changed]
            statements.append(device_current.save(log_id, generation, changed))
        if self._attributes and (generation := generations.get(device_attributes.NAME)) is not None:
            statements.append(device_attributes.insert(log_id, generation, self._attributes))
        if self._reports and (generation := generations.get(device_history.NAME)) is not None:
            statements.append(device_history.insert(log_id, generation, self._reports))
        if self._moves and (generation := generations.get(fleet_versions.NAME)) is not None:
            statements.extend(fleet_versions.apply(log_id, generation, self._moves))
        if self._labelled and (generation := generations.get(fleet_versions.NAME)) is not None:
            statements.append(fleet_labels.count(log_id, generation, self._labelled))
        if self.release_events and (generation := generations.get(releases.NAME)) is not None:
            statements.extend(releases.apply(log_id, generation, self.release_events))
        return [*statements, *self.steering.statements(log_id, generations)]


def _next(moves: Sequence[LaterReport], at: Placed) -> LaterReport | None:
    """Returns the first of these reports that comes after a late one. None comes after others."""
    index = bisect_right(moves, (at.place, history_lines.END))
    return moves[index] if index < len(moves) else None
