"""Steers a fleet from the command line, against a real server process."""

import io
import re
import socketserver
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn

from firmtrail.cli import output, rollout_reads
from tests.end_to_end.command import Done, firmtrail, in_process, new_project
from tests.end_to_end.conftest import Serve

M = ("--model", "m")
ALL = {"matching": 4}
BAR_COLUMNS = 40


def check_forecasts(*tables: list[str]) -> None:
    """Checks that tables of a plan's two phases have no empty columns, of a dry run or not."""
    for titles, first, second in tables:
        for title in ("begin", "earliest end", "devices"):
            assert title in titles
        assert "began" not in titles
        assert (first.count("Z"), second.count("Z")) == (2, 1)


def check_warnings(done: Callable[..., Done]) -> None:
    """Recalls a version that no device runs, twice."""
    recalled = done("rollback", "1.1.0", *M, "--reason", "burns")
    assert recalled.out.startswith("r_")
    assert "No device of m runs 1.1.0 now." in recalled.said
    opening = datetime.now(UTC) + timedelta(hours=12)
    window = ("--window", f"{opening.minute} {opening.hour} * * *", "--window-duration", "60")
    tried = done("rollback", "1.1.0", *M, *window, "--dry-run").said
    assert "Its window is closed when it starts" in tried
    again = f"A recall of 1.1.0 is under way already: {recalled.out.strip()}."
    assert again in done("rollback", "1.1.0", *M, "--dry-run").said
    assert again in done("rollback", "1.1.0", *M, "--reason", "burns").said


def check_plans(done: Callable[..., Done], run: Callable[..., Done], plan: Path) -> None:
    """Tries, starts, advances and changes a plan, which is written to this file."""
    plan.write_text("phases:\n  - {percent: 1, after_s: 60}\n  - {percent: 100}\n")
    tried = run("rollout", "start", "1.1.0", *M, "--plan", str(plan), "--percent", "5", "--dry-run")
    assert "can't be combined with a plan" in tried.said
    forecast = done("rollout", "start", "1.1.0", *M, "--plan", str(plan), "--dry-run").out
    assert "earliest end" in forecast
    assert "current" not in forecast
    planned = done("rollout", "start", "1.1.0", *M, "--plan", str(plan)).out.strip()
    shown = done("rollout", "plan", planned)
    assert shown.said.startswith("Phase 1 of 2 (1 %) began at ")
    phases = shown.out
    check_forecasts(forecast.splitlines()[1:], phases.splitlines())
    assert "current" in phases
    assert "next" in phases
    assert f"of rollout {planned} will reach it" in done("device", "show", "d1").out
    assert "is running" in done("rollout", "advance", planned).said
    plan.write_text("phases:\n  - {percent: 100, after_s: 60}\n")
    changed = done("rollout", "change", planned, "--plan", str(plan), "--reason", "It is safe").out
    assert [changed.count(state) for state in ("done", "current", "next")] == [2, 1, 0]
    done("rollout", "abort", planned)
    plan.write_text("phases: [")
    assert "is not YAML" in run("rollout", "start", "1.1.0", *M, "--plan", str(plan)).said


def test_a_release_is_rolled_out_watched_and_rolled_back(serve: Serve, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'a.db'}"
    url = serve(database).url
    token, begun = new_project(database), set[str]()

    def run(*command: str) -> Done:
        """Runs the first command of each kind as a process."""
        where = {"FIRMTRAIL_URL": url, "FIRMTRAIL_TOKEN": token}
        runs = in_process if command[0] in begun else firmtrail
        begun.add(command[0])
        return runs(database, *command, "--project", "acme", **where)

    def done(*command: str) -> Done:
        ended = run(*command)
        assert ended.exit_code == 0, ended.said
        return ended

    done("device", "add", "d1", *M)
    done("release", "add", "1.1.0", *M)
    waiting = ("--percent", "10", "--silent-after", "600")
    rollout = done("rollout", "start", "1.1.0", *M, *waiting).out.strip()
    done("rollout", "advance", rollout, "--percent", "100")
    assert "is paused" in done("rollout", "pause", rollout, "--reason", "smoke").said
    check_plans(done, run, tmp_path / "plan.yaml")
    watched = done("rollout", "watch", rollout, "--json").json
    assert (watched["state"], watched["state_reason"]) == ("paused", "smoke")
    assert (watched["progress"]["matching"], watched["silent_after_s"]) == (1, 600)
    assert "devices that run it" in done("rollback", "1.1.0", *M, "--dry-run").out
    check_warnings(done)
    assert "the question is q_" in done("ask", "d1").said
    unanswered = run("ask", "d1", "--wait", "1")
    assert (unanswered.exit_code, "No answer yet" in unanswered.said) == (1, True)
    assert done("device", "show", "d1", "--json").json["explanation"]["reason"] == "withdrawn"
    assert done("device", "history", "d1", "--json").json == []
    assert run("rollout", "resume", rollout).exit_code == 2  # its release is withdrawn


