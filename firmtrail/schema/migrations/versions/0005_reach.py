"""Adds what devices of other protocols, enrolment and the web pages need."""

from firmtrail.schema.migrations import steps

revision = "0005"
down_revision = "0004"

compatible_from = "0005"
"""Code whose HEAD is this revision or a later one may read and write the schema."""

SHARED: tuple[str, ...] = (
    "0005_pages",
    "0005_plans",
    "0005_enrolment",
    "0005_artifacts",
    "0005_sessions",
    "0005_attributes",
    "0005_offers",
)
"""SQL files for both back ends."""
OWN: tuple[str, ...] = ("0005_artifacts",)
"""SQL files that each back end has its own version of."""
SERVICE_GRANTS: tuple[tuple[str, str], ...] = (
    ("SELECT", "audited_registrars"),
    ("SELECT, INSERT, UPDATE, DELETE", "artifact_uploads"),
    ("SELECT, INSERT, UPDATE, DELETE", "reported_attributes, attribute_pairs"),
)
AUDITOR_GRANTS: tuple[tuple[str, str], ...] = (("SELECT", "audited_registrars"),)


def upgrade() -> None:
    steps.run(SHARED, OWN)
