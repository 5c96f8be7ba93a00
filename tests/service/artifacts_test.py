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

from firmtrail.application import app
from firmtrail.http import concurrency, respond, uploads
from firmtrail.http.callers import Caller
from tests.people import recorded
from tests.service.artifacts import (
    BYTES,
    DIGEST,
    ETAG,
    FILE,
    RELEASES,
    put,
    release,  # noqa: F401 (a fixture)
)
from tests.service.site import Site
from tests.serving import Answer, with_settings

pytestmark = pytest.mark.one_back_end  # tests/contract/releases_test.py checks the events


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


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
    assert answer.json["name"] == "full.bin"
    assert (answer.json["size"], answer.json["sha256"]) == (len(BYTES), DIGEST)
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
    services = with_settings(site.services, artifact_bytes_max=len(BYTES))
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
    monkeypatch.setattr(uploads, "UPLOAD_IDLE_S", 0.1)
    answer = await put_chunks(site, BYTES, BYTES, pause_s=0.5)
    assert (answer.status, answer.json["code"]) == (408, "timeout")
    assert await nothing_is_left(site, folder)


async def test_an_upload_that_takes_too_long_is_cut_off(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "UPLOAD_S", 0.3)
    answer = await put_chunks(site, *[BYTES] * 20, pause_s=0.05)
    assert (answer.status, answer.json["code"]) == (408, "timeout")
    assert await nothing_is_left(site, folder)


async def test_an_upload_that_trickles_is_cut_off(site: Site, folder: Path) -> None:
    slow = with_settings(site.services, write_timeout_s=0.5)
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
        for n in range(concurrency.UPLOADS_MAX):
            taken.enter_context(
                site.services.limits.uploads.enter(Caller(kind="user", project=f"project-{n}"))
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
