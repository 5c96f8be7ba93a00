"""A backup is the database at one moment; a restored one forks no log, and its logs continue."""

import os
import shutil
import signal
import stat
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from tests.end_to_end.command import Done, firmtrail, in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import Server
from tests.postgres_server import PostgresServer, programs

DONE, COULD_NOT_RUN = 0, 2
BOSS = "boss@example.org"


def assert_done(done: Done) -> None:
    assert done.exit_code == DONE, done.out + done.said


def report(url: str, token: str, name: str) -> tuple[int, str]:
    """Posts one report of d2 with this id."""
    body = msgspec.json.encode({"version": "3.0.0", "status": "failed", "report_id": name})
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    path = f"{url}/api/v1/projects/acme/devices/d2/reports"
    try:
        with urllib.request.urlopen(urllib.request.Request(path, body, headers)) as response:  # noqa: S310 (our own)
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@contextmanager
def writing(url: str, token: str) -> Iterator[None]:
    """Sends reports until the block ends."""
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            assert report(url, token, f"meanwhile-{number}")[0] == 201
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Site(NamedTuple):
    """A filled database, and the environment of the commands that use it."""

    database: str
    environment: dict[str, Any]

    def run(self, *arguments: str) -> Done:
        run = in_process if arguments[0] in {"audit", "backup"} else firmtrail
        return run(self.database, *arguments, **self.environment)


def back_up_and_lose_the_rest(server: Server, site: Site, file: Path) -> str:
    """Makes a backup while reports come in, records one more event, and stops the server; returns a
    token."""
    token = site.run("token", "create", BOSS, "--project", "acme").out.strip()
    with writing(server.url, token):
        assert_done(site.run("backup", str(file)))
    assert site.run("backup", str(file)).exit_code == COULD_NOT_RUN
    assert report(server.url, token, "lost")[0] == 201
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    return token


def continues_in_a_new_log(server: Server, site: Site, token: str) -> None:
    """Asserts that appends are refused until the log is continued, so that no position is used
    twice."""
    status, answer = report(server.url, token, "after")
    assert (status, "firmtrail log continue" in answer) == (503, True), answer
    assert_done(site.run("log", "continue", "--project", "acme"))
    status, answer = report(server.url, token, "after")
    assert (status, msgspec.json.decode(answer)["log"]) == (201, 3)
    assert_done(site.run("audit", "verify", "--project", "acme"))
    assert_done(site.run("audit", "replay", "--project", "acme"))


def verify_copy(database: str, site: Site, file: Path) -> None:
    """Verifies a backup with the checkpoints stored next to it. Later ones cover more than it
    has."""
    copy = Site(database, site.environment | {"FIRMTRAIL_CHECKPOINTS_FILE": f"{file}.none"})
    seen = f"{file}.checkpoint"
    assert_done(copy.run("audit", "verify", "--project", "acme", "--from", seen))


def test_a_file_is_copied_while_it_is_written_and_restored(
    sqlite_url: str, files: Path, serve: Serve, tmp_path: Path
) -> None:
    path, file = files, tmp_path / "backup.db"
    site = Site(sqlite_url, {"FIRMTRAIL_SIGNING_KEY_FILE": f"{path}.key"})
    token = back_up_and_lose_the_rest(serve(sqlite_url), site, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    verify_copy(f"sqlite:///{file}", site, file)
    for left in path.parent.glob(f"{path.name}-*"):
        left.unlink()
    shutil.copy(file, path)
    continues_in_a_new_log(serve(sqlite_url), site, token)


def test_postgres_is_dumped_while_it_is_written_and_restored(
    postgres: PostgresServer, postgres_url: str, files: Path, serve: Serve, tmp_path: Path
) -> None:
    file = tmp_path / "backup.dump"
    stores = {"signing-key-file": f"{files}.key", "checkpoints-file": f"{files}.checkpoints"}
    options = [part for name, path in stores.items() for part in (f"--{name}", path)]
    environment = {
        f"FIRMTRAIL_{name.upper().replace('-', '_')}": path for name, path in stores.items()
    }
    site = Site(postgres_url, environment | {"PATH": f"{programs()}:{os.defpath}"})
    token = back_up_and_lose_the_rest(serve(postgres_url, *options), site, file)
    restored = postgres.create_database(f"{urlsplit(postgres_url).path[1:]}_restored", "template0")
    command = (programs() / "pg_restore", "--no-owner", f"--dbname={restored}", file)
    subprocess.run(command, check=True)
    verify_copy(restored, site, file)
    continues_in_a_new_log(serve(restored, *options), site._replace(database=restored), token)
