"""An auditor checks a database next to a running server, a log over HTTP, and a copy of it."""

import shutil
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmtrail.publishing.checkpoint import key_line, verifier
from tests.end_to_end.audits import (
    COULD_NOT_RUN,
    FOUND_WRONG,
    WELL,
    audit,
    static_server,
    well,
)
from tests.end_to_end.command import firmtrail
from tests.end_to_end.conftest import Serve

BOSS = "boss@example.org"
OTHER_KEY = key_line(verifier("firmtrail/other/1", Ed25519PrivateKey.generate().public_key()))


@pytest.fixture
def database(sqlite_url: str, files: Path) -> str:
    """A filled database; its key and checkpoints are next to it, where `serve` puts them."""
    return sqlite_url


def post_reports(url: str, token: str, count: int) -> None:
    body = msgspec.json.encode(
        [
            {"device": f"d{2 + n % 4}", "version": "3.0.0", "report_id": f"e2e-{n}"}
            for n in range(count)
        ]
    )
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/v1/projects/acme/reports", body, headers)  # noqa: S310 (our own)
    with urllib.request.urlopen(request) as response:  # noqa: S310 (our own)
        assert response.status == 201


def test_an_audit_of_a_running_service(database: str, serve: Serve, tmp_path: Path) -> None:
    key, copy, seen = tmp_path / "copy" / "key", tmp_path / "copy", tmp_path / "seen"
    server = serve(database)
    process = firmtrail(database, "audit", "verify", "--project", "acme", "--save", str(seen))
    assert (process.exit_code, "All is well." in process.out) == (WELL, True), process.said
    well(audit(database, "replay", "--project", "acme"))
    well(audit(database, "export", "--project", "acme", copy))
    token = firmtrail(database, "token", "create", BOSS, "--project", "acme").out.strip()
    log = f"{server.url}/api/v1/projects/acme/log"
    with_password = log.replace("http://", f"http://auditor:{token}@")
    well(audit("sqlite:///none", "verify", "--url", with_password, "--key", key))
    other = audit("sqlite:///none", "verify", "--url", with_password, "--key", OTHER_KEY)
    assert other.out.startswith(f"{log}: checkpoint: none of the keys is for firmtrail/acme/2")
    assert audit("sqlite:///none", "verify", "--url", log, "--key", key).exit_code == COULD_NOT_RUN
    post_reports(server.url, token, 600)
    assert firmtrail(database, "doctor").exit_code == WELL
    at_home = tmp_path / "home"
    options = ("--url", log, "--token", token, "--key", key)
    well(audit("sqlite:///none", "export", *options, at_home))
    well(audit("sqlite:///none", "verify", *options, "--from", seen))
    well(audit("sqlite:///none", "verify", at_home, "--key", key, "--from", seen))
    well(audit(database, "verify", "--project", "acme", "--from", seen))
    well(audit(database, "export", "--project", "acme", copy))
    well(audit("sqlite:///none", "verify", copy))
    with static_server(copy) as url:
        well(audit("sqlite:///none", "verify", "--url", f"{url}/logs/2", "--key", key))
        well(audit("sqlite:///none", "verify", "--url", url, "--key", key))


def test_an_audit_names_each_change_and_its_place(database: str, tmp_path: Path) -> None:
    path = Path(database.removeprefix("sqlite:///"))
    well(audit(database, "export", "--project", "acme", tmp_path / "copy"))
    shutil.copy(path, tmp_path / "before.db")
    with closing(sqlite3.connect(path)) as changed, changed:
        changed.execute("DROP TRIGGER events_no_update")
        changed.execute("UPDATE events SET event_id = 'r.x' WHERE log_id = 1 AND position = 77")
        changed.execute("UPDATE device_current SET version = '9.9.9' WHERE device = 'd4'")
    found = audit(database, "verify", "--project", "acme", "--json")
    assert found.exit_code == FOUND_WRONG
    [finding] = found.json["findings"]
    assert (finding["log"], finding["where"]) == ("firmtrail/acme/1", "position 77")
    replayed = audit(database, "replay", "--project", "acme")
    assert replayed.exit_code == FOUND_WRONG
    assert "device_current (device d4)" in replayed.out
    old = tmp_path / "copy" / "logs" / "1"
    found = audit("sqlite:///none", "verify", tmp_path / "copy", "--key", OTHER_KEY)
    assert found.exit_code == FOUND_WRONG
    assert f"{old}: checkpoint: none of the keys is for firmtrail/acme/1" in found.out
    entries = old / "tile" / "entries" / "000"
    entries.write_bytes(entries.read_bytes().replace(b"1.1.0", b"1.1.9", 1))
    found = audit("sqlite:///none", "verify", tmp_path / "copy")
    assert (found.exit_code, "position" in found.out) == (FOUND_WRONG, True)


UNREADABLE = (
    ("verify",),
    ("verify", "--project", "acme", "--url", "http://127.0.0.1:9"),
    ("verify", "--project", "nobody"),
    ("verify", "--project", "acme", "--log", "9"),
    ("verify", "--project", "acme", "--key", "no key"),
    ("verify", "--url", "http://127.0.0.1:9"),
    ("verify", "/nowhere"),
    ("replay", "--project", "nobody"),
    ("export", "--project", "nobody", "/nowhere"),
    ("export", "--url", "http://127.0.0.1:9", "/nowhere"),
)


def test_an_audit_that_can_not_run_has_an_exit_code_of_its_own(database: str) -> None:
    for arguments in UNREADABLE:
        done = audit(database, *arguments)
        assert (done.exit_code, arguments) == (COULD_NOT_RUN, arguments), done.out