def test_a_rollout_shows_its_phases_by_line_and_people_by_their_addresses(
    serve: Serve, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path / 'a.db'}"
    url = serve(database).url
    tokens = [new_project(database)]
    second = ("second@example.org", "--project", "acme")
    assert in_process(database, "user", "add", *second, "--role", "operator").exit_code == 0
    tokens.append(in_process(database, "token", "create", *second).out.split()[-1])

    def done(*command: str, by: int = 0) -> Done:
        where = {"FIRMTRAIL_URL": url, "FIRMTRAIL_TOKEN": tokens[by]}
        ended = in_process(database, *command, "--project", "acme", **where)
        assert ended.exit_code == 0, ended.said
        return ended

    changed = in_process(database, "project", "change", "acme", "--set", "approvals=1")
    assert "approvals" in changed.out
    done("release", "add", "1.1.0", *M)
    plan = tmp_path / "plan.json"
    plan.write_text('{"phases": [{"percent": 1, "after_s": 600}, {"percent": 100}]}')
    rollout = done("rollout", "start", "1.1.0", *M, "--plan", str(plan)).out.strip()
    done("rollout", "approve", rollout, by=1)
    watched = done("rollout", "watch", rollout, "--once").out.splitlines()
    phases = done("rollout", "show", rollout, "--json").json["phases"]
    began, ends = phases[0]["began_at"], phases[0]["earliest_end"]
    for at, states in ((began, ["current", "next"]), (ends, ["done", "current"])):
        shown = done("rollout", "plan", rollout, "--at", at, "--json").json
        assert [each["state"] for each in shown["phases"]] == states
    assert watched[1:] == [f"Phase 1 of 2 (1 %) began at {began}, and ends at {ends}."]
    shown = done("rollout", "show", rollout)
    lines = [line.split() for line in shown.out.splitlines()]
    approvals = next(line for line in lines if line[:1] == ["approvals"])
    assert " ".join(approvals) == (
        "approvals needed 1, by second@example.org, started by boss@example.org"
    )
    assert [line[:3] for line in lines[-2:]] == [["1", "1", "current"], ["2", "100", "next"]]
    since = next(line for line in lines if line[:2] == ["state", "since"])[-1]
    assert since > done("rollout", "show", rollout, "--json").json["started_at"]
    assert shown.out == "\n".join(line.rstrip() for line in shown.out.splitlines()) + "\n"


def test_a_terminal_of_80_columns_has_whole_bars_and_the_phase_below_them() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80)
    bars = output.Bars("{task.description}", BarColumn(), MofNCompleteColumn(), console=console)
    watched = rollout_reads._Watched(are_bars_shown=True)
    assert bars.tasks == []
    watched.see(bars, "Rollout r is running.", "Phase 2 of 3, and " + "more " * 20)
    rollout_reads._show(bars, {"offered": 3, "installed": 2, "failed": 0, "exhausted": 1} | ALL)
    with console.capture() as captured:
        console.print(bars.get_renderable())
    lines = [re.sub(r"\x1b\[[\d;]*m", "", each) for each in captured.get().splitlines()]
    assert [line.split()[0] for line in lines[:4]] == ["offered", "installed", "failed", "Phase"]
    assert all(len(line.split()[-2]) == BAR_COLUMNS for line in lines[:3])


def test_settings_of_a_project_are_changed_together_or_not_at_all(
    sqlite_url: str, tmp_path: Path
) -> None:
    auto = tmp_path / "auto.yaml"
    auto.write_text("m:\n  plan: {phases: [{percent: 5, after_s: 60}, {percent: 100}]}\n")

    def change(*settings: str) -> Done:
        options = [part for each in settings for part in ("--set", each)]
        return in_process(sqlite_url, "project", "change", "acme", *options)

    assert in_process(sqlite_url, "project", "add", "acme").exit_code == 0
    window = '{"cron": "0 2 * * *", "duration_s": 600, "timezone": "UTC"}'
    done = change("enrolment=approve", f"window={window}", f"auto_rollout=@{auto}")
    assert (done.exit_code, "enrolment" in done.out) == (0, True), done.said
    refused = change("follow_latest=true", "poll_after_s=0")
    assert (refused.exit_code, "poll_after_s" in refused.said) == (2, True), refused.said
    for wrong, said in (
        ("nothing", "is not SETTING=VALUE"),
        ("window=@none.yaml", "none.yaml"),
        ("poll_s=1", "poll_s"),
    ):
        found = change(wrong)
        assert (found.exit_code, said in found.said) == (2, True), found.said
    assert change("version_attribute=version", "window=null").exit_code == 0
    shown = in_process(sqlite_url, "project", "show", "acme", "--json").json
    assert (shown["enrolment"], shown["window"], shown["follow_latest"]) == (
        *("approve", None, False),
    )
    assert shown["auto_rollout"]["m"]["plan"]["phases"][0]["percent"] == 5
    assert shown["version_attribute"] == "version"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "Server disconnected"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>", "answers 502 Bad Gateway"),
    ],
)
def test_an_answer_of_another_server_is_an_error_not_a_finding(
    tmp_path: Path, answer: bytes, said: str
) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        where = ("--url", f"http://127.0.0.1:{server.server_address[1]}", "--token", "x")
        ended = in_process(
            f"sqlite:///{tmp_path / 'a.db'}", "device", "show", "d1", "--project", "acme", *where
        )
        server.shutdown()
        thread.join()
    assert (ended.exit_code, said in ended.said) == (2, True), ended.said


def test_a_url_with_a_path_is_refused(tmp_path: Path) -> None:
    where = ("--url", "http://127.0.0.1:8080/api", "--token", "x")
    database = f"sqlite:///{tmp_path / 'a.db'}"
    ended = in_process(database, "device", "show", "d1", "--project", "acme", *where)
    assert (ended.exit_code, "without a path" in ended.said) == (2, True), ended.said
