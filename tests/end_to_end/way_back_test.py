"""A file that a newer version migrated is served again by this version, or refused in words."""

import signal
import sqlite3
from pathlib import Path

import pytest

from firmtrail.schema import migrations
from tests.end_to_end.command import Done, firmtrail
from tests.end_to_end.conftest import Serve

DONE, FOUND_WRONG, COULD_NOT_RUN = 0, 1, 2
ACME = ("--project", "acme")


def migrate_to_a_coming_schema(path: Path, compatible_from: str) -> None:
    """Leaves the file as the migration of a coming version does."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("ALTER TABLE device_current ADD COLUMN coming bigint")
        connection.execute("UPDATE alembic_version SET version_num = '9001'")
        connection.execute("UPDATE instance SET compatible_from = ?", (compatible_from,))
    connection.close()


def add_device(database: str, name: str) -> Done:
    return firmtrail(database, "device", "add", name, *ACME, "--model", "m")


@pytest.fixture
def path(serve: Serve, sqlite_url: str) -> Path:
    """Returns a file that this version created and served."""
    server = serve(sqlite_url)
    firmtrail(sqlite_url, "project", "add", "acme")
    assert add_device(sqlite_url, "d1").exit_code == DONE
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    return Path(sqlite_url.removeprefix("sqlite:///"))


def test_a_newer_schema_that_is_compatible_is_served_without_a_migration(
    path: Path, sqlite_url: str, serve: Serve
) -> None:
    migrate_to_a_coming_schema(path, migrations.HEAD)
    checks = {each["check"]: each for each in firmtrail(sqlite_url, "doctor", "--json").json}
    assert checks["schema"]["verdict"] == "ok"
    assert "can still read and write it" in checks["schema"]["found"]
    serve(sqlite_url)
    assert add_device(sqlite_url, "d2").exit_code == DONE
    listed = firmtrail(sqlite_url, "device", "list", *ACME, "--json").json
    assert [each["device"] for each in listed] == ["d1", "d2"]
    for audit in ("verify", "replay"):
        assert firmtrail(sqlite_url, "audit", audit, *ACME).exit_code == DONE


def test_a_newer_schema_that_is_not_compatible_is_refused_by_every_command(
    path: Path, sqlite_url: str, serve: Serve, tmp_path: Path
) -> None:
    backup = tmp_path / "before.db"
    assert firmtrail(sqlite_url, "backup", str(backup)).exit_code == DONE
    migrate_to_a_coming_schema(path, "9001")
    doctor = firmtrail(sqlite_url, "doctor")
    assert (doctor.exit_code, "run a newer version" in doctor.out) == (FOUND_WRONG, True)
    for command in (("serve", "--port", "0"), ("project", "list"), ("audit", "verify", *ACME)):
        refused = firmtrail(sqlite_url, *command)
        assert refused.exit_code == COULD_NOT_RUN, refused.said
        assert "by a newer version to the schema 9001" in refused.said
        assert "restore a backup from before" in refused.said
        assert "Traceback" not in refused.said
    for left in path.parent.glob(f"{path.name}-*"):
        left.unlink()
    backup.replace(path)
    serve(sqlite_url)
    assert add_device(sqlite_url, "d2").exit_code == DONE
