"""Lets stubs replace the texts of archived entries, and keeps how far each log is pruned."""

from firmtrail.schema.migrations import steps

revision = "0016"
down_revision = "0015"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema. The first pruning
of a database raises it to this revision (`archive.pruned`)."""

SHARED: tuple[str, ...] = ("0016_pruned",)
"""SQL files for both back ends."""
OWN: tuple[str, ...] = ("0016_pruned",)
"""SQL files that each back end has its own version of."""
SERVICE_GRANTS: tuple[tuple[str, str], ...] = (("SELECT", "pruned"),)
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = (("SELECT", "pruned"),)


def upgrade() -> None:
    steps.run(SHARED, OWN)
