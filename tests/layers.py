"""Holds the table of rooms, and the modules and imports of the source, for tests and docs."""

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "firmtrail"


# A module or folder of firmtrail -> the rows that it imports. A row names only earlier rows.
# A module belongs to the longest row that its name begins with.
LAYERS = {
    "__init__": "",
    "config": "",
    "environment": "",
    "events": "",
    "exits": "",
    "repeats": "",
    "rules": "events",
    "database": "environment repeats",
    "eventstore": "database",
    "artifacts": "config database",
    "followers": "",
    "publishing": "database events eventstore followers",
    "schema": "database eventstore publishing",
    "access": "database events eventstore rules",
    "projections": "database events eventstore rules",
    "recording": "database events eventstore projections publishing rules",
    "rebuilding": "database events eventstore projections publishing rules",
    "webhooks": (
        "access config __version__ database events eventstore followers projections publishing "
        "recording repeats rules"
    ),
    "commands": (
        "access database events eventstore projections publishing rebuilding recording rules "
        "webhooks"
    ),
    "audit": "database events eventstore projections publishing rebuilding recording schema",
    "moving": (
        "access audit commands database events eventstore projections publishing rebuilding "
        "recording"
    ),
    "archive": "audit config database eventstore followers publishing schema",
    "http": (
        "__version__ access archive artifacts commands config database events eventstore followers "
        "projections publishing rebuilding recording repeats rules schema webhooks"
    ),
    **dict.fromkeys(
        ("protocols.hawkbit", "protocols.memfault", "protocols.mender", "protocols.plain"),
        "access artifacts commands config database events eventstore http projections recording "
        "rules",
    ),
    "protocols": ("http protocols.hawkbit protocols.memfault protocols.mender protocols.plain"),
    "console": (
        "access artifacts commands config database events eventstore http projections publishing "
        "rebuilding recording rules webhooks"
    ),
    "http.api": (
        "__version__ access artifacts commands database events eventstore http projections "
        "publishing rebuilding recording repeats rules webhooks"
    ),
    "application": (
        "access artifacts commands config console database followers http http.api projections "
        "protocols publishing rebuilding recording webhooks"
    ),
    "simulate": "events exits",
    "cli": (
        "access application archive artifacts audit commands config database environment exits "
        "eventstore http moving projections publishing recording repeats rules schema simulate "
        "webhooks"
    ),
    "main": "__version__ cli config database environment exits",
    "__main__": "main",
}


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Parses the source: a module -> its tree."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_bytes())
        for path in sorted(PACKAGE.rglob("*.py"))
    }
