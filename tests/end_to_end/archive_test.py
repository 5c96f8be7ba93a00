"""A server copies its logs to an archive, which is a whole log whenever the server is killed."""

import os
from pathlib import Path

import pytest

from firmtrail.publishing import signing_key
from tests.end_to_end.archived import COULD_NOT_RUN, WELL, await_archived
from tests.end_to_end.asking import ask
from tests.end_to_end.audits import static_server
from tests.end_to_end.command import firmtrail, in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.doctors import doctors
from tests.end_to_end.processes import ENVIRONMENT, Server
from tests.end_to_end.site import P, Site, new_site
from tests.s3 import BUCKET

KILLS = 3


class Reporting:
    """Reports of one device, on any server."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._sent = 0

    def send(self, server: Server, count: int) -> None:
        numbers = range(self._sent, self._sent + count)
        self._sent += count
        reports = [{"device": "d1", "version": "1.0.0", "report_id": f"r{n}"} for n in numbers]
        status, answer = ask(f"{server.url}{P}/reports", self._site.admin, reports)
        assert status == 201, answer


def audited(database: str, *what: str) -> list[dict[str, object]]:
    done = in_process(database, "audit", "verify", *what, "--json")
    assert done.exit_code == WELL, done.out + done.said
    logs: list[dict[str, object]] = done.json["logs"]
    return logs


@pytest.fixture
async def on_sqlite(sqlite_url: str) -> Reporting:
    return Reporting(await new_site(sqlite_url, ["d1"]))


@pytest.fixture
async def on_postgres(postgres_url: str) -> Reporting:
    return Reporting(await new_site(postgres_url, ["d1"]))


def test_a_killed_server_leaves_a_whole_archive_and_continues_it(
    serve: Serve, sqlite_url: str, on_sqlite: Reporting, tmp_path: Path
) -> None:
    reporting, archive = on_sqlite, tmp_path / "archive"
    server = serve(sqlite_url, "--archive", str(archive))
    sent = 0
    for _ in range(KILLS):
        for _ in range(3):
            reporting.send(server, 900)
            sent += 900
        server.kill()
        if (archive / "acme" / "logs" / "1" / "checkpoint").exists():
            audited(sqlite_url, str(archive / "acme"))
        server.start()
    await_archived(sqlite_url, str(archive / "acme"), sent // 256 * 256)
    found = doctors(sqlite_url, "--archive", str(archive))["archive"]
    assert found["verdict"] in {"ok", "info"}, found
    assert b"firmtrail_archive_waiting_events" in ask(f"{server.url}/metrics")[1]
    with static_server(archive / "acme" / "logs" / "1") as url:
        audited(sqlite_url, "--url", url, "--key", str(archive / "acme" / "logs" / "1" / "key"))


def test_several_processes_archive_into_a_bucket(
    serve: Serve,
    postgres_url: str,
    on_postgres: Reporting,
    tmp_path: Path,
    s3_client: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setitem(ENVIRONMENT, name, os.environ[name])
    key = tmp_path / "key"
    signing_key.create(key)
    reporting, where = on_postgres, f"s3://{BUCKET}/archive"
    published = ("--signing-key-file", str(key), "--checkpoints-file", str(tmp_path / "points"))
    server = serve(postgres_url, *published, "--archive", where, "--workers", "2")
    for _ in range(4):
        reporting.send(server, 700)
    server.kill()
    server.start()
    await_archived(postgres_url, f"{where}/acme", 2800 // 256 * 256)
    assert audited(postgres_url, f"{where}/acme/logs/1")


def test_an_archive_needs_what_is_signed_and_a_place_to_write(
    postgres_url: str, sqlite_url: str, tmp_path: Path
) -> None:
    done = firmtrail(
        postgres_url, "serve", "--no-publishing", "--archive", str(tmp_path / "archive")
    )
    assert (done.exit_code, "exclude each other" in done.said) == (2, True)
    (tmp_path / "file").write_text("")
    done = firmtrail(sqlite_url, "serve", "--port", "0", "--archive", str(tmp_path / "file"))
    assert (done.exit_code, "is not a folder" in done.said) == (COULD_NOT_RUN, True), done.said


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_place_without_an_archive_is_named(
    sqlite_url: str, tmp_path: Path, s3_client: object, kind: str
) -> None:
    where = str(tmp_path) if kind == "folder" else f"s3://{BUCKET}/none"
    done = in_process(sqlite_url, "audit", "verify", where)
    assert (done.exit_code, "contains no log" in done.said) == (COULD_NOT_RUN, True), done.said
    assert "256 events" in done.said


def test_a_key_that_is_neither_a_line_nor_a_file_is_named(sqlite_url: str, tmp_path: Path) -> None:
    done = in_process(sqlite_url, "audit", "verify", str(tmp_path), "--key", "nokey")
    assert (done.exit_code, "there is no such file" in done.said) == (COULD_NOT_RUN, True)


def test_the_doctor_names_an_archive_that_can_not_be_written(
    sqlite_url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert doctors(sqlite_url, "--archive", str(tmp_path / "file"))["archive"]["verdict"] == "fail"
    assert "archive" not in doctors(sqlite_url)
