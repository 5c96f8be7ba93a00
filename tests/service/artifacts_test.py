"""Checks uploads and downloads of artifacts; an upload that fails leaves nothing."""

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from firmtrail.http import app, respond
from firmtrail.http.api import artifacts as artifacts_api
from firmtrail.http.callers import Caller
from tests.people import recorded
from tests.service.site import Answer, P, Site

RELEASES = f"{P}/releases"
FILE = f"{RELEASES}/m/1.0.0/artifacts/full.bin"
BYTES = bytes(range(256)) * 40
DIGEST = sha256(BYTES).hexdigest()
ETAG = f'"{DIGEST}"'


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Runs on one back end: tests/contract/releases_test.py checks the events on each."""
    return sqlite_url


@pytest.fixture(autouse=True)
async def release(site: Site) -> None:
    body = {"version": "1.0.0", "model": "m"}
    assert (await site.call("POST", RELEASES, caller="operator", json=body)).status == 201


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


async def put(site: Site, data: bytes = BYTES, path: str = FILE, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await site.call("PUT", path, caller="operator", data=data, headers=named)


async def put_chunks(site: Site, *chunks: bytes, pause_s: float = 0) -> Answer:
    """Uploads the chunks without a Content-Length."""

    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk
            await asyncio.sleep(pause_s)

    headers = {"Authorization": f"Bearer {site.credentials['operator']}"}
    async with site.client.put(FILE, data=body(), headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def nothing_is_left(site: Site, folder: Path) -> bool:
    events = [event for stream, event in await recorded(site.services.db, site.log_id)]
    return not files(folder) and "ArtifactAdded" not in {type(event).__name__ for event in events}


def digest_header(data: bytes) -> str:
    return f"sha-256=:{b64encode(sha256(data).digest()).decode()}:"


async def test_the_bytes_uploaded_are_the_bytes_downloaded(site: Site, folder: Path) -> None:
    answer = await put(site)
    assert answer.status == 201
    assert answer.json == {"name": "full.bin", "size": len(BYTES), "sha256": DIGEST}
    assert files(folder) == [f"sha256/{DIGEST[:2]}/{DIGEST}"]
    read = await site.get(FILE, "viewer")
    assert (read.status, read.body) == (200, BYTES)
    assert read.headers["ETag"] == ETAG
    assert read.headers["Accept-Ranges"] == "bytes"
    assert read.headers["Content-Length"] == str(len(BYTES))
    assert read.headers["Content-Type"] == "application/octet-stream"
    assert read.headers["Repr-Digest"] == digest_header(BYTES)
    shown = (await site.get(f"{RELEASES}/m/1.0.0")).json["artifacts"]
    assert shown == [answer.json]


async def test_the_same_bytes_sent_again_get_the_same_answer_and_other_bytes_are_refused(
    site: Site, folder: Path
) -> None:
    first = await put_chunks(site, BYTES[:5000], BYTES[5000:])
    before = await recorded(site.services.db, site.log_id)
    again = await put(site)
    assert (first.status, again.status) == (201, 200)
    assert first.json == again.json
    other = await put(site, b"other bytes")
    assert (other.status, other.json["code"]) == (409, "artifact_exists")
    assert await recorded(site.services.db, site.log_id) == before
    assert files(folder) == [f"sha256/{DIGEST[:2]}/{DIGEST}"]


async def test_two_releases_with_the_same_bytes_share_them(site: Site, folder: Path) -> None:
    await site.call("POST", RELEASES, caller="operator", json={"version": "1.1.0", "model": "m"})
    for version in ("1.0.0", "1.1.0"):
        path = f"{RELEASES}/m/{version}/artifacts/full.bin"
        assert (await put(site, path=path)).status == 201
    assert len(files(folder)) == 1


@pytest.mark.parametrize(("other", "statuses"), [(BYTES, {200, 201}), (b"x", {201, 409})])
async def test_one_of_two_parallel_uploads_wins(
    site: Site, other: bytes, statuses: set[int]
) -> None:
    answers = await asyncio.gather(put(site), put(site, other))
    assert {answer.status for answer in answers} == statuses
    won = {answer.status: data for answer, data in zip(answers, (BYTES, other), strict=True)}
    assert (await site.get(FILE)).body == won[201]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Repr_Digest": digest_header(b"other")}, 422, "digest_mismatch"),
        ({"Content_Digest": digest_header(b"other")}, 422, "digest_mismatch"),
        ({"Repr_Digest": f"sha-512=:eA==:, {digest_header(b'o')}"}, 422, "digest_mismatch"),
        ({"Repr_Digest": "sha-256=:eA==:"}, 400, "malformed"),
        ({"Repr_Digest": "sha-256=?"}, 400, "malformed"),
        ({"Content_Encoding": "gzip"}, 415, "unsupported_media_type"),
        ({"Content_Encoding": "x-gzip"}, 415, "unsupported_media_type"),
        ({"Content_Range": "bytes 0-10239/20480"}, 400, "malformed"),
        ({"Content_Range": "bytes */5"}, 400, "malformed"),
        ({"Content_Type": "multipart/byteranges; boundary=x"}, 415, "unsupported_media_type"),
        ({"Content_Type": "Multipart/Form-Data; boundary=x"}, 415, "unsupported_media_type"),
    ],
)
async def test_an_upload_that_contradicts_its_headers_leaves_nothing(
    site: Site, folder: Path, headers: dict[str, Any], status: int, code: str
) -> None:
    answer = await put(site, **headers)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert await nothing_is_left(site, folder)


async def test_an_upload_that_matches_its_digest_is_accepted(site: Site) -> None:
    header = f"sha-512=:eA==:, {digest_header(BYTES)}"
    assert (await put(site, Repr_Digest=header, Content_Digest=header)).status == 201


async def test_an_empty_artifact_is_refused(site: Site, folder: Path) -> None:
    for answer in (await put(site, b""), await put_chunks(site)):
        assert (answer.status, answer.json["code"]) == (422, "invalid")
    assert await nothing_is_left(site, folder)


async def test_an_upload_that_is_too_large_leaves_nothing(site: Site, folder: Path) -> None:
    services = replace(site.services, artifact_bytes_max=len(BYTES))
    async with TestClient(TestServer(app.build(services))) as client:
        small = replace(site, client=client, services=services)
        for answer in (await put(small, BYTES + b"x"), await put_chunks(small, BYTES, b"x")):
            assert (answer.status, answer.json["code"]) == (413, "too_large")
            assert await nothing_is_left(site, folder)
        assert (await put(small)).status == 201


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_an_upload_that_breaks_off_leaves_nothing(
    site: Site, folder: Path, is_chunked: bool
) -> None:
    await send_part(site, folder, bytes(7_000_000), is_chunked=is_chunked)
    for _ in range(100):
        await asyncio.sleep(0.05)
        if not files(folder):
            break
    assert await nothing_is_left(site, folder)
    assert (await put(site)).status == 201


async def send_part(site: Site, folder: Path, part: bytes, *, is_chunked: bool) -> None:
    """Starts an upload of more than this part, and disconnects once the server stores it."""
    _, writer = await asyncio.open_connection(site.client.host, site.client.port)
    how = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(part) + 1}"
    writer.write(
        f"PUT {FILE} HTTP/1.1\r\nHost: x\r\n{how}\r\n"
        f"Authorization: Bearer {site.credentials['operator']}\r\n\r\n".encode()
    )
    writer.write(b"%x\r\n%s\r\n" % (len(part), part) if is_chunked else part)
    await writer.drain()
    while not files(folder):
        await asyncio.sleep(0.01)
    writer.transport.abort()


async def test_an_idle_upload_is_cut_off(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts_api, "UPLOAD_IDLE_S", 0.1)
    answer = await put_chunks(site, BYTES, BYTES, pause_s=0.5)
    assert (answer.status, answer.json["code"]) == (408, "timeout")
    assert await nothing_is_left(site, folder)


async def test_an_upload_that_takes_too_long_is_cut_off(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts_api, "UPLOAD_S", 0.3)
    answer = await put_chunks(site, *[BYTES] * 20, pause_s=0.05)
    assert (answer.status, answer.json["code"]) == (408, "timeout")
    assert await nothing_is_left(site, folder)


async def test_an_upload_that_trickles_is_cut_off(site: Site, folder: Path) -> None:
    slow = replace(site.services, write_timeout_s=0.5)
    server = TestServer(app.build(slow))
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server) as client:
        trickling = replace(site, client=client)
        answer = await put_chunks(trickling, *[b"x"] * 100, pause_s=0.05)
        assert (answer.status, answer.json["code"]) == (408, "timeout")
        assert await nothing_is_left(site, folder)
        enough = b"x" * respond.WRITE_BYTES
        assert (await put_chunks(trickling, *[enough] * 4, pause_s=0.2)).status == 201


async def test_parallel_uploads_are_limited(site: Site) -> None:
    with contextlib.ExitStack() as taken:
        for n in range(artifacts_api.UPLOADS_MAX):
            taken.enter_context(
                site.services.uploads.enter(Caller(kind="user", project=f"project-{n}"))
            )
        answer = await put(site)
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)
    assert (await put(site)).status == 201


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"{RELEASES}/m/9.0.0/artifacts/full.bin", 404, "unknown_release"),
        (f"{RELEASES}/m/1.0.0/artifacts/.hidden", 404, "not_found"),
        (f"{RELEASES}/m/0.9.0/artifacts/full.bin", 409, "release_withdrawn"),
    ],
)
async def test_an_artifact_without_a_release_is_refused(
    site: Site, folder: Path, path: str, status: int, code: str
) -> None:
    body = {"version": "0.9.0", "model": "m"}
    await site.call("POST", RELEASES, caller="operator", json=body)
    withdraw = f"{RELEASES}/m/0.9.0/withdraw"
    await site.call("POST", withdraw, caller="operator", json={"reason": "x"})
    answer = await put(site, path=path)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert await nothing_is_left(site, folder)


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


async def test_users_still_see_the_bytes_of_a_withdrawn_release(site: Site) -> None:
    await put(site)
    path = f"{RELEASES}/m/1.0.0/withdraw"
    await site.call("POST", path, caller="operator", json={"reason": "x"})
    assert (await site.get(FILE, "viewer")).body == BYTES


@pytest.mark.parametrize(
    ("method", "caller", "status"),
    [
        ("PUT", "viewer", 403),
        ("PUT", "auditor", 403),
        ("PUT", "gateway", 403),
        ("PUT", "device", 403),
        ("PUT", "stranger", 404),
        ("GET", "gateway", 403),
        ("GET", "device", 403),
        ("GET", "stranger", 404),
    ],
)
async def test_callers_without_the_right_are_refused(
    site: Site, method: str, caller: str, status: int
) -> None:
    await put(site)
    answer = await site.call(method, FILE, caller=caller, data=BYTES if method == "PUT" else None)
    assert answer.status == status


async def test_a_store_that_fails_is_unavailable_and_leaves_no_event(
    site: Site, folder: Path
) -> None:
    (folder / "uploads").write_text("in the way")
    answer = await put(site)
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    (folder / "uploads").unlink()
    assert await nothing_is_left(site, folder)


async def test_lost_bytes_are_unavailable_until_they_are_uploaded_again(
    site: Site, folder: Path
) -> None:
    await put(site)
    (folder / files(folder)[0]).unlink()
    assert (await site.get(FILE)).status == 503
    assert (await put(site)).status == 200
    assert (await site.get(FILE)).body == BYTES


async def test_a_server_without_a_place_for_artifacts_says_so(site: Site) -> None:
    await put(site)
    services = replace(site.services, artifacts=None)
    async with TestClient(TestServer(app.build(services))) as client:
        other = replace(site, client=client)
        for answer in (await put(other), await other.get(FILE)):
            assert (answer.status, answer.json["code"]) == (409, "no_artifact_store")
