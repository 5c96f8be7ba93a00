"""What makes the log one that others can check."""

from alembic import op

from firmtrail.eventstore.migrations import statements, subtrees

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    back_end = op.get_context().dialect.name
    for name in ("0002_subtrees", f"0002_subtrees.{back_end}"):
        for statement in statements(name, back_end):
            op.execute(statement)
    subtrees.fill(op.get_bind())
