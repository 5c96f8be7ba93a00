"""Tests that no body, however it was made, keeps other requests from the event loop for long.

The tests measure the processor time of the loop's thread between two waits for events, so other
processes of the machine do not count. The limit is 50 ms. On a slow machine it is five times as
long as some work takes that takes 10 ms on a common one.
"""

import msgspec
import pytest

from tests.service.site import D, P, Site
from tests.service.stalls import (
    STALL_S_MAX,
    TURNS_MAX,
    Made,
    Sender,
    Stalls,
    array,
    known_work_s,
    repeated,
    without_collections,
)

REPORTS, SKIPPING, DEVICES = f"{D}/reports", f"{D}/reports?faulty=skip", f"{P}/devices"


def members(count: int) -> bytes:
    return b",".join(b'"m%d":1' % n for n in range(count))


def good_reports(turn: int) -> bytes:
    """Returns the longest array of reports that the route takes; they are new in each turn."""
    moment = "2026-01-01T00:00:{:02}.{:03}Z"
    return msgspec.json.encode(
        [
            {
                "version": "1.4.0",
                "report_id": f"r{turn}-{n}",
                "occurred_at": moment.format(n % 60, n),
            }
            | {"detail": "what the device says " * 5}
            for n in range(1_000)
        ]
    )


def devices(turn: int) -> bytes:
    """Returns as many devices as the route takes; they are new in each turn."""
    return msgspec.json.encode(
        [
            {"device": f"n{turn}-{n}", "model": "m", "tags": ["a", "b", f"t{n}"]}
            for n in range(10_000)
        ]
    )


def known_devices(_turn: int) -> bytes:
    return devices(0)


FAULTY = b'{"seq":-1,"status":"x","report_id":" ","occurred_at":"x","version":"x","detail":1}'
FULL = b'[{"version":"1.0.0","detail":"%b"}]'

BODIES: dict[
    str, tuple[str, bytes | Made, int]
] = {  # a name -> the path, the body, and the status of the answer
    "1.4 million items, skipping": (SKIPPING, array(b"{}", 1_398_000), 413),
    "1.4 million items": (REPORTS, array(b"{}", 1_398_000), 413),
    "a million numbers": (f"{P}/reports", array(b"1", 2_000_000), 413),
    "200 000 good reports, the last faulty": (
        REPORTS,
        array(b'{"version":"1.0.0"}', 199_999)[:-1] + b",{}]",
        413,
    ),
    "1 000 good reports, the last faulty": (
        REPORTS,
        array(b'{"version":"1.0.0"}', 999)[:-1] + b",{}]",
        422,
    ),
    "only faulty items": (SKIPPING, array(FAULTY, 1_000), 200),
    "faulty items of many members": (SKIPPING, array(b"{" + members(400) + b"}", 900), 200),
    "an item of many members": (REPORTS, b'[{"version":"1.0.0",' + members(300_000) + b"}]", 201),
    "a faulty item of many members": (REPORTS, b"[{" + members(300_000) + b"}]", 422),
    "a member given often": (
        REPORTS,
        b"[{" + b'"version":"1.0.4",' * 230_000 + b'"status":"running"}]',
        201,
    ),
    "a member given often, at last faulty": (
        SKIPPING,
        b"[{" + b'"version":"1.0.4",' * 230_000 + b'"version":"x"}]',
        200,
    ),
    "an array in an item": (
        SKIPPING,
        b'[{"version":"1.0.1","x":' + array(b"0", 2_000_000) + b"}]",
        201,
    ),
    "one long text": (REPORTS, FULL.replace(b"1.0.0", b"1.0.2") % (b"\\u00e9" * 690_000), 201),
    "halves of surrogate pairs": (SKIPPING, FULL % (b"\\ud800" * 90_000), 200),
    "backslashes": (REPORTS, FULL % (b"\\\\" * 2_000_000 + b"\\ud800"), 422),
    "NUL in all items": (
        SKIPPING,
        array(b'{"version":"1.0.0","detail":"' + b"\\u0000" * 600 + b'"}', 1_000),
        200,
    ),
    "leap seconds": (
        REPORTS,
        array(b'{"version":"1.0.3","occurred_at":"2016-12-31T23:59:60Z"}', 1_000),
        201,
    ),
    "a long number": (REPORTS, b'[{"version":"1.0.0","seq":' + b"1" * 4_000_000 + b"}]", 422),
    "deep nesting": (REPORTS, b"[" * 4_000_000, 400),
    "a single body of many members": (REPORTS, b"{" + members(6_000) + b"}", 422),
    "a device of many members": (DEVICES, b"{" + members(6_000) + b"}", 422),
    "a device of many tags": (
        DEVICES,
        b'{"device":"x","tags":' + array(b'"a"', 16_000) + b"}",
        422,
    ),
    "a long device": (DEVICES, b'[{"device":"x","tags":' + array(b'"a"', 900_000) + b"}]", 413),
    "too many devices": (DEVICES, array(b"{}", 1_000_000), 413),
    "faulty devices": (DEVICES, array(b"{}", 10_000), 422),
    "good reports": (REPORTS, good_reports, 201),
    "good devices": (DEVICES, devices, 201),
    "known devices": (DEVICES, known_devices, 200),
    "devices to reissue": (f"{DEVICES}?reissue=never_seen", known_devices, 200),
}


@pytest.fixture
async def sender(site: Site) -> Sender:
    """Sends to a service that had a request for each of the routes."""
    sender = Sender(site)
    for path in (REPORTS, DEVICES, f"{P}/reports"):
        await sender.send(path, "POST", path, repeated(b"[]"), **operator(site))
    return sender


def operator(site: Site) -> dict[str, str]:
    return {"Authorization": f"Bearer {site.credentials['operator']}"}


async def test_no_body_occupies_the_event_loop(site: Site, sender: Sender) -> None:
    with without_collections():
        for name, (path, body, status) in BODIES.items():
            made = repeated(body) if isinstance(body, bytes) else body
            assert await sender.send(name, "POST", path, made, **operator(site)) == status, name


async def test_a_query_of_many_parameters_is_refused_quickly(site: Site, sender: Sender) -> None:
    stalled_s = []
    with without_collections():
        for _ in range(TURNS_MAX):
            with (stalls := Stalls()).watching():
                answer = await site.get(f"{P}/devices?{'&'.join(f'{n}' for n in range(1_600))}")
            assert (answer.status, len(answer.json["errors"])) == (422, 100)
            stalled_s.append(stalls.longest_s)
    assert min(stalled_s) <= max(STALL_S_MAX, 5 * known_work_s())
