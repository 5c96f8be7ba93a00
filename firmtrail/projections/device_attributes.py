"""The view of what was known of each device itself, after each event that changed it.

One row for each registration or change of attributes, which answers "as of": the last row of a
device before a position.
"""

from collections.abc import Sequence

from firmtrail.database.database import Given, Statement
from firmtrail.projections.view import Table
from firmtrail.rules.device import DeviceState

NAME = "device_attributes"
REVISION = 1
TABLES: tuple[Table, ...] = (Table(NAME, ("device", "position")),)

_INSERT = """\
INSERT INTO device_attributes (
    log_id, generation, device, position, model, cohort, tags, pinned, decommissioned)
SELECT
    $1, $2, given.device, given.position, given.model, given.cohort, given.tags, given.pinned,
    given.decommissioned
FROM given
WHERE TRUE"""

_COLUMNS = """\
device text, position bigint, model text, cohort text, tags text, pinned text, \
decommissioned bigint"""


def insert(log_id: int, generation: int, changes: Sequence[tuple[int, DeviceState]]) -> Statement:
    """One row for each (position, state that the event there left)."""
    rows = [
        (
            state.device,
            position,
            state.model,
            state.cohort,
            tags_text(state.tags),
            state.pinned,
            int(state.decommissioned),
        )
        for position, state in changes
    ]
    return Statement(_INSERT, (log_id, generation), Given(_COLUMNS, rows))


def tags_text(tags: Sequence[str]) -> str:
    """Tags as they are stored: "|a|b|", so that SQL finds one as "|a|" without an index."""
    return f"|{'|'.join(tags)}|" if tags else ""


def tags_of(text: str) -> tuple[str, ...]:
    return tuple(text.strip("|").split("|")) if text else ()
