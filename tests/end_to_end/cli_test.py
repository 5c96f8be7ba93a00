"""Runs commands, each kind also as a process, with and without a server; checks exit codes."""

import contextlib
import json
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import migrate_now, sqlite_template
from tests.end_to_end.asking import COULD_NOT_RUN, DONE, FOUND_WRONG, SEED, ask
from tests.end_to_end.command import command_line, in_process, new_project
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import ENVIRONMENT
from tests.postgres_server import PostgresServer


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "firmtrail.db"
    path.write_bytes(sqlite_template())
    return f"sqlite:///{path}"


def test_help_lists_every_command_and_each_command_has_help() -> None:
    listed = command_line("sqlite:///x", "--help")
    assert listed.exit_code == DONE
    for name in (
        "serve",
        "migrate",
        "doctor",
        "rebuild",
        "project",
        "user",
        "log",
        "token",
        "backup",
        "audit",
        "device",
        "rollout",
        "rollback",
        "ask",
        "release",
        "simulate",
    ):
        assert f"\n  {name} " in listed.out
        assert in_process("sqlite:///x", name, "--help").exit_code == DONE


def test_an_option_may_come_from_the_environment(database: str) -> None:
    done = command_line(database, "doctor", FIRMTRAIL_DOCTOR_JSON="1")
    assert done.json[0]["check"] == "SQLite"


@pytest.mark.parametrize("url", ["", "file.db", "mysql://x/y", "sqlite://x", "sqlite:///:memory:"])
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    assert in_process(url, "doctor").exit_code == COULD_NOT_RUN


