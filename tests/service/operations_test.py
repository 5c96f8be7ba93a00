"""Tests health, metrics and documentation of a server, and that nothing secret is written."""

import asyncio
import re

from structlog.testing import capture_logs

from firmtrail.database.database import Database
from firmtrail.http import errors
from firmtrail.http.api import operations
from firmtrail.http.fleet_metrics import FleetTotals
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.repeats import Repeats
from tests.contract.migrations import run_outside
from tests.service.routes import assert_is_problem
from tests.service.site import D, Site


async def test_a_server_is_ready_until_it_drains(site: Site) -> None:
    assert (await site.call("GET", "/healthz")).json == {"status": "alive"}
    assert (await site.call("GET", "/readyz")).json == {"status": "ready"}
    site.services.readiness.is_draining = True
    problem = assert_is_problem(await site.call("GET", "/readyz"), 503)
    assert "draining" in problem["detail"]
    assert (await site.call("GET", "/healthz")).status == 200


async def test_the_root_leads_a_browser_to_the_console(site: Site) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    async with site.client.get("/", headers=browser, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/console")
        assert "Accept" in answer.headers["Vary"]
    async with site.client.get("/", headers=browser) as page:
        assert (page.status, page.content_type) == (200, "text/html")


async def test_the_root_answers_a_program_with_an_index(site: Site) -> None:
    for accept in ("*/*", "application/json", ""):
        answer = await site.call("GET", "/", headers={"Accept": accept} if accept else {})
        assert answer.status == 200
        assert (answer.json["service"], answer.json["documentation"]) == ("firmtrail", "/docs")
        assert answer.json["console"] == "/console"
        for path in (answer.json["openapi"], answer.json["ready"], answer.json["metrics"]):
            assert (await site.call("GET", path)).status == 200
    assert (await site.call("POST", "/")).status == 405


async def test_the_death_of_a_task_shows_in_readyz(site: Site) -> None:
    site.services.readiness.tasks["seen"].cancel()
    await site.call("GET", "/healthz")
    problem = assert_is_problem(await site.call("GET", "/readyz"), 503)
    assert "seen" in problem["detail"]


async def test_the_error_that_ends_a_task_is_logged(site: Site) -> None:
    async def die() -> None:
        raise KeyError("a bug")

    with capture_logs() as lines:
        site.services.readiness.keep("notices", die())
        problem = assert_is_problem(await site.call("GET", "/readyz"), 503)
    assert "notices" in problem["detail"]
    [line] = [line for line in lines if line["event"] == "bug"]
    assert line["task"] == "notices"
    assert isinstance(line["exc_info"], KeyError)


async def test_requests_are_counted_by_route(site: Site) -> None:
    await site.report({"version": "1.0.0"})
    text = (await site.call("GET", "/metrics")).body.decode()
    route = "/api/v1/projects/{project}/devices/{device}/reports"
    assert f'method="POST",protocol="native",route="{route}",status="201"' in text
    assert "d1" not in text


async def test_a_scrape_reports_readiness_while_a_table_is_missing(
    site: Site, database_url: str
) -> None:
    """The fleet is reported again as soon as the tables are back."""
    tables = ("alembic_version", "fleet_versions")
    away = [f"ALTER TABLE {table} RENAME TO {table}_elsewhere" for table in tables]
    back = [f"ALTER TABLE {table}_elsewhere RENAME TO {table}" for table in tables]
    await run_outside(database_url, *away)
    problem = assert_is_problem(await site.call("GET", "/readyz"), 503)
    assert "schema" in problem["detail"]
    for _ in range(2):
        scrape = await site.call("GET", "/metrics")
        assert scrape.status == 200
        assert b"\nfirmtrail_ready 0.0" in scrape.body
        assert b"\nfirmtrail_devices " not in scrape.body
    await run_outside(database_url, *back)
    assert b"\nfirmtrail_devices " in (await site.call("GET", "/metrics")).body


async def test_closing_the_totals_ends_a_read_for_a_scrape(db: Database) -> None:
    totals = FleetTotals(db)
    scrape = asyncio.create_task(totals.text())
    await asyncio.sleep(0)
    await totals.close()
    assert await scrape == b""


async def test_the_page_loads_nothing_from_elsewhere(site: Site) -> None:
    page = await site.call("GET", "/docs")
    policy = page.headers["Content-Security-Policy"]
    for directive in ("default-src 'none'", "script-src 'self'", "style-src 'self'"):
        assert directive in policy
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert loaded
    assert not [link for link in loaded if "//" in link]
    for name in operations.DOCS_FILES:
        assert (await site.call("GET", f"/docs/{name}")).status == 200
    assert_is_problem(await site.call("GET", "/docs/..%2Fvendor.toml"), 404)


async def test_every_answer_has_its_own_request_id(site: Site) -> None:
    ids = [(await site.get(D)).headers["X-Request-Id"] for _ in range(3)]
    assert len(set(ids)) == 3
    assert ids == sorted(ids)


async def test_a_refused_log_writes_one_line_a_minute(site: Site) -> None:
    site.services.recorder.minimum_sizes.acknowledge(LogName("acme", 1), 1_000_000)
    errors._repeats = Repeats()
    with capture_logs() as lines:
        for number in range(20):
            answer = await site.report({"version": f"1.0.{number}"})
            assert (answer.status, answer.json["code"]) == (503, "log_refused")
    assert len([line for line in lines if line["event"] == "unavailable"]) == 1
    assert len([line for line in lines if line["event"] == "request"]) == 1


async def test_a_scrape_checks_readiness_and_the_stores_outside(site: Site) -> None:
    """No request has called /readyz before."""
    text = (await site.call("GET", "/metrics")).body.decode()
    for name in ("ready", "publishing", "checkpoints_up", "artifacts_up"):
        assert f"\nfirmtrail_{name} 1.0" in text
    site.services.recorder.minimum_sizes.refused[LogName("gone", 1)] = (
        "it ends before its checkpoint"
    )
    site.services.readiness.is_draining = True
    text = (await site.call("GET", "/metrics")).body.decode()
    assert "\nfirmtrail_ready 0.0" in text
    assert "\nfirmtrail_refused_logs 1.0" in text
