"""Adds the tables that let others verify the log."""

from alembic import op

from firmtrail.schema.migrations import steps, subtrees

revision = "0002"
down_revision = "0001"

TABLES = ("subtrees", "checkpoints", "rebuilds", "access_record")
OWN = ("subtrees", "checkpoints")
"""Tables for which each back end has its own triggers."""


def upgrade() -> None:
    steps.run([f"0002_{name}" for name in TABLES], [f"0002_{name}" for name in OWN])
    subtrees.fill(op.get_bind())
