"""Checks the messages for a newcomer's mistakes: each says once what happened and what to do."""

import asyncio
import os
import re
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.contract.migrations import run_outside
from tests.databases import migrate_now, sqlite_template
from tests.end_to_end.command import Done, in_process
from tests.postgres_server import PostgresServer

DONE, COULD_NOT_RUN = 0, 2
PUMP = ("--project", "acme", "--model", "pump")

POINTER = re.compile(r"/\w+: |/\w+ is ")


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "firmtrail.db"
    path.write_bytes(sqlite_template())
    url = f"sqlite:///{path}"
    assert in_process(url, "project", "add", "acme").exit_code == DONE
    return url


def refused(done: Done) -> str:
    """Returns the one line that gives the reason."""
    assert done.exit_code == COULD_NOT_RUN, done.out + done.said
    assert "Traceback" not in done.said
    lines = [line for line in done.said.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, done.said
    [line] = lines
    assert done.said.rstrip().endswith(line), done.said
    assert line.endswith((".", "?")) or "Invalid value" in line, line
    assert not POINTER.search(line), line
    assert "[Errno" not in line
    return line


def test_a_missing_thing_is_named(database: str) -> None:
    for command, missing in (
        (("user", "add", "a@example.org", "--role", "viewer", "--project", "nope"), "project nope"),
        (("user", "list", "--project", "nope"), "project nope"),
        (("token", "create", "a@example.org", "--project", "nope"), "project nope"),
        (("device", "show", "pump-1", "--project", "nope"), "project nope"),
        (("device", "add", "pump-1", "--project", "nope"), "project nope"),
        (("release", "list", "--project", "nope"), "project nope"),
        (("rollout", "watch", "r_x", "--project", "nope"), "project nope"),
        (("versions", "--project", "nope"), "project nope"),
        (("halt", "--project", "nope"), "project nope"),
        (("log", "continue", "--project", "nope"), "project nope"),
        (("rebuild", "--project", "nope"), "project nope"),
        (("audit", "verify", "--project", "nope"), "project nope"),
        (("device", "show", "pump-1", "--project", "acme"), "device pump-1"),
        (("device", "history", "pump-1", "--project", "acme"), "device pump-1"),
        (("device", "pin", "pump-1", "1.0.0", "--project", "acme"), "device pump-1"),
        (("device", "rotate", "pump-1", "--project", "acme"), "device pump-1"),
        (("device", "decommission", "pump-1", "--project", "acme"), "device pump-1"),
        (("ask", "pump-1", "--project", "acme"), "device pump-1"),
        (("asks", "pump-1", "--project", "acme"), "device pump-1"),
        (("rollout", "watch", "r_x", "--project", "acme"), "rollout r_x"),
        (("rollout", "pause", "r_x", "--project", "acme"), "rollout r_x"),
        (("webhook", "show", "w_x", "--project", "acme"), "webhook list"),
        (("release", "show", "1.0.0", *PUMP), "release 1.0.0"),
        (("user", "remove", "a@example.org", "--project", "acme"), "a@example.org"),
    ):
        said = refused(in_process(database, *command))
        assert missing in said, said


def test_a_fault_names_the_option_once(database: str) -> None:
    for command, named in (
        (("project", "add", "No Name"), "NAME"),
        (("device", "add", "a b", "--project", "acme"), "ID"),
        (("device", "add", "d1", "--project", "acme", "--model", "a b"), "--model"),
        (("release", "add", "1.5", *PUMP), "VERSION"),
        (("user", "add", "nobody", "--project", "acme", "--role", "viewer"), "EMAIL"),
        (("rollback", "1.0.0", *PUMP), "--reason"),
        (("device", "list", "--project", "acme", "--silent-for", "soon"), "--silent-for"),
        (("device", "list", "--project", "acme", "--at", "yesterday"), "--at"),
    ):
        said = refused(in_process(database, *command))
        assert named in said, said
        reason = said.partition(": ")[2]
        assert said.count(reason.partition(": ")[2] or reason) == 1


def test_a_fault_in_a_setting_or_a_file_names_its_place(database: str, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("phases: [{percent: 1, after: 5}, {percent: 100, when: {min_reports: x}}]")
    release = in_process(database, "release", "add", "1.0.0", *PUMP)
    assert release.exit_code == 0, release.said
    set_, start = ("project", "change", "acme", "--set"), ("rollout", "start", "1.0.0", *PUMP)
    window = '{"cron": "soon", "duration_s": 600}'
    for command, named in (
        ((*set_, "aproval=2"), "--set aproval is unknown here: the names are follow_latest, "),
        ((*set_, "approvals=two"), "--set approvals: expected a whole number, got a text"),
        ((*set_, f"window={window}"), "--set window: cron needs five fields"),
        ((*set_, f'model_windows={{"m": {window}}}'), "--set model_windows, m: cron needs five"),
        ((*start, "--window", "soon"), "--window needs five fields"),
        ((*start, "--window", "0 2 * * *", "--window-timezone", "Mars"), "--window-timezone"),
        ((*start, "--plan", str(plan)), f"--plan {plan}, phase 1: after is unknown here: the "),
        ((*start, "--plan", str(plan)), "phase 2, when: min_reports: expected a whole number"),
    ):
        said = " ".join(refused(in_process(database, *command)).split())
        assert named in said, said


def test_settings_are_shown_as_they_are_set(database: str) -> None:
    window = '{"cron": "0 2 * * *", "duration_s": 600, "timezone": "UTC"}'
    given = (f"window={window}", "version_attribute=version", 'model_attribute="12"')
    options = [part for each in given for part in ("--set", each)]
    changed = in_process(database, "project", "change", "acme", *options)
    assert changed.exit_code == 0, changed.said
    out = in_process(database, "project", "show", "acme").out
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (shown["poll_after_s"], shown["window"]) == ("300", window)
    again = [part for name, value in shown.items() for part in ("--set", f"{name}={value}")]
    kept = in_process(database, "project", "change", "acme", *again[2:])
    assert (kept.exit_code, kept.out) == (0, out), kept.said


def test_a_path_without_a_scheme_is_shown_as_a_url(tmp_path: Path) -> None:
    for path in (f"{tmp_path}/x.db", "x.db"):
        assert f"sqlite:///{path}" in refused(in_process(path, "doctor"))


def test_a_password_in_a_faulty_url_is_not_repeated() -> None:
    said = refused(in_process("mysql://ann:geheim@db/fleet", "doctor"))
    assert "geheim" not in said


def test_a_message_about_a_number_says_so(database: str) -> None:
    assert "whole number" in refused(in_process(database, "serve", "--port", "abc"))


def test_a_taken_port_is_named(database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused(in_process(database, "serve", "--port", port))
    assert port in said
    assert "--port" in said


def test_a_host_of_another_machine_is_named(database: str) -> None:
    for host in ("192.0.2.1", "nowhere.invalid"):
        said = refused(in_process(database, "serve", "--port", "0", "--host", host))
        assert host in said
        assert "--host" in said


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    for command in (("serve", "--port", "0"), ("migrate",)):
        said = refused(in_process(f"sqlite:///{tmp_path}/none/x.db", *command))
        assert f"{tmp_path}/none" in said
        assert ".lock" not in said


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_or_folder_that_can_not_be_written_is_named(tmp_path: Path, what: str) -> None:
    """Runs the commands as another user, as root may write everything."""
    folder = tmp_path / "data"
    folder.mkdir()
    file = folder / "firmtrail.db"
    file.write_bytes(sqlite_template())
    for each in [folder, *folder.parents]:
        if each == Path(tempfile.gettempdir()):
            break
        each.chmod(0o755)
    file.chmod(0o444 if what == "file" else 0o666)
    folder.chmod(0o777 if what == "file" else 0o555)
    reader = os.fork()
    if reader == 0:
        os._exit(_as_nobody(file))
    assert os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 0


def _as_nobody(file: Path) -> int:
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    for command in (("serve", "--port", "0"), ("migrate",), ("project", "add", "acme")):
        done = in_process(f"sqlite:///{file}", *command)
        is_said = "can't write" in done.said and str(file.parent) in done.said
        if done.exit_code != COULD_NOT_RUN or not is_said:
            print(command, done.exit_code, done.said)  # noqa: T201 (a test's own process)
            return 1
    return 0


def test_a_bad_tls_file_is_named(database: str, tmp_path: Path) -> None:
    key, certificate = _self_signed(tmp_path / "a"), tmp_path / "a.pem"
    other, bad = _self_signed(tmp_path / "b"), tmp_path / "bad.pem"
    bad.write_text("no PEM")
    for cert_file, key_file, named in (
        (bad, key, "--tls-cert"),
        (certificate, bad, "--tls-key"),
        (certificate, other, "does not belong"),
    ):
        tls = ("--tls-cert", str(cert_file), "--tls-key", str(key_file))
        said = refused(in_process(database, "serve", "--port", "0", *tls))
        assert named in said
        assert "SSL" not in said


def _self_signed(path: Path) -> Path:
    key = path.with_suffix(".key")
    command = (
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", path.with_suffix(".pem")),
    )
    subprocess.run(command, capture_output=True, check=True)
    return key


def test_plain_routes_of_an_unknown_project_are_not_served(database: str) -> None:
    said = refused(in_process(database, "serve", "--port", "0", "--seed-api", "nope"))
    assert "no project nope" in said


def test_a_server_that_can_not_be_reached_is_named(database: str) -> None:
    where = ("--url", "http://127.0.0.1:1", "--project", "acme")
    for command in (
        ("device", "list", *where),
        ("rollout", "watch", "r_x", *where),
        ("simulate", *where),
    ):
        said = refused(in_process(database, *command, FIRMTRAIL_TOKEN="x"))
        assert "127.0.0.1:1 can't be reached (Connection refused)" in said
        assert "ssl" not in said


def test_an_audit_without_a_log_says_what_a_log_is(database: str, tmp_path: Path) -> None:
    said = refused(in_process(database, "audit", "verify", str(tmp_path)))
    assert str(tmp_path) in said
    assert "audit export" in said


@pytest.mark.parametrize(
    ("head", "named"),
    [("id,model", "device"), ("device,colour", "colour"), ("", "device")],
)
def test_a_missing_or_unknown_column_is_named(
    database: str, tmp_path: Path, head: str, named: str
) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text(f"{head}\nd1,m\n" if head else "")
    said = refused(in_process(database, "device", "import", str(file), "--project", "acme"))
    assert f"column {named}" in said or named in said


def test_a_misspelt_variable_is_warned_of_with_the_closest(database: str) -> None:
    for wrong, right in (
        ("FIRMTRAIL_DATABSE", "FIRMTRAIL_DATABASE"),
        ("FIRMTRAIL_SERVE_PROT", "FIRMTRAIL_SERVE_PORT"),
        ("FIRMTRAIL_TOKENS", "FIRMTRAIL_TOKEN"),
    ):
        done = in_process(database, "project", "list", **{wrong: "1"})
        assert done.exit_code == DONE
        assert f"{wrong}, so it is ignored. Did you mean {right}?" in done.said


def test_a_known_variable_is_not_warned_of(database: str) -> None:
    known = {
        "FIRMTRAIL_SERVE_PORT": "9",
        "FIRMTRAIL_SERVE_ARTIFACTS": "x",
        "FIRMTRAIL_AUDIT_VERIFY_TOKEN": "t",
        "FIRMTRAIL_TOKEN": "t",
        "FIRMTRAIL_DEVICE_ADD_SECRET": "s",
        "FIRMTRAIL_SERVICE_HOST": "10.0.0.1",
        "FIRMTRAIL_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    }
    assert in_process(database, "project", "list", **known).said == ""


def test_a_new_database_is_announced(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    assert f"no database {tmp_path}/new.db yet" in in_process(url, "migrate").said
    assert "yet" not in in_process(url, "migrate").said


def test_secrets_on_a_command_line_are_warned_of(database: str, tmp_path: Path) -> None:
    add = ("device", "add", "--project", "acme")
    warned = in_process(database, *add, "d1", "--secret", "s" * 40)
    assert (warned.exit_code, "--secret-stdin" in warned.said) == (DONE, True)
    quiet = in_process(database, *add, "d2", "--secret-stdin", stdin="t" * 40 + "\n")
    assert (quiet.exit_code, quiet.said) == (DONE, "")
    empty = in_process(database, *add, "d3", "--secret-stdin")
    assert "--secret-stdin: standard input is empty" in refused(empty)
    away = ("--url", "http://127.0.0.1:1", "--project", "acme")
    file = tmp_path / "token"
    file.write_text("secret-token\n")
    for command in (("device", "list"), ("simulate",), ("release", "list"), ("halt",)):
        argument = in_process(database, *command, *away, "--token", "secret-token")
        assert "--token-file" in argument.said
        for given in (("--token-file", str(file)), ("--token-file", "-")):
            done = in_process(database, *command, *away, *given, stdin="secret-token\n")
            assert "Warning" not in done.said, done.said
            assert "can't be reached" in done.said


def test_a_password_of_postgres_on_a_command_line_is_warned_of() -> None:
    done = in_process("postgresql://ann:geheim@127.0.0.1:1/fleet", "project", "list")
    said = refused(done)
    assert "postgresql://ann@127.0.0.1:1/fleet" in said
    assert "geheim" not in done.said
    assert "FIRMTRAIL_DATABASE" in done.said


def test_an_unknown_role_is_found_before_anything_is_changed(
    postgres: PostgresServer,
) -> None:
    url = postgres.create_database("no_role")
    for option in ("--service-role", "--auditor-role"):
        said = refused(in_process(url, "migrate", option, "no such"))
        assert 'CREATE ROLE "no such"' in said
    assert "migrate" in in_process(url, "project", "list").said
    migrate_now(url)
    said = refused(in_process(url, "migrate", "--service-role", "nope"))
    assert "no role nope" in said


def test_migrate_without_the_right_advises_to_run_as_the_owner(postgres: PostgresServer) -> None:
    url = postgres.create_database("not_the_owner")
    name = f"poor_{os.getpid()}"
    asyncio.run(run_outside(url, f"CREATE ROLE {name} LOGIN"))
    said = refused(in_process(url.replace("postgres@", f"{name}@", 1), "migrate"))
    assert "owner" in said
