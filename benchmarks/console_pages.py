"""Measures the pages of the console, as one person opens them one after another, and what open
fleet pages cost devices.

An open fleet page reads its live part again every ten seconds. Blocks of rounds in which a hundred
of them are open alternate with blocks in which none is.
"""

import http.client
import tempfile
import time
from collections.abc import Iterator
from statistics import median
from urllib.parse import urlencode

from msgspec.structs import replace

from benchmarks import fleet, load, mixed, processes
from benchmarks.fleet import Fleet
from benchmarks.mixed import MixedRollouts
from benchmarks.rounds import Measure
from benchmarks.table import Bound, Row

FLEET_FIRST_MS = Bound(300, 150, lower_is_better=True)
FLEET_MS = Bound(50, 25, lower_is_better=True)
PAGE_MS = Bound(100, 50, lower_is_better=True)

READS, READ_S = 30, 5.0

VIEWERS, LIVE_EVERY_S = 100, 10
VIEWED_S = 25
"""How long the pages of a block are open, with the ten seconds in which they are opened."""
UNIT = "reports/s"
BLOCKS, BLOCK_ROUNDS = 3, 3
VIEWED = Bound(0.95, 0.98)
"""The rate of reports while the pages are open, as a share of the rate without them."""

C = f"/console/{fleet.PROJECT}"
NOT_USED = 1 << 32
"""A number higher than those of the reports that fill a fleet."""


def run(devices: int) -> tuple[list[Row], list[str]]:
    """Measures a fleet of so many devices that differ; returns the rows and no faults."""
    with tempfile.TemporaryDirectory(prefix="firmtrail-bench-") as folder:
        database = f"sqlite:///{folder}/fleet.db"
        processes.prepare(database)
        rollouts = mixed.fill(database, devices)
        with processes.firmtrail(database) as server:
            rows = [
                *measure(server.port, devices, devices),
                *steered(server.port, rollouts),
                *viewed(server.port, Fleet(devices, first_report=NOT_USED)),
            ]
    return rows, []


def measure(port: int, devices: int, size: int) -> Iterator[Row]:
    """Measures the pages of a server with so many devices; `size` is a past size of its log."""
    cookie = _sign_in(port)
    first = _duration_ms(port, C, cookie)
    yield Row(name="page: fleet, the first time", value=first, unit="ms", bound=FLEET_FIRST_MS)
    device, past = f"/devices/{fleet.name(devices // 2)}", f"@{size}"
    yield _row(port, cookie, ("fleet", ""), FLEET_MS)
    yield _row(port, cookie, ("fleet as of an event", f"?as_of={past}"), FLEET_FIRST_MS)
    for page in (
        ("devices", "/devices"),
        ("devices of a version", f"/devices?version={fleet.VERSIONS[0]}"),
        ("devices of a cohort of few", "/devices?cohort=canary"),
        ("devices with a tag of few", "/devices?tag=lab"),
        ("devices that failed", "/devices?failing=true"),
        ("devices whose names begin so", f"/devices?q={fleet.name(devices - 1)[:-2]}"),
        ("the count of silent devices", "/devices?silent_for=604800&part=count"),
        ("devices as of an event", f"/devices?as_of={past}"),
        ("device", device),
        ("device as of an event", f"{device}?as_of={past}"),
        ("search", f"/search?q={fleet.name(devices // 3)[:-2]}&part=matches"),
        ("log", "/log"),
        ("log, events of a rare type", "/log?type=Halted"),
        ("an entry of the log", f"/log/1/{size}"),
    ):
        yield _row(port, cookie, page)


def steered(port: int, rollouts: MixedRollouts) -> Iterator[Row]:
    """Measures the pages of rollouts, recalls, and devices of the fleet of `mixed`."""
    cookie = _sign_in(port)
    whole, recall = f"/rollouts/{rollouts.to_model}", "/releases/m1/{}/recall"
    for page in (
        ("devices of an attribute and a cohort", "/devices?attribute=region:r1&cohort=canary"),
        ("rollouts", "/rollouts"),
        ("rollout to a model", whole),
        ("rollout to a cohort of many", f"/rollouts/{rollouts.to_cohort}"),
        ("rollout to a tag of many", f"/rollouts/{rollouts.to_tag}"),
        ("a rollout's devices that failed", f"{whole}/devices?state=failed"),
        ("a rollout's devices that another order stops", f"{whole}/devices?state=held"),
        ("a new rollout to a tag", f"/rollouts/start?model=m1&version={mixed.NEWEST}&tag=eu"),
        ("release", f"/releases/m1/{mixed.BAD}"),
        ("recall of a version of many", recall.format(mixed.BAD)),
        ("recall of a version of few", recall.format(mixed.RARE)),
    ):
        yield _row(port, cookie, page)


def _row(port: int, cookie: str, page: tuple[str, str], bound: Bound = PAGE_MS) -> Row:
    """Measures a page, which is its (name, path)."""
    name, path = page
    took = _durations_ms(port, f"{C}{path}", cookie)
    row = Row(name=f"page: {name}", value=median(took), unit="ms", bound=bound)
    return replace(row, p99_ms=max(took))


def viewed(port: int, devices: Fleet) -> Iterator[Row]:
    """Measures single reports without and with a hundred open fleet pages."""
    cookie = _sign_in(port)
    unseen = Measure("reports, no page is open", port, devices.singles(), unit=UNIT)
    seen = Measure(f"reports, {VIEWERS} fleet pages open", port, devices.singles(), unit=UNIT)
    for _ in range(BLOCKS):
        for _ in range(BLOCK_ROUNDS):
            unseen.round()
        with load.background(_viewers(port, cookie)) as viewers:
            time.sleep(LIVE_EVERY_S)
            for _ in range(BLOCK_ROUNDS):
                seen.round()
            assert viewers.poll() is None, "the pages were closed too early"
    yield unseen.row()
    yield seen.row(unseen, VIEWED)


def _viewers(port: int, cookie: str) -> load.Job:
    """Returns the requests of the open pages; their first ones are spread over ten seconds."""
    request = (
        f"GET {C}?part=live HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n"
        "Accept-Encoding: gzip\r\n\r\n"
    )
    return load.Job(
        port=port,
        requests=[request.encode()] * VIEWERS * VIEWED_S,
        keeps=False,
        connections=VIEWERS,
        measured_s=VIEWED_S,
        interval_s=LIVE_EVERY_S,
    )


def _durations_ms(port: int, path: str, cookie: str) -> list[float]:
    began, took = time.perf_counter(), [_duration_ms(port, path, cookie)]
    while len(took) < READS and time.perf_counter() < began + READ_S:
        took.append(_duration_ms(port, path, cookie))
    return took


def _duration_ms(port: int, path: str, cookie: str) -> float:
    headers = {"Cookie": cookie, "Accept-Encoding": "gzip"}
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=processes.CALL_S_MAX)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    took_ms = (time.perf_counter() - began) * 1000
    connection.close()
    assert answer.status == 200, (path, answer.status, body)
    return took_ms


def _sign_in(port: int) -> str:
    """Signs the administrator in; returns the cookie of the session."""
    form = urlencode({"email": processes.EMAIL, "password": processes.PASSWORD})
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Sec-Fetch-Site": "same-origin",
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=processes.CALL_S_MAX)
    connection.request("POST", "/console/sign-in", form, headers)
    answer = connection.getresponse()
    cookie, body = answer.getheader("Set-Cookie"), answer.read()
    connection.close()
    assert answer.status == 303 and cookie is not None, body
    return cookie.partition(";")[0]
