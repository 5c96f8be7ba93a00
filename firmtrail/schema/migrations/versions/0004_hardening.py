"""Makes access auditable, and lets late reports be judged in the device's own order."""

from alembic import op

from firmtrail.schema.migrations import access, steps

revision = "0004"
down_revision = "0003"

compatible_from = "0004"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

SHARED: tuple[str, ...] = (
    "0004_postgres_compatible",
    "0004_bodies_keys",
    "0004_net_reader_address",
    "0004_access_tokens",
    "0004_access_keys",
    "0004_answers_rollouts",
    "0004_rules_orders",
    "0004_process_clock",
    "0004_access_record",
    "0004_access_audited",
)
"""SQL files for both back ends."""
OWN: tuple[str, ...] = ("0004_bodies_keys",)
"""SQL files that each back end has its own version of."""
POSTGRES: tuple[str, ...] = ("0004_postgres_guard",)
"""SQL files that only Postgres has."""


def upgrade() -> None:
    steps.run(SHARED, OWN, POSTGRES)
    access.chain_records(op.get_bind())
    access.limit_tokens(op.get_bind())
