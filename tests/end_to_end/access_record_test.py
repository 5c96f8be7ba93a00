"""An operator trims the access record on the command line, and the audit stays clean."""

import pytest

from firmtrail.access.reads import Read, Reads
from firmtrail.commands.access_record import seal
from firmtrail.recording.recorder import Recorder
from tests.databases import opened
from tests.end_to_end.command import in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.site import new_site

WELL, USAGE = 0, 2
TRIM = ("log", "trim-access-record", "--project", "acme", "--older-than")


@pytest.fixture
async def database(database_url: str) -> str:
    """Holds three sealed reads of long ago, and a new one."""
    site = await new_site(database_url, ["d1"])
    async with opened(database_url) as db:
        recorder, reads = Recorder(db), Reads(db)
        for number in range(4):
            read = Read("acme", number, f"r{number}", "user/u_1", "/events", "{}")
            await reads.add(read._replace(at_ms=1 << 50) if number == 3 else read)
            if number == 2:
                await recorder.act(site.log_id, seal())
        await recorder.close()
    return database_url


def test_the_operator_deletes_old_records_of_reads(database: str) -> None:
    done = in_process(database, *TRIM, "400")
    assert done.exit_code == WELL, done.said
    assert "3 records of reads of project acme were deleted." in done.said
    assert "the first 3 are gone" in done.said
    assert "0 records" in in_process(database, *TRIM, "400").said
    done = in_process(database, "audit", "verify", "--project", "acme")
    assert done.exit_code == WELL, done.out
    assert in_process(database, *TRIM, "0").exit_code == USAGE


def test_a_running_server_deletes_them_too(sqlite_url: str, serve: Serve) -> None:
    assert in_process(sqlite_url, "project", "add", "acme").exit_code == WELL
    serve(sqlite_url)
    done = in_process(sqlite_url, *TRIM, "1")
    assert (done.exit_code, "the first 0 are gone" in done.said) == (WELL, True), done.said
