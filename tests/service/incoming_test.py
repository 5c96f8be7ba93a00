"""Tests how bodies arrive: encoded, in parts, announced; and which are refused before that."""

import asyncio
import gzip

import pytest

from firmtrail.http import incoming
from firmtrail.http.callers import LocalAccess, PublicAccess
from tests.patience import PATIENCE_S
from tests.service.routes import ROUTES, assert_is_problem, name_of, needs_a_key, path_of
from tests.service.site import Address, D, P, Site
from tests.serving import Answer

pytestmark = pytest.mark.one_back_end

REPORT = b'{"version": "1.0.0"}'
JSON = {"Content-Type": "application/json"}
FILE = f"{P}/releases/m/1.0.0/artifacts/full.bin"


async def send(site: Site, body: bytes, encoding: str = "gzip") -> Answer:
    headers = JSON | {"Content-Encoding": encoding}
    return await site.call("POST", f"{D}/reports", caller="device", data=body, headers=headers)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "X-Gzip", "identity"])
async def test_gzip_has_two_names(site: Site, encoding: str) -> None:
    body = REPORT if encoding == "identity" else gzip.compress(REPORT)
    assert (await send(site, body, encoding)).status == 201


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "gzip, br", "zstd", ""])
async def test_any_other_encoding_is_refused(site: Site, encoding: str) -> None:
    assert_is_problem(await send(site, gzip.compress(REPORT), encoding), 415)


async def test_gzip_of_several_members_is_their_contents_joined(site: Site) -> None:
    halves = gzip.compress(REPORT[:7]) + gzip.compress(b"") + gzip.compress(REPORT[7:])
    assert (await send(site, halves)).status == 201
    bytewise = b"".join(gzip.compress(REPORT[n : n + 1]) for n in range(len(REPORT)))
    assert (await send(site, bytewise)).status == 200
    many = b"".join(gzip.compress(b" ") for _ in range(5_000)) + gzip.compress(REPORT)
    assert (await send(site, many)).status == 200


@pytest.mark.parametrize(
    "after", [b"x", b"\0", b"\0" * 512, b"garbage", gzip.compress(b" ", mtime=0)[:-1], b"\x1f\x8b"]
)
async def test_only_gzip_may_follow_gzip(site: Site, after: bytes) -> None:
    assert_is_problem(await send(site, gzip.compress(REPORT) + after), 400)
    assert_is_problem(await send(site, after), 400)


async def test_the_limit_counts_the_content_of_all_members(site: Site) -> None:
    single = gzip.compress(b" " * 40_000) + gzip.compress(b" " * 30_000 + REPORT)
    assert_is_problem(await send(site, single), 413)
    array = gzip.compress(b"[") + gzip.compress(b" " * 2_100_000) * 2 + gzip.compress(b"]")
    assert_is_problem(await send(site, array), 413)
    empty = gzip.compress(b"") * (incoming.MEMBERS_MAX + 1)
    assert_is_problem(await send(site, empty), 413)


async def test_no_route_takes_a_part_of_a_body(site: Site) -> None:
    part = {"Content-Range": "bytes 0-2/10"}
    for route in ROUTES:
        if route.method == "GET" or isinstance(route.access, LocalAccess | PublicAccess):
            continue
        if needs_a_key(route):
            continue
        answer = await site.call(
            route.method, path_of(route), caller="admin", data=b"{}", headers=JSON | part
        )
        assert_is_problem(answer, 400)
        assert "Content-Range" in answer.json["detail"], name_of(route)
    for path in ("/api/v1/login", "/upload_firmware_update"):
        answer = await site.call("POST", path, data=b"{}", headers=JSON | part)
        assert_is_problem(answer, 400)


async def expecting(address: Address, head: str, body: bytes, version: str = "1.1") -> list[str]:
    """Returns the statuses that a client gets that waits for 100 Continue with its body."""
    reader, writer = await asyncio.open_connection(*address)
    line, *headers = head.split("\n")
    sent = [f"{line} HTTP/{version}", "Host: x", *headers]
    writer.write("\r\n".join([*sent, "", ""]).encode())
    statuses: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answered = (await reader.readuntil(b"\r\n\r\n")).decode()
            statuses.append(answered.split(" ")[1])
            if statuses[-1] != "100":
                break
            writer.write(body)
        if statuses[0] != "100" and version == "1.1":
            assert "Connection: close" in answered
            await reader.read()  # the server ends the connection
    writer.close()
    return statuses


