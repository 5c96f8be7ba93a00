"""Adds the tables that decide which version a device should run."""

from firmtrail.schema.migrations import steps

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    steps.run(("0003_releases", "0003_rollouts"), postgres=("0003_own",))
