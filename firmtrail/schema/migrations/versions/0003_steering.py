"""Adds the tables that decide which version a device should run."""

from alembic import op

from firmtrail.schema.migrations import statements

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    back_end = op.get_context().dialect.name
    own = ("0003_own.postgresql",) if back_end == "postgresql" else ()
    for name in ("0003_releases", "0003_rollouts", *own):
        for statement in statements(name, back_end):
            op.execute(statement)
