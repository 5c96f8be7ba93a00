"""Runs `firmtrail doctor` for tests."""

from tests.end_to_end.command import firmtrail


def doctors(database: str, *options: str) -> dict[str, dict[str, str]]:
    rows = firmtrail(database, "doctor", "--json", *options).json
    return {row["check"]: row for row in rows}
