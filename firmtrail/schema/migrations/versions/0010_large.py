"""Lets PostgreSQL vacuum and freeze large tables in pieces."""

from alembic import op

from firmtrail.schema.migrations import statements

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
    back_end = op.get_context().dialect.name
    own = POSTGRES if back_end == "postgresql" else ()
    for name in (*SHARED, *(f"{each}.{back_end}" for each in own)):
        for statement in statements(name, back_end):
            op.execute(statement)
