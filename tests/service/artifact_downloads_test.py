"""Checks downloads of artifacts: ranges, conditions, HEAD."""

import pytest

from tests.service.artifacts import (
    BYTES,
    ETAG,
    FILE,
    put,
    release,  # noqa: F401 (a fixture)
)
from tests.service.site import Site

pytestmark = pytest.mark.one_back_end  # tests/contract/releases_test.py checks the events


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-", (0, 10240)),
        ("bytes=0-0", (0, 1)),
        ("bytes=100-199", (100, 200)),
        ("bytes=10000-", (10000, 10240)),
        ("bytes=10000-99999", (10000, 10240)),
        ("bytes=-40", (10200, 10240)),
        ("bytes=-99999", (0, 10240)),
        ("bytes=5-18446744073709551615", (5, 10240)),
        ("bytes=-99999999999999999999999999999999", (0, 10240)),
        ("Bytes=5-9", (5, 10)),
        ("BYTES=0005-00009", (5, 10)),
        ("bytes= 5-9 ,,", (5, 10)),
    ],
)
async def test_a_range_is_answered_with_its_bytes_only(
    site: Site, asked: str, expected: tuple[int, int]
) -> None:
    await put(site)
    start, stop = expected
    for extra in ({}, {"If_Range": ETAG}):
        answer = await site.get(FILE, Range=asked, **extra)
        assert (answer.status, answer.body) == (206, BYTES[start:stop])
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BYTES)}"
        assert answer.headers["Content-Length"] == str(stop - start)
        assert answer.headers["ETag"] == ETAG


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=10240-",
        "bytes=99999-99999",
        "bytes=-0",
        "bytes=18446744073709551616-",
        "bytes=18446744073709551616-99999999999999999999999999",
    ],
)
async def test_a_range_after_the_end_is_416(site: Site, asked: str) -> None:
    await put(site)
    answer = await site.get(FILE, Range=asked)
    assert (answer.status, answer.json["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(BYTES)}"


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,5-6"},
        {"Range": "bytes=5-1"},
        {"Range": "bytes=-"},
        {"Range": "lines=0-1"},
        {"Range": "bytes=x-"},
        {"Range": "bytes=0 - 1"},
        {"Range": "bytes"},
        {"Range": "bytes=\u0665-"},
        {"Range": f"bytes={'9' * 5000}-"},
        {"Range": "bytes=0-1", "If_Range": '"another"'},
        {"Range": "bytes=0-1", "If_Range": f"W/{ETAG}"},
        {"Range": "bytes=0-1", "If_Range": "Tue, 24 Nov 2026 13:00:00 GMT"},
    ],
)
async def test_a_range_that_is_not_understood_is_ignored(
    site: Site, headers: dict[str, str]
) -> None:
    await put(site)
    answer = await site.get(FILE, **headers)
    assert (answer.status, answer.body) == (200, BYTES)


async def test_a_download_that_broke_off_can_be_continued(site: Site) -> None:
    data = BYTES * 400
    await put(site, data)
    headers = {"Authorization": f"Bearer {site.credentials['viewer']}"}
    async with site.client.get(FILE, headers=headers) as response:
        etag, got = response.headers["ETag"], await response.content.readexactly(1_000_000)
        response.close()
    rest = await site.get(FILE, Range=f"bytes={len(got)}-", If_Range=etag)
    assert rest.status == 206
    assert got + rest.body == data


async def test_a_head_ignores_a_range(site: Site) -> None:
    await put(site)
    headers = {"Range": "bytes=0-1"}
    head = await site.call("HEAD", FILE, caller="viewer", headers=headers)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(BYTES)))


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        (ETAG, 206),
        ("*", 206),
        (f'"x", {ETAG}', 206),
        ('"x"', 412),
        (f"W/{ETAG}", 412),
        ("x", 412),
        ("", 412),
    ],
)
async def test_bytes_other_than_if_match_names_are_not_sent(
    site: Site, wanted: str, status: int
) -> None:
    await put(site)
    for method in ("GET", "HEAD"):
        headers = {"Range": "bytes=0-1", "If-Match": wanted}
        answer = await site.call(method, FILE, caller="viewer", headers=headers)
        assert answer.status == (200 if (method, status) == ("HEAD", 206) else status)


async def test_a_client_that_has_the_bytes_gets_304(site: Site) -> None:
    await put(site)
    answer = await site.get(FILE, If_None_Match=ETAG)
    assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", ETAG)


async def test_a_head_gets_everything_but_the_bytes(site: Site) -> None:
    await put(site)
    head = await site.call("HEAD", FILE, caller="viewer")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(BYTES))
