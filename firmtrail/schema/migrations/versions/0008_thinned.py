"""Lets checkpoints be thinned out that a later one of the same 256 events covers."""

from firmtrail.schema.migrations import steps

revision = "0008"
down_revision = "0007"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

SHARED: tuple[str, ...] = ()
"""SQL files for both back ends."""
OWN: tuple[str, ...] = ("0008_thinned",)
"""SQL files that each back end has its own version of."""
SERVICE_GRANTS: tuple[tuple[str, str], ...] = ()
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = ()


def upgrade() -> None:
    steps.run(SHARED, OWN)
