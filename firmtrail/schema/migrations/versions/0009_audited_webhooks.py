"""Lets an audit compare webhooks with the log."""

from firmtrail.schema.migrations import steps

revision = "0009"
down_revision = "0008"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

SHARED: tuple[str, ...] = ()
"""SQL files for both back ends."""
OWN: tuple[str, ...] = ("0009_audited_webhooks",)
"""SQL files that each back end has its own version of."""
SERVICE_GRANTS: tuple[tuple[str, str], ...] = (("SELECT", "audited_webhooks"),)
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = (("SELECT", "audited_webhooks"),)


def upgrade() -> None:
    steps.run(SHARED, OWN)
