"""Checks what `firmtrail doctor` finds outside the tables, and how a clock's jump is accepted."""

import json
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from firmtrail.events.times import time_text
from tests.databases import sqlite_template
from tests.end_to_end.asking import DONE, ask
from tests.end_to_end.command import firmtrail, in_process, new_project
from tests.end_to_end.conftest import Serve
from tests.end_to_end.doctors import doctors


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "firmtrail.db"
    path.write_bytes(sqlite_template())
    return f"sqlite:///{path}"


def test_the_doctor_compares_published_checkpoints_with_the_logs(
    serve: Serve, database: str, tmp_path: Path
) -> None:
    file = Path(database.removeprefix("sqlite:///"))
    server = serve(database)
    assert in_process(database, "project", "add", "acme").exit_code == DONE
    server.send(signal.SIGTERM)
    assert server.exit_code() == DONE
    assert "holds those of 1 logs" in doctors(database)["checkpoints"]["found"]
    connection = sqlite3.connect(file)
    connection.execute("UPDATE log_heads SET size = 0")
    connection.commit()
    connection.close()
    found = doctors(database)["checkpoints"]
    assert (found["verdict"], "ends at 0" in found["found"]) == ("fail", True)
    file.with_name(f"{file.name}.checkpoints").write_text("no checkpoints")
    assert doctors(database)["checkpoints"]["verdict"] == "fail"
    file.with_name(f"{file.name}.key").write_text("no key")
    assert doctors(database)["signing key"]["verdict"] == "fail"
    file.parent.chmod(0o777)
    assert doctors(database)["folder"]["verdict"] == "warn"
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    assert doctors(database, "--artifacts", str(open_folder))["artifacts"]["verdict"] == "fail"


def test_writes_wait_for_a_clock_that_jumped_ahead_until_it_is_accepted(
    serve: Serve, database: str
) -> None:
    server = serve(database)
    token = new_project(database)
    server.send(signal.SIGTERM)
    server.exit_code()
    accept = ("log", "accept-clock", "--project", "acme")
    assert "not too far ahead" in in_process(database, *accept).said
    connection = sqlite3.connect(database.removeprefix("sqlite:///"))
    hour_ahead_ms = int(time.time() * 1000) + 3_600_000
    connection.execute("UPDATE log_heads SET recorded_at_ms = ?", (hour_ahead_ms,))
    connection.commit()
    connection.close()
    until = time_text(hour_ahead_ms - 300_000)
    assert until in doctors(database)["clock"]["found"]
    server.start()
    add = (f"{server.url}/api/v1/projects/acme/devices", token, {"device": "d1"})
    for status, body in (ask(*add), ask(f"{server.url}/readyz")):
        detail = json.loads(body)["detail"]
        assert (status, until in detail, "accept-clock" in detail) == (503, True, True), detail
    done = firmtrail(database, *accept)
    assert (done.exit_code, time_text(hour_ahead_ms) in done.said) == (DONE, True), done.said
    assert ask(*add)[0] == 201
    assert ask(f"{server.url}/readyz")[0] == 200
    assert doctors(database)["clock"]["verdict"] == "ok"
    assert in_process(database, "audit", "verify", "--project", "acme").exit_code == DONE
    assert in_process(database, "audit", "replay", "--project", "acme").exit_code == DONE
