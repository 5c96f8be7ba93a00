"""What makes the log one that others can check."""

from alembic import op

from firmtrail.eventstore.migrations import statements, subtrees

revision = "0002"
down_revision = "0001"

PARTS = ("subtrees", "checkpoints")


def upgrade() -> None:
    back_end = op.get_context().dialect.name
    for part in PARTS:
        for name in (f"0002_{part}", f"0002_{part}.{back_end}"):
            for statement in statements(name, back_end):
                op.execute(statement)
    subtrees.fill(op.get_bind())
