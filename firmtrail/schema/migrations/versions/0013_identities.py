"""Keeps the identities of events in a table, so that `events` can be divided on PostgreSQL."""

from firmtrail.schema.migrations import steps

revision = "0013"
down_revision = "0012"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

OWN: tuple[str, ...] = ("0013_identities",)
"""SQL files that each back end has its own version of."""
SERVICE_GRANTS: tuple[tuple[str, str], ...] = (
    ("SELECT", "identities, events_by_stream, event_partitions"),
)
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = (
    ("SELECT", "identities, events_by_stream, event_partitions"),
)


def upgrade() -> None:
    steps.run((), OWN)
