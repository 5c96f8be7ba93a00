"""An erased text is gone; its entry and every proof stay as before."""

from pathlib import Path
from typing import Any

from firmtrail.eventstore import log, merkle
from firmtrail.recording.recorder import Recorder
from tests.databases import new_log, opened, read, write
from tests.fleet import receipts, register, report
from tests.people import recorded
from tests.service.routes import assert_is_problem
from tests.service.site import D, P, Site

TEXT = "flash failed, call Ann on 0151 2345 " + "x" * 3_000


async def fail(site: Site, **members: Any) -> int:
    body = {"version": "1.4.0", "status": "failed", "detail": TEXT, **members}
    position: int = (await site.report(body)).json["position"]
    return position


async def details(site: Site) -> list[str | None]:
    """Returns the details of the device's reports, the newest first."""
    page = await site.get(f"{D}/history?progress=true", "viewer")
    return [line["detail"] for line in page.json["items"]]


async def frontier_of_entries(site: Site, log_id: int) -> merkle.Frontier:
    db = site.services.db
    head = await log.head(db, log_id)
    leaves = [
        merkle.leaf_hash(text.encode())
        async for page in log.read(db, log_id, 0, head.size)
        for _, _, text in page
    ]
    assert head.frontier == merkle.extend((), 0, leaves).frontier
    return head.frontier


async def test_an_erased_text_is_gone_and_its_entry_stays(site: Site) -> None:
    position = await fail(site, report_id="a")
    other = await fail(site, report_id="b")
    assert await details(site) == [TEXT, TEXT]
    before = (await site.get(f"{P}/events?to={other + 1}")).body
    deleted = await site.call("DELETE", f"{P}/events/{position}/text", caller="admin")
    assert (deleted.status, deleted.body) == (204, b"")
    assert await details(site) == [TEXT, "erased"]
    assert (await site.get(f"{P}/events?to={other + 1}")).body == before
    await frontier_of_entries(site, site.log_id)
    kept = await read(site.services.db, "SELECT position FROM texts ORDER BY position")
    assert [row[0] for row in kept] == [other]


async def test_the_erasure_is_itself_an_event_and_happens_once(site: Site) -> None:
    position = await fail(site)
    path = f"{P}/events/{position}/text"
    for status in (204, 404, 404):
        answer = await site.call("DELETE", path, caller="admin")
        assert answer.status == status
    [(stream, event)] = (await recorded(site.services.db, site.log_id))[position + 1 :]
    assert (stream, repr(event)) == (
        f"event/{position}",
        f"TextErased(position={position}, log=None)",
    )
    entry = (await site.get(f"{P}/events/{position + 1}")).json
    assert entry["data"] == {"position": position}
    assert entry["actor"].startswith("token/")


async def test_only_an_admin_erases_a_text_and_only_one_that_exists(site: Site) -> None:
    position = await fail(site)
    for caller in ("viewer", "operator", "auditor", "gateway"):
        answer = await site.call("DELETE", f"{P}/events/{position}/text", caller=caller)
        assert_is_problem(answer, 403)
    for path in (
        "/events/0",
        f"/events/{position + 1}",
        "/events/x",
        "/logs/2/events/0",
        "/logs/1/events/0",
    ):
        answer = await site.call("DELETE", f"{P}{path}/text", caller="admin")
        assert_is_problem(answer, 404)
    assert await details(site) == [TEXT]


async def test_the_newest_log_records_the_erasure_of_an_older_logs_text(site: Site) -> None:
    db, recorder, old = site.services.db, site.services.recorder, site.log_id
    position = await fail(site)
    newest = await new_log(db)
    await write(db, "UPDATE log_heads SET closed = 1 WHERE log_id = $1", old)
    await write(db, "UPDATE projects SET log_id = $1 WHERE project = 'acme'", newest)
    await register(recorder, newest, *(f"d{n}" for n in range(position)))
    [receipt] = await receipts(recorder, newest, report(detail=TEXT))
    assert receipt.position == position
    before, frontier = await log.head(db, old), await frontier_of_entries(site, old)
    path = f"{P}/logs/1/events/{position}/text"
    assert (await site.call("DELETE", path, caller="admin")).status == 204
    assert_is_problem(await site.call("DELETE", path, caller="admin"), 404)
    after = await log.head(db, old)
    assert after._replace(now_ms=before.now_ms) == before
    assert await frontier_of_entries(site, old) == frontier
    kept = await read(db, "SELECT log_id, position FROM texts")
    assert [tuple(row) for row in kept] == [(newest, position)]
    [(stream, event)] = (await recorded(db, newest))[position + 1 :]
    assert stream == f"log/1/event/{position}"
    assert repr(event) == f"TextErased(position={position}, log=1)"


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


async def test_nothing_of_an_erased_text_is_left_in_the_file(sqlite_url: str) -> None:
    """Closes the last connection first: SQLite then copies its write-ahead log into the file."""
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    async with opened(sqlite_url) as db:
        log_id = await new_log(db)
        recorder = Recorder(db)
        await register(recorder, log_id, "d1")
        await receipts(recorder, log_id, report(detail=TEXT), report(seq=1, detail="kept"))
    assert TEXT[-500:].encode() in bytes_of(path)
    async with opened(sqlite_url) as db:
        async with db.transaction() as tx:
            [erased] = await tx.run(log.erase_text(log_id, 1))
        assert erased
    left = bytes_of(path)
    assert b"kept" in left
    for part in (TEXT[:20], TEXT[20:36], TEXT[-100:]):
        assert part.encode() not in left
