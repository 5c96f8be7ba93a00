"""Adds the tables that let others verify the log."""

from alembic import op

from firmtrail.schema.migrations import statements, subtrees

revision = "0002"
down_revision = "0001"

TABLES = ("subtrees", "checkpoints", "rebuilds", "access_record")
OWN = ("subtrees", "checkpoints")
"""Tables for which each back end has its own triggers."""


def upgrade() -> None:
    back_end = op.get_context().dialect.name
    names = [f"0002_{name}" for name in TABLES] + [f"0002_{name}.{back_end}" for name in OWN]
    for name in names:
        for statement in statements(name, back_end):
            op.execute(statement)
    subtrees.fill(op.get_bind())
