"""Creates the log, its views, and the tables of access."""

from firmtrail.schema.migrations import steps

revision = "0001"
down_revision = None


def upgrade() -> None:
    steps.run(("0001_log", "0001_access"), ("0001_own",))
