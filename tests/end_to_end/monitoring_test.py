"""Tests the metrics, the alerts and the dashboard with Prometheus itself."""

import asyncio
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from tests.databases import migrate_now
from tests.end_to_end.conftest import Serve
from tests.end_to_end.monitoring import answers, until_ready
from tests.end_to_end.site import P, new_site, post
from tests.ports import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "firmtrail.json"
EVERY_S = 15
SAMPLES = 240
"""An hour of scrapes."""
GRID_WIDTH = 24
"""The columns of every dashboard in Grafana."""


def run(*command: object, text: str = "") -> str:
    assert shutil.which(str(command[0])), f"{command[0]} is needed: apt-get install prometheus"
    arguments = [str(each) for each in command]
    done = subprocess.run(
        arguments, input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_alerts_fire_for_their_faults_and_for_nothing_else() -> None:
    rules = DEPLOY / "prometheus"
    run("promtool", "check", "config", rules / "prometheus.yml")
    run("promtool", "test", "rules", rules / "alerts_test.yml")


def test_every_alert_has_a_test_and_a_line_in_the_docs() -> None:
    named = set(re.findall(r"alert: (\w+)", (DEPLOY / "prometheus" / "alerts.yml").read_text()))
    tested = (DEPLOY / "prometheus" / "alerts_test.yml").read_text().split("each fault")
    docs = (DEPLOY.parent / "docs" / "monitoring.md").read_text()
    for alert in named:
        assert all(alert in each for each in (*tested, docs)), alert


def test_the_dashboard_is_what_its_script_makes(tmp_path: Path) -> None:
    for file in (DASHBOARD, DASHBOARD.with_name("make_dashboard.py")):
        shutil.copy(file, tmp_path)
    made = tmp_path / DASHBOARD.name
    made.unlink()
    run("python3", tmp_path / "make_dashboard.py")
    assert made.read_text() == DASHBOARD.read_text()


def test_the_panels_of_the_dashboard_fit_into_the_grid_next_to_each_other() -> None:
    places = [each["gridPos"] for each in msgspec.json.decode(DASHBOARD.read_bytes())["panels"]]
    assert max(place["x"] + place["w"] for place in places) <= GRID_WIDTH
    taken = Counter(
        (place["x"] + right, place["y"] + down)
        for place in places
        for right in range(place["w"])
        for down in range(place["h"])
    )
    assert set(taken.values()) == {1}


@pytest.fixture
async def scraped(serve: Serve, tmp_path: Path) -> list[str]:
    """The metrics of a server before and after it has worked."""
    database = f"sqlite:///{tmp_path / 'f.db'}"
    await asyncio.to_thread(migrate_now, database)
    site = await new_site(database, ["d1"])
    server = await asyncio.to_thread(serve, database)
    own, device = site.secrets["d1"], f"{server.url}{P}/devices/d1"
    async with ClientSession() as session:
        before = await scrape(session, server.url)
        for number in range(20):
            report = {"version": f"1.0.{number}"}
            assert (await post(session, f"{device}/reports", own, report)).status == 201
        assert (await post(session, f"{device}/reports", "wrong" * 9, report)).status == 401
        return [before, await scrape(session, server.url)]


async def scrape(session: ClientSession, url: str) -> str:
    async with session.get(f"{url}/metrics") as response:
        return await response.text()


def an_hour_of(before: str, after: str, begin_s: float) -> Iterator[str]:
    """Yields the metrics of an hour in which each rose evenly, as OpenMetrics text."""
    labels = 'job="firmtrail",instance="firmtrail:8080"'
    old = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(before)
        for sample in family.samples
    }
    for family in text_string_to_metric_families(after):
        yield f"# TYPE {family.name} unknown"
        for sample in family.samples:
            first = old.get((sample.name, *sorted(sample.labels.items())), 0.0)
            own = "".join(f',{key}="{value}"' for key, value in sample.labels.items())
            for number in range(SAMPLES):
                value = first + (sample.value - first) * number / SAMPLES
                yield f"{sample.name}{{{labels}{own}}} {value} {begin_s + EVERY_S * number}"
    yield "# EOF"


@pytest.mark.slow
def test_each_query_of_the_dashboard_finds_data_of_an_hour(
    scraped: list[str], tmp_path: Path
) -> None:
    assert run("promtool", "check", "metrics", text=scraped[1]) == ""
    begin_s = int(time.time()) - 2 * SAMPLES * EVERY_S
    hour = tmp_path / "hour.txt"
    hour.write_text("\n".join(an_hour_of(scraped[0], scraped[1], begin_s)) + "\n")
    run("promtool", "tsdb", "create-blocks-from", "openmetrics", hour, tmp_path / "data")
    (tmp_path / "empty.yml").write_text("global: {}\n")
    port = free_port()
    options = ("--config.file", tmp_path / "empty.yml", "--storage.tsdb.path", tmp_path / "data")
    listens = ("--web.listen-address", f"127.0.0.1:{port}")
    with (tmp_path / "prometheus.log").open("wb") as log:
        command = [str(each) for each in ("prometheus", *options, *listens)]
        prometheus = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until_ready(f"http://127.0.0.1:{port}")
            panels = msgspec.json.decode(DASHBOARD.read_bytes())["panels"]
            targets = [target for panel in panels for target in panel.get("targets", ())]
            assert len(targets) > 20
            for target in targets:
                query = target["expr"].replace("$job", ".*").replace("$__rate_interval", "5m")
                end_s = begin_s + EVERY_S * (SAMPLES - 1)
                found = answers(f"http://127.0.0.1:{port}", query, end_s)
                assert found, query
                assert all(each["value"][1] != "NaN" for each in found), query
        finally:
            prometheus.terminate()
            prometheus.wait(20)
