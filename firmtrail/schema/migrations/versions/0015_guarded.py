"""Refuses identities that no append adds, on PostgreSQL."""

from firmtrail.schema.migrations import steps

revision = "0015"
down_revision = "0014"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

POSTGRES: tuple[str, ...] = ("0015_guarded",)
"""SQL files that only Postgres has."""
SERVICE_GRANTS: tuple[tuple[str, str], ...] = ()
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = ()


def upgrade() -> None:
    steps.run((), postgres=POSTGRES)
