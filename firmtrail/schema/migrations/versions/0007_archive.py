"""Adds how far each log is archived."""

from firmtrail.schema.migrations import steps

revision = "0007"
down_revision = "0006"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

SHARED: tuple[str, ...] = ("0007_archives",)
"""SQL files for both back ends."""
OWN: tuple[str, ...] = ()
"""SQL files that each back end has its own version of."""
SERVICE_GRANTS: tuple[tuple[str, str], ...] = (("SELECT, INSERT, UPDATE", "archives"),)
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = (("SELECT", "archives"),)


def upgrade() -> None:
    steps.run(SHARED, OWN)