def test_a_server_creates_its_database_and_ends_with_0(serve: Serve, tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        server = serve(f"sqlite:///{tmp_path}/{number}.db")
        assert ask(f"{server.url}/readyz")[0] == 200
        socket = tmp_path / f"{number}.db.sock"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        server.send(number)
        assert server.exit_code() == DONE
        assert not socket.exists()


def test_only_one_server_serves_a_file(serve: Serve, database: str) -> None:
    serve(database)
    done = command_line(database, "serve", "--port", "0")
    assert done.exit_code == COULD_NOT_RUN
    assert "another process" in done.said


def test_the_next_server_starts_after_one_was_killed(serve: Serve, database: str) -> None:
    server = serve(database)
    server.kill()
    server.start()
    assert command_line(database, "project", "add", "acme").exit_code == DONE


def test_commands_do_the_same_with_a_server_and_without(serve: Serve, database: str) -> None:
    token = new_project(database)
    added = command_line(database, "device", "add", "before", "--project", "acme", "--model", "m1")
    server = serve(database)
    assert command_line(database, "device", "add", "after", "--project", "acme").exit_code == DONE
    path = f"{server.url}/api/v1/projects/acme/devices"
    found = json.loads(ask(path, token)[1])["items"]
    assert [(each["device"], each["model"]) for each in found] == [
        ("after", None),
        ("before", "m1"),
    ]
    report = f"{path}/before/reports"
    assert ask(report, added.out.strip(), {"version": "1.0.0"})[0] == 201
    events = ask(f"{server.url}/api/v1/projects/acme/events", token)[1].splitlines()
    assert [json.loads(line)["actor"] for line in events] == ["system"] * 5 + ["device/before"]


def test_a_password_is_read_from_standard_input(serve: Serve, database: str) -> None:
    new_project(database)
    server = serve(database)
    person = ("user", "add", "Ann@example.org", "--project", "acme", "--role", "viewer")
    assert in_process(database, *person, "--password-stdin").exit_code == COULD_NOT_RUN
    assert command_line(database, *person, "--password-stdin", stdin="pa ss\n").exit_code == DONE
    login = {"email": "ann@example.org", "password": "pa ss"}
    assert ask(f"{server.url}/api/v1/login", body=login)[0] == 200
    assert command_line(database, "user", "erase", "ann@example.org").exit_code == DONE
    assert ask(f"{server.url}/api/v1/login", body=login)[0] == 401


def test_routes_for_the_operator_do_not_exist_over_tcp(serve: Serve, database: str) -> None:
    token = new_project(database)
    server = serve(database)
    for path in ("erasures", "projects/acme/users", "projects/acme/tokens"):
        assert ask(f"{server.url}/local/{path}", token, {"email": "boss@example.org"})[0] == 404


@pytest.mark.parametrize(
    "arguments",
    [
        ("project", "add", "acme"),
        ("project", "add", "No Name"),
        ("user", "add", "x@example.org", "--project", "nowhere", "--role", "viewer"),
        ("user", "erase", "nobody@example.org"),
        ("token", "create", "nobody@example.org", "--project", "acme"),
        ("log", "continue", "--project", "acme"),
        ("log", "continue", "--project", "nowhere"),
        ("device", "add", "a b", "--project", "acme"),
        ("serve", "--demo", "--seed-api", "acme"),
        ("serve", "--tls-key", __file__),
        ("serve", "--instance", "other"),
        ("migrate", "--instance", "other"),
        ("migrate", "--service-role", "anyone"),
    ],
)
def test_a_refused_command_says_why(arguments: tuple[str, ...], refusing: str) -> None:
    done = in_process(refusing, *arguments)
    assert done.exit_code == COULD_NOT_RUN
    assert "Error: " in done.said
    assert "Traceback" not in done.said


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("refusing") / "firmtrail.db"
    path.write_bytes(sqlite_template())
    new_project(f"sqlite:///{path}")
    return f"sqlite:///{path}"


def test_a_command_creates_no_database(tmp_path: Path) -> None:
    done = in_process(f"sqlite:///{tmp_path}/none.db", "project", "add", "acme")
    assert done.exit_code == COULD_NOT_RUN
    assert list(tmp_path.iterdir()) == []


def test_an_import_names_the_lines_that_it_skips(database: str, tmp_path: Path) -> None:
    new_project(database)
    file = tmp_path / "fleet.csv"
    file.write_text(
        "device,model,cohort,secret,tags\n"
        "d1,m1,,,fast loud\n"
        "d 2,m1,,,\n"
        "d3,,,chosen-by-hand,\n"
        "d4,m1\n"
        "d1,m1,,,\n"
    )
    done = in_process(database, "device", "import", str(file), "--project", "acme")
    assert done.exit_code == FOUND_WRONG
    assert [line["device"] for line in done.lines] == ["d1"]
    assert [line.split(":")[0] for line in done.said.splitlines() if line.startswith("line")] == [
        *("line 5", "line 3", "line 6")
    ]


def test_an_interrupted_import_can_be_repeated(database: str, tmp_path: Path) -> None:
    new_project(database)
    file = tmp_path / "fleet.ndjson"
    file.write_text("".join(f'{{"device": "d{n}", "tags": ["t"]}}\n' for n in range(1500)))
    arguments = ("device", "import", str(file), "--project", "acme")
    first = command_line(database, *arguments)
    assert (first.exit_code, len(first.lines)) == (DONE, 1500)
    assert in_process(database, *arguments).exit_code == FOUND_WRONG
    again = in_process(database, *arguments, "--reissue-never-seen")
    assert again.exit_code == DONE
    assert {line["secret"] for line in again.lines}.isdisjoint(
        line["secret"] for line in first.lines
    )


def test_migrate_next_to_a_server_says_whether_it_is_needed(serve: Serve, database: str) -> None:
    serve(database)
    assert command_line(database, "migrate").exit_code == DONE
    other = in_process(database, "migrate", "--instance", "other")
    assert (other.exit_code, "not of other" in other.said) == (COULD_NOT_RUN, True)
    with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()
    old = in_process(database, "migrate")
    assert (old.exit_code, "stop that process" in old.said) == (COULD_NOT_RUN, True)
    assert "Traceback" not in old.said


def test_the_doctor_finds_no_fault_next_to_a_server(serve: Serve, database: str) -> None:
    serve(database)
    done = command_line(database, "doctor", "--json")
    assert done.exit_code == DONE
    found = {row["check"]: row["verdict"] for row in done.json}
    assert set(found) == {
        *("SQLite", "disk", "folder", "lock", "database", "schema", "instance", "clock"),
        *("append-only", "signing key", "checkpoints", "artifacts"),
        *("descriptors", "connections", "webhooks", "pruned", "Python"),
    }
    assert "fail" not in found.values()


@pytest.mark.parametrize(
    ("harm", "check"),
    [
        ("DROP TRIGGER events_no_update", "append-only"),
        ("UPDATE alembic_version SET version_num = '0'", "schema"),
        (
            "INSERT INTO log_heads (log_id, project, number, size, frontier, recorded_at_ms, "
            "control_count, nudge_count, closed) VALUES (9, 'x', 1, 0, '', 1 << 50, 0, 0, 0)",
            "clock",
        ),
    ],
)
def test_the_doctor_finds_a_fault(database: str, harm: str, check: str) -> None:
    connection = sqlite3.connect(database.removeprefix("sqlite:///"))
    connection.execute(harm)
    connection.commit()
    connection.close()
    done = in_process(database, "doctor", "--json")
    assert done.exit_code == FOUND_WRONG
    assert [row["check"] for row in done.json if row["verdict"] == "fail"] == [check]


def test_the_doctor_checks_postgres(postgres: PostgresServer) -> None:
    url = postgres.create_database("doctor")
    assert in_process(url, "doctor").exit_code == FOUND_WRONG
    migrate_now(url)
    found = {row["check"]: row["verdict"] for row in command_line(url, "doctor", "--json").json}
    assert found.pop("durability") == "fail"  # the tests' server turns it off for speed
    assert found.pop("role") == "warn"  # the tests connect as the owner
    assert [found.pop(name) for name in ("signing key", "artifacts")] == ["warn", "warn"]
    assert found.pop("Python") == "info"
    assert set(found.values()) == {"ok"}


def test_a_demo_answers_the_requests_of_the_seed(serve: Serve, database: str) -> None:
    server = serve(database, "--demo")
    good = {"device_id": 1, "secret": "AAA", "version": "SemVer1.1"}
    for body, answer in (
        (good, (200, b"Successfully updated firmware version")),
        (good, (200, b"Successfully updated firmware version")),
        (good | {"secret": "AAB"}, (401, b"Invalid Request")),
        (good | {"version": "SemVer11"}, (400, b"Version string formatting not valid")),
    ):
        assert ask(f"{server.url}/upload_firmware_update", body=body) == answer
    status, updates = ask(f"{server.url}/{SEED}&secret=ABC")
    assert status == 200
    assert [each["version"] for each in json.loads(updates)] == ["SemVer1.0", "SemVer1.1"]
    assert ask(f"{server.url}/{SEED}&secret=ABE") == (401, b"Invalid request")
    server.send(signal.SIGTERM)
    assert server.exit_code() == DONE
    server.start()
    assert len(json.loads(ask(f"{server.url}/{SEED}&secret=ABC")[1])) == 2


def test_postgres_must_be_migrated_before_it_is_served(postgres: PostgresServer) -> None:
    url = postgres.create_database("not_migrated")
    done = command_line(url, "serve", "--port", "0", "--no-publishing")
    assert done.exit_code == COULD_NOT_RUN
    assert "firmtrail migrate" in done.said
    assert command_line(url, "migrate").exit_code == DONE
    assert in_process(url, "migrate").exit_code == DONE
    assert in_process(f"{url}x", "serve", "--no-publishing").exit_code == COULD_NOT_RUN


def test_tls_is_served(serve: Serve, database: str, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate),
        ],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, "openssl makes the certificate"
    server = serve(database, "--tls-cert", str(certificate), "--tls-key", str(key))
    assert server.url.startswith("https://")
    client = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import ssl, sys, urllib.request as r; c = ssl.create_default_context("
            "cafile=sys.argv[2]); c.check_hostname = False; "
            "print(r.urlopen(sys.argv[1] + '/healthz', context=c).status)",
            *(server.url, str(certificate)),
        ],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert client.stdout == "200\n", client.stderr