EXPECT = "Expect: 100-continue"


async def test_a_client_is_asked_for_its_body_when_its_head_is_accepted(
    site: Site, address: Address
) -> None:
    device, operator = (
        f"Authorization: Bearer {site.credentials[who]}" for who in ("device", "operator")
    )
    await site.call(
        "POST", f"{P}/releases", caller="operator", json={"version": "1.0.0", "model": "m"}
    )
    report = f"POST {D}/reports\n{device}\n{EXPECT}\nContent-Length: {len(REPORT)}"
    assert await expecting(address, report, REPORT) == ["100", "201"]
    chunked = f"POST {D}/reports\n{device}\nexpect: 100-Continue\nTransfer-Encoding: chunked"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(REPORT), REPORT)
    assert await expecting(address, chunked, chunks) == ["100", "200"]
    upload = f"PUT {FILE}\n{operator}\n{EXPECT}\nContent-Length: 5"
    assert await expecting(address, upload, b"bytes") == ["100", "201"]


def refused(site: Site) -> dict[str, tuple[str, str]]:
    device, operator, viewer = (
        f"Authorization: Bearer {site.credentials[who]}" for who in ("device", "operator", "viewer")
    )
    reports, few, many = f"POST {D}/reports", "Content-Length: 20", "Content-Length: 99999999999"
    return {
        "no credential": (f"{reports}\n{few}", "401"),
        "a wrong credential": (f"PUT {FILE}\nAuthorization: Bearer x\n{few}", "401"),
        "another's role": (f"PUT {FILE}\n{viewer}\n{few}", "403"),
        "another site": (f"PUT {FILE}\n{operator}\n{few}\nSec-Fetch-Site: cross-site", "403"),
        "an unknown path": (f"POST {P}/nothing\n{operator}\n{few}", "404"),
        "an unknown release": (f"PUT {P}/releases/m/9.0.0/artifacts/x\n{operator}\n{few}", "404"),
        "another method": (f"PUT {D}/reports\n{device}\n{few}", "405"),
        "too long": (f"{reports}\n{device}\n{many}", "413"),
        "a long single one": (f"POST {P}/halt\n{operator}\nContent-Length: 65537", "413"),
        "too long an artifact": (f"PUT {FILE}\n{operator}\n{many}", "413"),
        "a part": (f"PUT {FILE}\n{operator}\n{few}\nContent-Range: bytes 0-19/40", "400"),
        "a form": (f"{reports}\n{device}\n{few}\nContent-Type: text/plain", "415"),
        "an encoding": (f"{reports}\n{device}\n{few}\nContent-Encoding: br", "415"),
        "an encoded artifact": (f"PUT {FILE}\n{operator}\n{few}\nContent-Encoding: gzip", "415"),
        "a query": (f"{reports}?faulty=yes\n{device}\n{few}", "422"),
        "a login": ("POST /api/v1/login\nContent-Length: 65537", "413"),
        "an update of the seed": ("POST /upload_firmware_update\nContent-Length: 65537", "413"),
    }


async def test_a_client_is_not_asked_for_a_body_when_its_head_is_refused(
    site: Site, address: Address
) -> None:
    await site.call(
        "POST", f"{P}/releases", caller="operator", json={"version": "1.0.0", "model": "m"}
    )

    async def is_refused(name: str, head: str, status: str) -> None:
        assert await expecting(address, f"{head}\n{EXPECT}", b"") == [status], name
        assert await expecting(address, f"{head}\nExpect: x", b"") == ["417"], name

    async with asyncio.TaskGroup() as tasks:  # each connection lingers
        for name, (head, status) in refused(site).items():
            tasks.create_task(is_refused(name, head, status))


async def test_an_expectation_of_an_older_client_is_ignored(site: Site, address: Address) -> None:
    head = f"POST {D}/reports\n{EXPECT}\nContent-Length: 20"
    assert await expecting(address, head, b"", version="1.0") == ["401"]
