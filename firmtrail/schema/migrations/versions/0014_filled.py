"""Adds the identities of events that are older than their table, on PostgreSQL."""

from alembic import op

from firmtrail.schema.migrations import identities

revision = "0014"
down_revision = "0013"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

SERVICE_GRANTS: tuple[tuple[str, str], ...] = ()
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = ()


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        identities.fill()
