"""Checks that commands list, show and end what the API can, in tables without cut cells."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from firmtrail.main import COMMANDS
from tests.databases import sqlite_template
from tests.end_to_end.command import Done, in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import ENVIRONMENT

DONE, FOUND_WRONG, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130
PUMP = ("--model", "pump")
ALWAYS = '{"cron": "* * * * *", "duration_s": 3600, "timezone": "UTC"}'
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "firmtrail.db"
    path.write_bytes(sqlite_template())
    return f"sqlite:///{path}"


class Acme:
    """Runs commands on project acme."""

    def __init__(self, database: str) -> None:
        self._database = database

    def ran(self, *command: str, stdin: str = "") -> Done:
        in_acme = () if command[:1] == ("project",) else ("--project", "acme")
        return in_process(self._database, *command, *in_acme, stdin=stdin)

    def done(self, *command: str) -> Done:
        done = self.ran(*command)
        assert done.exit_code == DONE, done.said
        return done

    def json(self, *command: str) -> Any:
        return self.done(*command, "--json").json

    def rows(self, *command: str) -> list[str]:
        """Returns the lines of the table, with whole cells and no words of a program."""
        out = self.done(*command).out
        assert "…" not in out
        assert not re.search(
            r"\b(True|False|None)\b|\[\]|\w_\w", re.sub(r"[rqutc]_\w+", "", out)
        ), out
        assert all(TIME.search(found) for found in re.findall(r"\S*\d{4}-\d\d-\d\dT\S*", out))
        return [line.rstrip() for line in out.splitlines()]


@pytest.fixture
def acme(database: str) -> Acme:
    acme = Acme(database)
    acme.done("project", "add", "acme")
    acme.done("user", "add", "ann@example.org", "--role", "admin")
    for device in ("d1", "d2"):
        acme.done("device", "add", device, *PUMP)
    acme.done("release", "add", "1.1.0", *PUMP, "--notes", "the first\nof many " + "x" * 200)
    return acme


def test_projects_and_members_are_listed_and_ended(acme: Acme) -> None:
    assert [each["project"] for each in acme.json("project", "list")] == ["acme"]
    assert acme.json("project", "show", "acme")["follow_latest"] is False
    assert "follow_latest         false" in acme.done("project", "show", "acme").out.splitlines()
    assert (
        "bob@example.org is viewer" in acme.done("user", "role", "bob@example.org", "viewer").said
    )
    members = {each["email"]: each for each in acme.json("user", "list")}
    assert members["bob@example.org"]["role"] == "viewer"
    acme.done("user", "remove", "BOB@example.org")
    assert [each["email"] for each in acme.json("user", "list")] == ["ann@example.org"]
    last = acme.ran("user", "remove", members["ann@example.org"]["actor_id"])
    assert (last.exit_code, "at least one admin" in last.said) == (COULD_NOT_RUN, True)


def test_devices_are_listed_by_filters_and_steered(acme: Acme) -> None:
    assert [each["device"] for each in acme.json("device", "list", "--starts-with", "d2")] == ["d2"]
    assert acme.json("device", "list", "--model", "other") == []
    assert "none" in acme.done("device", "list", "--model", "other").said
    assert acme.rows("device", "list")[0].split("  ")[0] == "device"
    assert [row.count("never called") for row in acme.rows("device", "list")] == [0, 1, 1]
    assert acme.json("device", "list", "--silent-for", "86400") == []
    assert "last seen" not in acme.rows("device", "list", "--as-of", "@5")[0]
    acme.done("device", "pin", "d1", "1.0.0")
    assert acme.json("device", "show", "d1")["pinned"] == "1.0.0"
    acme.done("device", "unpin", "d1")
    assert acme.json("device", "show", "d1")["pinned"] is None
    acme.done("device", "change", "d1", "--cohort", "beta", "--tag", "fast", "--tag", "loud")
    shown = acme.json("device", "show", "d1")
    assert (shown["cohort"], shown["tags"], shown["model"]) == ("beta", ["fast", "loud"], "pump")
    assert [each["device"] for each in acme.json("device", "list", "--tag", "loud")] == ["d1"]
    acme.done("device", "change", "d1", "--cohort", "", "--no-tags")
    assert acme.json("device", "show", "d1")["cohort"] is None
    assert "may try 1.1.0" in acme.done("device", "retry", "d1", "1.1.0").said
    assert any("decides" in row for row in acme.rows("device", "show", "d1"))


def test_a_secret_is_rotated_and_a_device_ended_and_restored(acme: Acme) -> None:
    first = acme.done("device", "rotate", "d1").out.strip()
    second = acme.json("device", "rotate", "d1")["secret"]
    assert len({first, second, ""}) == 3
    acme.done("device", "decommission", "d1")
    assert acme.json("device", "show", "d1")["decommissioned"] is True
    refused = acme.ran("device", "pin", "d1", "1.0.0")
    assert (refused.exit_code, "device restore" in refused.said) == (COULD_NOT_RUN, True)
    restored = acme.done("device", "restore", "d1")
    assert restored.out.strip() not in {"", second}
    assert "not decommissioned" in acme.done("device", "restore", "d1").said
    assert "secret" not in acme.json("device", "restore", "d1")


def test_commands_that_print_a_secret_print_json_too(acme: Acme) -> None:
    made = acme.json("device", "add", "d3", *PUMP)
    assert (made["device"], made["secret"].startswith("fts_")) == ("d3", True)
    assert "secret" not in acme.json("device", "add", "d4", *PUMP, "--secret", "s" * 32)
    token = acme.json("token", "create", "ann@example.org", "--name", "ci")
    assert token["id"] in [each["id"] for each in acme.json("token", "list")]
    assert token["token"].startswith("ftt_")


def test_a_rollout_that_the_operator_started_waits_and_is_shown(acme: Acme) -> None:
    acme.done("project", "change", "acme", "--set", "approvals=1")
    rollout = acme.done("rollout", "start", "1.1.0", *PUMP).out.strip()
    shown = acme.rows("rollout", "show", rollout)
    assert any("state" in row and "waiting" in row for row in shown)
    assert any("started by system" in row for row in shown)


def test_a_release_says_which_rollout_it_started(acme: Acme) -> None:
    plan = '{"pump": {"plan": {"phases": [{"percent": 10, "after_s": 60}, {"percent": 100}]}}}'
    acme.done("project", "change", "acme", "--set", f"auto_rollout={plan}")
    said = acme.done("release", "add", "1.2.0", *PUMP).said
    rollout = acme.json("rollout", "list")[0]["id"]
    assert f"auto_rollout started rollout {rollout}: it reaches 10 %, then 100 % of the" in said
    assert "Phase 1 of 2 (10 %) began at" in said
    added = acme.json("release", "add", "1.3.0", *PUMP)
    assert added["rollout"]["id"] == acme.json("rollout", "list")[0]["id"]
    assert [each["percent"] for each in added["rollout"]["phases"]] == [10, 100]
    assert acme.json("release", "add", "2.0.0-rc.1", *PUMP)["rollout"] is None


def test_a_rollout_whose_window_is_closed_is_listed_with_its_opening(acme: Acme) -> None:
    closed = ("--window", "0 2 29 2 *", "--window-duration", "60")
    rollout = acme.done("rollout", "start", "1.1.0", *PUMP, *closed).out.strip()
    [row] = [row for row in acme.rows("rollout", "list") if rollout in row]
    opens_at = acme.json("rollout", "list")[0]["opens_at"]
    assert f"running, window opens {opens_at}" in row


def test_rollouts_are_listed_shown_and_ended(acme: Acme) -> None:
    dry = acme.done("rollout", "start", "1.1.0", *PUMP, "--dry-run")
    assert dry.out == "The rollout would be for 2 devices.\n"
    assert acme.json("rollout", "start", "1.1.0", *PUMP, "--dry-run")["progress"]["matching"] == 2
    none = acme.done("rollout", "start", "1.1.0", *PUMP, "--cohort", "none")
    assert (len(none.out.splitlines()), "No device matches" in none.said) == (1, True)
    acme.done("rollout", "abort", none.out.strip())
    rollout = acme.done("rollout", "start", "1.1.0", *PUMP).out.strip()
    assert acme.json("rollout", "list").pop()["id"] == none.out.strip()
    assert [each["id"] for each in acme.json("rollout", "list")][:-1] == [rollout]
    assert any(rollout in row and "running" in row for row in acme.rows("rollout", "list"))
    assert acme.json("rollout", "show", rollout)["state"] == "running"
    shown = "\n".join(acme.rows("rollout", "show", rollout))
    assert "2 matching, 0 offered so far, 0 installed" in shown
    assert "bad version" not in shown
    devices = acme.json("rollout", "devices", rollout)
    assert [each["device"] for each in devices] == ["d1", "d2"]
    assert acme.json("rollout", "devices", rollout, "--state", "installed") == []
    assert len(acme.rows("rollout", "devices", rollout)) == 3
    watched = acme.done("rollout", "watch", rollout, "--once").out
    assert re.fullmatch(rf"Rollout {rollout} is running: 2 matching, .*\.\n", watched)
    acme.done("project", "change", "acme", "--set", f"window={ALWAYS}")
    for command in (("watch", rollout, "--once"), ("show", rollout)):
        assert acme.rows("rollout", *command)[-1] == "The window of the project is open."
    assert acme.json("rollout", "pause", rollout, "--reason", "smoke")["state"] == "paused"
    assert "paused (smoke)" in acme.done("rollout", "watch", rollout).out
    assert "is running" in acme.done("rollout", "resume", rollout).said
    assert "is aborted" in acme.done("rollout", "abort", rollout).said
    dry = acme.json("rollback", "1.1.0", *PUMP, "--dry-run")
    assert dry["devices"]["named"] == 0
    assert "devices that run it" in acme.done("rollback", "1.1.0", *PUMP, "--dry-run").out


def test_releases_versions_and_questions_are_listed_and_a_halt_ended(acme: Acme) -> None:
    header, row = acme.rows("release", "list")
    assert "the first of many" in row
    assert "withdrawn because" in header
    assert acme.json("release", "show", "1.1.0", *PUMP)["latest"] is True
    acme.done("release", "withdraw", "1.1.0", *PUMP, "--reason", "burns")
    assert "the first of many" in acme.rows("release", "list")[1]
    assert acme.json("versions") == [{"version": None, "model": "pump", "devices": 2, "share": 1.0}]
    assert "100.0%" in acme.rows("versions")[1]
    assert "is halted" in acme.done("halt", "--reason", "smoke").said
    again = acme.ran("halt")
    assert (again.exit_code, "firmtrail resume" in again.said) == (COULD_NOT_RUN, True)
    acme.done("resume")
    question = acme.done("ask", "d1").out.strip()
    assert [each["question"] for each in acme.json("asks", "d1")] == [question]
    assert acme.json("ask", "d2")["question"].startswith("q_")
    late = acme.ran("ask", "d1", "--wait", "1")
    assert (late.exit_code, late.out) == (FOUND_WRONG, "")


def test_logins_and_tokens_need_an_owner(database: str) -> None:
    for command in (("token", "list"), ("login", "list"), ("login", "end", "x"), ("logout",)):
        done = in_process(database, *command)
        assert (done.exit_code, "Say whose" in done.said) == (COULD_NOT_RUN, True), done.said


def test_commands_work_on_a_server_as_on_its_database(serve: Serve, database: str) -> None:
    boss = ("boss@example.org", "--project", "acme")
    for command in (("project", "add", "acme"), ("user", "add", *boss, "--role", "admin")):
        assert in_process(database, *command).exit_code == DONE
    issued = in_process(database, "token", "create", *boss).out.strip()
    where = {"FIRMTRAIL_URL": serve(database).url, "FIRMTRAIL_TOKEN": issued}
    here = ("--project", "acme")

    def done(*command: str) -> Done:
        done = in_process("sqlite:///none.db", *command, **where)
        assert done.exit_code == DONE, done.said
        return done

    assert done("device", "add", "d1", *here).out
    assert [each["device"] for each in done("device", "list", *here, "--json").json] == ["d1"]
    assert [each["role"] for each in done("project", "list", "--json").json] == ["admin"]
    [token] = done("token", "list", "--json").json
    assert "boss@example.org" in done("user", "list", *here).out
    elsewhere = in_process("sqlite:///none.db", "device", "list", "--project", "nope", **where)
    assert (elsewhere.exit_code, "project nope" in elsewhere.said) == (COULD_NOT_RUN, True)
    done("token", "revoke", token["id"])
    ended = in_process("sqlite:///none.db", "device", "list", *here, **where)
    assert (ended.exit_code, "token" in ended.said) == (COULD_NOT_RUN, True)


def test_a_watch_in_a_pipe_prints_changes_and_ends_with_ctrl_c(
    serve: Serve, database: str, acme: Acme
) -> None:
    rollout = acme.done("rollout", "start", "1.1.0", *PUMP, "--percent", "10").out.strip()
    serve(database)
    command = [sys.executable, "-m", "firmtrail", "--database", database]
    with subprocess.Popen(
        [*command, "rollout", "watch", rollout, "--project", "acme"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watch:
        assert watch.stdout is not None
        first = watch.stdout.readline()
        assert f"Rollout {rollout} is running: 2 matching" in first
        acme.done("device", "add", "d3", *PUMP)
        assert "3 matching" in watch.stdout.readline()
        time.sleep(0.5)
        watch.send_signal(signal.SIGINT)
        rest, said = watch.communicate(timeout=60)
    assert watch.returncode == INTERRUPTED, said
    assert ("Traceback" in said, rest) == (False, "")


def test_every_command_has_help_that_is_a_sentence() -> None:
    for name in COMMANDS:
        shown = in_process("sqlite:///x", name, "--help").out
        assert re.search(r"^  [A-Z][^\n]*", shown, re.MULTILINE), name


def test_completion_is_printed_for_a_shell() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("firmtrail")],
        env=ENVIRONMENT | {"_FIRMTRAIL_COMPLETE": "bash_source"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "complete" in done.stdout, done.stderr
