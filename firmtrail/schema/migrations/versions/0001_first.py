"""Creates the log, its views, and the tables of access."""

from alembic import op

from firmtrail.schema.migrations import statements

revision = "0001"
down_revision = None


def upgrade() -> None:
    back_end = op.get_context().dialect.name
    for name in ("0001_log", "0001_access", f"0001_own.{back_end}"):
        for statement in statements(name, back_end):
            op.execute(statement)
