"""Runs the migrations for alembic, on the connection that `migrate` opened.

On Postgres each revision is one transaction. It is short, so that servers write meanwhile, and it
is committed, so that a migration that was killed continues after it.
"""

from typing import Any

from alembic import context

from firmtrail.schema.migrations import steps


def _state_compatibility(**given: Any) -> None:
    """Stores, in the transaction of the revision, which code may use the new schema."""
    [revision] = given["step"].up_revisions
    compatible_from = getattr(revision.module, "compatible_from", None)
    if compatible_from is not None:
        connection = context.get_context().connection
        assert connection is not None
        steps.keep_older_code_away(connection, compatible_from)


context.configure(
    connection=context.config.attributes["connection"],
    transaction_per_migration=True,
    on_version_apply=_state_compatibility,  # type: ignore[arg-type] # alembic calls it by keywords
)
with context.begin_transaction():
    context.run_migrations()
