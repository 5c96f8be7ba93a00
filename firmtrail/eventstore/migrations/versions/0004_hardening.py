"""What decides access is audited, and late reports are judged in the device's own order."""

from alembic import op

from firmtrail.eventstore.migrations import statements

revision = "0004"
down_revision = "0003"

SHARED: tuple[str, ...] = ("0004_answers_rollouts",)
"""SQL files for both back ends."""
OWN: tuple[str, ...] = ()
"""SQL files that each back end has its own version of."""


def upgrade() -> None:
    back_end = op.get_context().dialect.name
    for name in (*SHARED, *(f"{own}.{back_end}" for own in OWN)):
        for statement in statements(name, back_end):
            op.execute(statement)
