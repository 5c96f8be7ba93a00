"""Counts devices by cohort, tag and version, and the devices that left a recalled version."""

from firmtrail.schema.migrations import steps

revision = "0012"
down_revision = "0011"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

SHARED: tuple[str, ...] = ("0012_labels",)
"""SQL files for both back ends."""
OWN: tuple[str, ...] = ()
"""SQL files that each back end has its own version of."""
SERVICE_GRANTS: tuple[tuple[str, str], ...] = (
    ("SELECT, INSERT, UPDATE, DELETE", "fleet_labels, recalled_devices"),
)
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = (("SELECT", "fleet_labels, recalled_devices"),)


def upgrade() -> None:
    steps.run(SHARED, OWN)
