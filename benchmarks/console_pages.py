"""Measures the pages of the console, as one person opens them one after another."""

import http.client
import time
from collections.abc import Iterator
from statistics import median
from urllib.parse import urlencode

from msgspec.structs import replace

from benchmarks import fleet, processes
from benchmarks.table import Bound, Row

FLEET_FIRST_MS = Bound(300, 150, lower_is_better=True)
FLEET_MS = Bound(50, 25, lower_is_better=True)
PAGE_MS = Bound(100, 50, lower_is_better=True)

READS, READ_S = 30, 5.0

C = f"/console/{fleet.PROJECT}"


def measure(port: int, devices: int, size: int) -> Iterator[Row]:
    """Measures the pages of a server with so many devices; `size` is a past size of its log."""
    cookie = _sign_in(port)
    first = _duration_ms(port, C, cookie)
    yield Row(name="page: fleet, the first time", value=first, unit="ms", bound=FLEET_FIRST_MS)
    device, past = f"/devices/{fleet.name(devices // 2)}", f"@{size}"
    for name, path, bound in (
        ("fleet", "", FLEET_MS),
        ("fleet as of an event", f"?as_of={past}", FLEET_FIRST_MS),
        ("devices", "/devices", PAGE_MS),
        ("devices of a version", f"/devices?version={fleet.VERSIONS[0]}", PAGE_MS),
        ("devices as of an event", f"/devices?as_of={past}", PAGE_MS),
        ("device", device, PAGE_MS),
        ("device as of an event", f"{device}?as_of={past}", PAGE_MS),
        ("search", f"/search?q={fleet.name(devices // 3)[:-2]}&part=matches", PAGE_MS),
        ("log", "/log", PAGE_MS),
        ("an entry of the log", f"/log/1/{size}", PAGE_MS),
    ):
        took = _durations_ms(port, f"{C}{path}", cookie)
        row = Row(name=f"page: {name}", value=median(took), unit="ms", bound=bound)
        yield replace(row, p99_ms=max(took))


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
