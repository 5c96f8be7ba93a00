"""What the audit needs beside the log: views that are being built anew."""

from alembic import op

from firmtrail.eventstore.migrations import statements

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    back_end = op.get_context().dialect.name
    for name in ("0002_rebuilds",):
        for statement in statements(name, back_end):
            op.execute(statement)
