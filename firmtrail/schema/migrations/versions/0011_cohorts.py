"""Finds the devices of a cohort by an index."""

from firmtrail.schema.migrations import steps

revision = "0011"
down_revision = "0010"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

SHARED: tuple[str, ...] = ("0011_cohorts",)
"""SQL files for both back ends."""
OWN: tuple[str, ...] = ()
"""SQL files that each back end has its own version of."""
SERVICE_GRANTS: tuple[tuple[str, str], ...] = ()
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = ()


def upgrade() -> None:
    steps.run(SHARED, OWN)
