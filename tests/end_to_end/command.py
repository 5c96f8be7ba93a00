"""Runs `firmtrail COMMAND`, with its output and its exit code."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from click.testing import CliRunner

from firmtrail.main import main
from tests.end_to_end.forked import Constants, Forked, Streams
from tests.end_to_end.processes import ENVIRONMENT
from tests.own_log import own_log

COMMAND_SECONDS_MAX = 60


class Done:
    """Holds the result of a command."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.exit_code = process.returncode
        self.out = process.stdout
        self.said = process.stderr

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)

    @property
    def lines(self) -> list[Any]:
        """Reads its output as NDJSON."""
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


def command_line(database: str, *arguments: str, stdin: str = "", **environment: str) -> Done:
    """Runs a command as a shell does: Python starts, and imports it."""
    command = [sys.executable, "-m", "firmtrail", "--database", database, *arguments]
    return Done(
        subprocess.run(
            command,
            env={**ENVIRONMENT, **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
    )


def firmtrail(database: str, *arguments: str, stdin: str = "", **environment: str) -> Done:
    """Runs a command in a process."""
    return run(database, arguments, stdin=stdin, environment=environment)


def firmtrail_within(seconds_max: float, database: str, *arguments: str) -> Done:
    """Runs a command that may take longer than others."""
    return run(database, arguments, seconds_max=seconds_max)


def run(
    database: str,
    arguments: Sequence[str],
    *,
    seconds_max: float = COMMAND_SECONDS_MAX,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    constants: Constants | None = None,
) -> Done:
    """Runs a command in a process, with other values of constants."""
    with TemporaryDirectory() as folder:
        streams = Streams(*(Path(folder) / name for name in ("out", "said", "stdin")))
        streams.stdin.write_text(stdin)
        started = ("--database", database, *arguments)
        process = Forked(started, {**ENVIRONMENT, **(environment or {})}, streams, constants)
        try:
            exit_code = process.wait(seconds_max)
        except subprocess.TimeoutExpired as late:
            process.send_signal(signal.SIGKILL)
            printed = streams.out.read_text() + streams.said.read_text()
            raise AssertionError(
                f"{arguments} took over {seconds_max} s, and printed: {printed}"
            ) from late
        out, said = streams.out.read_text(), streams.said.read_text()
    return Done(subprocess.CompletedProcess(started, exit_code, out, said))


@contextlib.contextmanager
def own_umask() -> Iterator[None]:
    """Restores the umask of this process, which a server restricts before it may fail."""
    before = os.umask(0o077)
    os.umask(before)
    try:
        yield
    finally:
        os.umask(before)


def in_process(database: str, *arguments: str, stdin: str = "", **environment: str) -> Done:
    """Runs a command in this process: starting another takes ten times as long."""
    command_line = ["--database", database, *arguments]
    with own_log(), own_umask():
        ran = CliRunner().invoke(main, command_line, env=environment, input=stdin)
    command = subprocess.CompletedProcess(arguments, ran.exit_code, ran.stdout, ran.stderr)
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return Done(command)


def new_project(database: str) -> str:
    """Adds project acme with an admin, and returns a token of the admin."""
    assert in_process(database, "project", "add", "acme").exit_code == 0
    member = ("boss@example.org", "--project", "acme")
    assert in_process(database, "user", "add", *member, "--role", "admin").exit_code == 0
    issued = in_process(database, "token", "create", *member)
    assert issued.exit_code == 0
    return issued.out.strip()
