"""`firmtrail archive prune`: a kill in between, its exit codes, and what servers answer then."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from firmtrail.archive import prune
from firmtrail.cli import archive
from firmtrail.publishing import signing_key
from firmtrail.schema.migrate import Roles, migrate
from tests.databases import INSTANCE, create_role, migrating
from tests.end_to_end import pruning_process
from tests.end_to_end.archived import await_archived
from tests.end_to_end.asking import COULD_NOT_RUN, DONE, FOUND_WRONG, ask
from tests.end_to_end.command import Done, in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.doctors import doctors
from tests.end_to_end.processes import ENVIRONMENT, Server
from tests.end_to_end.site import P, Site, new_site

BUNDLES = 12
EVENTS = BUNDLES * 256 + 40
OLD = {"device": "d1", "version": "1.0.0", "report_id": "r7"}
NEW = {"device": "d1", "version": "2.0.0", "report_id": "new"}
SERVICE = "firmtrail_prune_service"
NOT_READ = "pruned entries can't be read"

pytestmark = pytest.mark.each_postgres


class Pruned:
    """A database whose log is archived, and the options of its servers."""

    def __init__(self, site: Site, options: tuple[str, ...], folder: Path) -> None:
        self.site = site
        self.options = options
        self.archive = folder / "archive"

    @property
    def database(self) -> str:
        return self.site.database

    def prune(self, *options: str, database: str = "") -> Done:
        command = ("archive", "prune", "--older-than", "1", *options)
        return in_process(database or self.database, "--archive", str(self.archive), *command)

    def known(self, *command: str, archive: bool = True) -> Done:
        """Runs a command that reads the key and the checkpoints, and perhaps the archive."""
        where = ("--archive", str(self.archive)) if archive else ()
        return in_process(self.database, *self.options, *where, *command)

    def pruned(self) -> int:
        rows = doctors(self.database, "--archive", str(self.archive))
        found = rows["pruned"]["found"].split()[0]
        return 0 if found == "no" else int(found)


def stop(server: Server) -> None:
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0


@pytest.fixture
async def site(database_url: str) -> Site:
    return await new_site(database_url, ["d1"])


@pytest.fixture
def archived(site: Site, serve: Serve, tmp_path: Path) -> Pruned:
    """A log that a server has archived; the server has ended."""
    key = tmp_path / "key"
    signing_key.create(key)
    options = ("--signing-key-file", str(key), "--checkpoints-file", str(tmp_path / "points"))
    found = Pruned(site, options, tmp_path)
    server = serve(site.database, *options, "--archive", str(found.archive))
    for start in range(0, EVENTS, 500):
        numbers = range(start, min(EVENTS, start + 500))
        reports = [OLD | {"report_id": f"r{n}"} for n in numbers]
        assert ask(f"{server.url}{P}/reports", site.admin, reports)[0] == 201
    await_archived(site.database, str(found.archive / "acme"), BUNDLES * 256)
    stop(server)
    return found


@pytest.fixture
def two_days_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets all that is archived be pruned, in small steps."""
    monkeypatch.setattr(prune, "KEPT_ENTRIES", 0)
    monkeypatch.setattr(prune, "STEP_BUNDLES", 1)
    later_s = time.time() + pruning_process.LATER_S
    monkeypatch.setattr(archive, "time", SimpleNamespace(time=lambda: later_s))


@pytest.mark.usefixtures("two_days_later")
def test_a_kill_leaves_whole_bundles_and_the_next_run_continues(archived: Pruned) -> None:
    started = ["--database", archived.database, "--archive", str(archived.archive)]
    command = [sys.executable, "-m", "tests.end_to_end.pruning_process", *started]
    process = subprocess.Popen([*command, "archive", "prune", "--older-than", "1"], env=ENVIRONMENT)
    deadline = time.monotonic() + 30
    while not (done := archived.pruned()):
        assert time.monotonic() < deadline
    process.kill()
    process.wait()
    assert 0 < done < BUNDLES * 256 - 1
    assert archived.known("audit", "verify", "--project", "acme").exit_code == DONE
    rest = archived.prune("--json")
    assert rest.exit_code == DONE
    assert archived.pruned() >= BUNDLES * 256 - 10  # entries of the project and its people stay
    assert 0 < rest.json["entries"] < archived.pruned()
    assert archived.prune("--json").json == {"entries": 0, "bytes": 0}


@pytest.mark.usefixtures("two_days_later")
def test_a_server_answers_from_the_archive_or_says_that_it_is_away(
    archived: Pruned, serve: Serve
) -> None:
    assert archived.prune().exit_code == DONE
    with_archive = ("--archive", str(archived.archive))
    server = serve(archived.database, *archived.options, *with_archive)
    assert not server.said(NOT_READ)
    assert answers(server, archived.site) == (200, 200, "")
    assert report(server, archived.site, OLD)[0] == 200
    assert report(server, archived.site, OLD | {"version": "9.9.9"})[0] == 409
    metrics = ask(f"{server.url}/metrics")[1].decode()
    assert f"firmtrail_pruned_events {float(archived.pruned())}" in metrics
    shutil.move(archived.archive, archived.archive.with_name("away"))
    assert answers(server, archived.site)[1:] == (200, "")  # cached
    stop(server)
    server = serve(archived.database, *archived.options, *with_archive)
    assert "bring the archive's file back" in server.said(NOT_READ)[-1]["reason"]
    assert answers(server, archived.site) == (503, 200, "archive_away")
    assert report(server, archived.site, OLD) == (503, "archive_away")
    assert report(server, archived.site, NEW) == (201, "")
    stop(server)
    server = serve(archived.database, *archived.options, "--workers", "2")
    [warning] = server.said(NOT_READ)  # of the process that prepares, and of no worker
    assert "which this process was not given" in warning["reason"]
    assert answers(server, archived.site) == (410, 200, "entry_pruned")
    assert report(server, archived.site, OLD) == (503, "archive_away")
    assert report(server, archived.site, NEW) == (200, "")
    stop(server)


