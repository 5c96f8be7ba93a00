"""Lets PostgreSQL vacuum and freeze large tables in pieces."""

from firmtrail.schema.migrations import steps

revision = "0010"
down_revision = "0009"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

SHARED: tuple[str, ...] = ()
"""SQL files for both back ends."""
POSTGRES: tuple[str, ...] = ("0010_large",)
"""SQL files that only Postgres has."""
SERVICE_GRANTS: tuple[tuple[str, str], ...] = ()
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = ()


def upgrade() -> None:
    steps.run(SHARED, postgres=POSTGRES)
