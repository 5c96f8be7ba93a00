"""What decides access is audited, and late reports are judged in the device's own order."""

from alembic import op

from firmtrail.eventstore.migrations import statements

revision = "0004"
down_revision = "0003"

compatible_from = "0004"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

SHARED: tuple[str, ...] = ("0004_postgres_compatible",)
"""SQL files for both back ends."""
OWN: tuple[str, ...] = ()
"""SQL files that each back end has its own version of."""
POSTGRES: tuple[str, ...] = ("0004_postgres_guard",)
"""SQL files that only Postgres has."""


def upgrade() -> None:
    back_end = op.get_context().dialect.name
    own = (*OWN, *POSTGRES) if back_end == "postgresql" else OWN
    for name in (*SHARED, *(f"{each}.{back_end}" for each in own)):
        for statement in statements(name, back_end):
            op.execute(statement)