def answers(server: Server, site: Site) -> tuple[int, int, str]:
    """Returns the status of an old entry, that of a proof of it, and the code of the first."""
    log = f"{server.url}{P}/log"
    status, body = ask(f"{server.url}{P}/events/300", site.admin)
    proof, _ = ask(f"{log}/consistency?from=300&to={EVENTS}", site.admin)
    return status, proof, code(status, body)


def report(server: Server, site: Site, body: dict[str, str]) -> tuple[int, str]:
    status, answer = ask(f"{server.url}{P}/devices/d1/reports", site.admin, body)
    return status, code(status, answer)


def code(status: int, body: bytes) -> str:
    return msgspec.json.decode(body)["code"] if status >= 400 else ""


@pytest.mark.usefixtures("two_days_later")
def test_commands_read_the_archive_or_say_that_they_need_it(
    archived: Pruned, tmp_path: Path
) -> None:
    assert archived.prune().exit_code == DONE
    for command in (
        ("audit", "verify", "--project", "acme"),
        ("audit", "export", str(tmp_path / "copy"), "--project", "acme"),
        ("rebuild", "--project", "acme"),
    ):
        without = archived.known(*command, archive=False)
        assert without.exit_code in {FOUND_WRONG, COULD_NOT_RUN}, command
        assert "--archive" in without.out + without.said, command
        done = archived.known(*command)
        assert done.exit_code == DONE, done.out + done.said
    replay = archived.known("audit", "replay", "--project", "acme", archive=False)
    assert (replay.exit_code, "--archive" in replay.said) == (COULD_NOT_RUN, True)
    assert doctors(archived.database)["pruned"]["verdict"] == "fail"
    assert (
        doctors(archived.database, "--archive", str(archived.archive))["pruned"]["verdict"] == "ok"
    )


@pytest.mark.usefixtures("two_days_later")
def test_the_command_says_why_it_prunes_nothing(archived: Pruned) -> None:
    nowhere = in_process(archived.database, "archive", "prune", "--older-than", "1")
    assert nowhere.exit_code == COULD_NOT_RUN
    assert "Name the archive" in nowhere.said
    elsewhere = f"{archived.archive}x"
    wrong = in_process(
        archived.database, "--archive", elsewhere, "archive", "prune", "--older-than", "1"
    )
    assert wrong.exit_code == COULD_NOT_RUN
    assert f"no server has archived a log of this database in {elsewhere}. They are" in wrong.said
    assert f"archived in {archived.archive}: name that archive." in wrong.said
    nobody = archived.prune("--project", "nobody")
    assert nobody.exit_code == COULD_NOT_RUN
    assert "There is no project nobody" in nobody.said
    by_setting = in_process(
        *(archived.database, "--archive", str(archived.archive), "archive", "prune", "--dry-run"),
        FIRMTRAIL_ARCHIVE_KEEP_DAYS="1",
    )
    assert by_setting.exit_code == DONE
    assert "would be replaced" in by_setting.said
    (archived.archive / "acme/logs/1/tile/entries/003").write_bytes(b"")
    refused = archived.prune()
    assert refused.exit_code == FOUND_WRONG
    assert "tile/entries/003 is not what the database has" in refused.said


@pytest.mark.usefixtures("two_days_later")
def test_a_file_that_is_served_is_not_pruned(
    archived: Pruned, serve: Serve, back_end: object
) -> None:
    server = serve(archived.database, *archived.options, "--archive", str(archived.archive))
    done = archived.prune()
    if back_end is None:
        assert done.exit_code == COULD_NOT_RUN
        assert "stop that server while the file is pruned" in done.said
    else:
        assert done.exit_code == DONE
        assert answers(server, archived.site) == (200, 200, "")
    stop(server)


@pytest.fixture
async def service_url(database_url: str, back_end: object) -> str:
    """The database as the role that serves reaches it; a file has no roles."""
    if back_end is None:
        return database_url
    await create_role(database_url, SERVICE)
    await migrate(migrating(database_url), INSTANCE, Roles(service=SERVICE))
    return database_url.replace("postgres@", f"{SERVICE}@")


@pytest.mark.usefixtures("two_days_later")
def test_the_role_that_serves_may_not_prune(
    archived: Pruned, service_url: str, back_end: object
) -> None:
    done = archived.prune(database=service_url)
    if back_end is None:
        assert (done.exit_code, archived.pruned() > 0) == (DONE, True)
        return
    assert done.exit_code == COULD_NOT_RUN
    assert "run the command as the owner of the database" in done.said
    assert archived.pruned() == 0


def test_a_database_that_no_server_has_archived_is_not_pruned(site: Site, tmp_path: Path) -> None:
    archive = ("--archive", str(tmp_path / "archive"))
    done = in_process(site.database, *archive, "archive", "prune", "--older-than", "1")
    assert done.exit_code == COULD_NOT_RUN
    assert f"A server with --archive {archive[1]} adds each log that has 256 entries" in done.said
