"""Keeps the view of each device's attributes, after each event that changed them.

It has one row for each registration or change of attributes. The last row of a device before a
position answers "as of" that position.
"""

from collections.abc import Sequence
from operator import attrgetter

from firmtrail.database.database import Given, Statement
from firmtrail.projections import view
from firmtrail.projections.view import Table, columns_of
from firmtrail.rules.device import DeviceState

ATTRIBUTES = columns_of("""
    model text, cohort text, tags tags, pinned text, decommissioned flag, pending flag,
    offered_key text""")
"""Everything known of a device but its reports, in the order of `DeviceState`. `device_current` has
the same columns; a new attribute is declared here alone."""

NAME = "device_attributes"
REVISION = 1
TABLE = Table(NAME, ("device", "position"), columns_of("device text, position bigint") | ATTRIBUTES)
TABLES: tuple[Table, ...] = (TABLE,)

_INSERT = view.insert(TABLE)
_COLUMNS = view.typed(TABLE.columns)

_attributes = view.encoder(ATTRIBUTES, attrgetter(*ATTRIBUTES))
registered = view.decoder(columns_of("device text") | ATTRIBUTES, DeviceState)
"""Decodes a device that has reported nothing, from its id and its attributes."""


def insert(log_id: int, generation: int, changes: Sequence[tuple[int, DeviceState]]) -> Statement:
    """Inserts one row for each (position, state that the event there left)."""
    rows = [(state.device, position, *_attributes(state)) for position, state in changes]
    return Statement(_INSERT, (log_id, generation), Given(_COLUMNS, rows))
