"""Tests the service against its OpenAPI document with schemathesis."""

import subprocess
import sys
from pathlib import Path

import pytest

from firmtrail.http.api.rows import P
from firmtrail.protocols.hawkbit.caller import MOUNTS
from tests.databases import migrate_now
from tests.end_to_end.command import firmtrail
from tests.end_to_end.conftest import Serve
from tests.patience import PATIENCE_S
from tests.postgres_server import PostgresServer

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
PLACES = """\
[parameters]
"path.project" = "demo"
"path.device" = "1"
"path.position" = 0
"path.number" = "1"
"path.level" = "0"
"path.tile" = "000.p/3"
"path.model" = "m"
"path.version" = "1.0.0"
"path.name" = "full.bin"
"query.wait" = 0
"path.sha256" = "0000000000000000000000000000000000000000000000000000000000000000"
"""
"""Parameters that name existing things; without them, every path names an unknown project. And no
request waits for an answer that never comes."""

_, MOUNT = MOUNTS
AGAIN = rf"^{MOUNT}/"
"""The paths below which routes are served a second time, by the same functions."""
DOWNLOADS = r"/softwaremodules/\{module\}/artifacts/"
"""The downloads that break off where another request gets 429: clients take that for a failure."""

SECONDS_MAX = 300


@pytest.mark.timeout(SECONDS_MAX + 30)
def test_every_answer_on_sqlite_is_documented_and_none_is_a_bug(
    serve: Serve, tmp_path: Path
) -> None:
    check(f"sqlite:///{tmp_path / 'a.db'}", "examples,coverage,fuzzing", serve, tmp_path)


@pytest.mark.timeout(SECONDS_MAX + 30)
def test_every_answer_on_postgres_is_documented_and_none_is_a_bug(
    postgres: PostgresServer, serve: Serve, tmp_path: Path
) -> None:
    dsn = postgres.create_database("schemathesis")
    migrate_now(dsn)
    check(dsn, "fuzzing", serve, tmp_path)


def check(database: str, phases: str, serve: Serve, folder: Path) -> None:
    url = serve(database, "--demo").url
    member = ("diegosalcovsky@gmail.com", "--project", "demo", "--role", "admin")
    token = firmtrail(database, "token", "create", *member).out.strip()
    (folder / "schemathesis.toml").write_text(PLACES)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--header", f"Authorization: Bearer {token}", "--checks", ",".join(CHECKS)),
            *("--phases", phases, "--max-examples", "5", "--seed", "1"),
            *("--exclude-path", "/populate_database", "--continue-on-failure"),
            *("--exclude-path", f"{P}/stream"),  # it never ends
            *("--exclude-method", "HEAD"),  # answered as GET is: tests/service/routes_test.py
            *("--exclude-path-regex", f"{AGAIN}|{DOWNLOADS}"),  # of several, the last one counts
            *("--request-timeout", str(PATIENCE_S)),
            *("--suppress-health-check", "all", "--no-color"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Test cases:" in run.stdout
