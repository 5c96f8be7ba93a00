"""Adds what a service in production needs around its logs."""

from firmtrail.schema.migrations import steps

revision = "0006"
down_revision = "0005"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

SHARED: tuple[str, ...] = ("0006_webhooks", "0006_plans")
"""SQL files for both back ends."""
OWN: tuple[str, ...] = ()
"""SQL files that each back end has its own version of."""
SERVICE_GRANTS: tuple[tuple[str, str], ...] = (
    ("SELECT, INSERT, UPDATE, DELETE", "webhooks, webhook_deliveries, webhook_notices"),
)
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = ()


def upgrade() -> None:
    steps.run(SHARED, OWN)
