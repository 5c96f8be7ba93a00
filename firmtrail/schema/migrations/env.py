"""What alembic runs: the migrations, on the connection that `migrate` opened.

Each revision is a transaction of its own on Postgres: short, so that servers write meanwhile, and
done for good, so that a migration that was killed continues after it.
"""

from typing import Any

from alembic import context
from sqlalchemy import text


def _state_compatibility(**given: Any) -> None:
    """In the transaction of the revision: which code may read and write what it made."""
    [revision] = given["step"].up_revisions
    compatible_from = getattr(revision.module, "compatible_from", None)
    if compatible_from is not None:
        connection = context.get_context().connection
        assert connection is not None
        connection.execute(
            text("UPDATE instance SET compatible_from = :since"), {"since": compatible_from}
        )


context.configure(
    connection=context.config.attributes["connection"],
    transaction_per_migration=True,
    on_version_apply=_state_compatibility,  # type: ignore[arg-type] # it is called by keywords
)
with context.begin_transaction():
    context.run_migrations()
