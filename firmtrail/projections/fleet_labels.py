"""Keeps how many devices of each cohort, and of each tag, run each version now.

It is a table of the view `fleet_versions`. A cell is a (label, model, version); a device is in one
cell for its cohort and in one for each of its tags, and a device without labels is in none. A
change of a version therefore writes at most two rows for each label, and a commit writes each cell
once, however many of its devices left or entered it.
"""

from collections.abc import Mapping
from operator import attrgetter

from firmtrail.database.database import Given, Reader, Statement
from firmtrail.projections import view
from firmtrail.projections.fleet_versions import LABELS, NAME, VersionCount, cell_of
from firmtrail.projections.view import generation_of
from firmtrail.rules.device import DeviceState

type LabelCell = tuple[str, str, str]
"""(label, model, version); '' stands for a missing model or version."""
type LabelChanges = dict[LabelCell, int]

_labelled = attrgetter("model", "cohort", "tags", "decommissioned")

_COUNT = f"""\
{view.insert(LABELS)}
ON CONFLICT (log_id, generation, label, model, version) DO UPDATE
SET devices = fleet_labels.devices + excluded.devices"""

_COLUMNS = view.typed(LABELS.columns)

_OF_LABEL = f"""\
SELECT cell.model, cell.version, cell.devices
FROM fleet_labels AS cell
WHERE cell.log_id = $1
    AND cell.generation = {generation_of(NAME)}
    AND cell.label = $2
    AND cell.devices > 0
ORDER BY cell.model, cell.version"""


def of_cohort(cohort: str) -> str:
    """Returns the label of the devices of a cohort; no name contains a slash."""
    return f"cohort/{cohort}"


def of_tag(tag: str) -> str:
    """Returns the label of the devices that have a tag."""
    return f"tag/{tag}"


def add_move(changes: LabelChanges, before: DeviceState | None, after: DeviceState) -> None:
    """Adds the cells that a device left and entered to the changes; a cell that it left and entered
    again stays among them, so that the rows do not depend on where commits end."""
    if before is not None:
        if not (before.cohort or before.tags or after.cohort or after.tags):
            return
        if before.version == after.version and _labelled(before) == _labelled(after):
            return
    left, entered = _cells_of(before), _cells_of(after)
    for cell in left - entered:
        changes[cell] = changes.get(cell, 0) - 1
    for cell in entered - left:
        changes[cell] = changes.get(cell, 0) + 1


def _cells_of(state: DeviceState | None) -> set[LabelCell]:
    if state is None or (state.cohort is None and not state.tags):
        return set()
    if (cell := cell_of(state)) is None:
        return set()
    labels = {of_tag(tag) for tag in state.tags}
    if state.cohort is not None:
        labels.add(of_cohort(state.cohort))
    return {(label, *cell) for label in labels}


def count(log_id: int, generation: int, changes: Mapping[LabelCell, int]) -> Statement:
    """Adds the change to each cell, including 0."""
    rows = [(*cell, devices) for cell, devices in sorted(changes.items())]
    return Statement(_COUNT, (log_id, generation), Given(_COLUMNS, rows))


async def counts(db: Reader, log_id: int, label: str) -> list[VersionCount]:
    """Returns how many devices with this label are of each model and version."""
    rows = await db.read(Statement(_OF_LABEL, (log_id, label)))
    return [
        VersionCount(model or None, version or None, devices) for model, version, devices in rows
    ]
