"""A store of artifacts: a folder, and a bucket of a server of S3's kind, keep the same promises."""

import asyncio
import os
from collections.abc import AsyncIterator
from hashlib import md5, sha1, sha256
from pathlib import Path
from typing import Any, Protocol

import pytest

from firmtrail import artifacts
from firmtrail.artifacts import Artifacts, Digests
from firmtrail.config import BucketUrl
from firmtrail.database.database import Unavailable
from firmtrail.database.files import NotOurs

MIB = 1024 * 1024
SMALL = b"firmware"
LARGE = bytes(range(256)) * (12 * MIB // 256)
"""More than two parts."""


class Place(Protocol):
    """A store, and what it holds besides what it says."""

    store: Artifacts

    def names(self) -> list[str]: ...

    def spoil(self) -> None: ...


class Folder:
    def __init__(self, path: Path) -> None:
        self.path, self.store = path, Artifacts(path)

    def names(self) -> list[str]:
        found = (path for path in self.path.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.path)) for path in found)

    def spoil(self) -> None:
        (self.path / "uploads").write_text("in the way")


class S3:
    def __init__(self, client: Any) -> None:
        self.client, self.store = client, Artifacts(BucketUrl("s3://firmware/prefix"))

    def names(self) -> list[str]:
        """Objects, and uploads of which S3 holds parts."""
        objects = self.client.list_objects_v2(Bucket="firmware").get("Contents", [])
        uploads = self.client.list_multipart_uploads(Bucket="firmware").get("Uploads", [])
        return sorted(each["Key"].removeprefix("prefix/") for each in [*objects, *uploads])

    def spoil(self) -> None:
        self.client.delete_bucket(Bucket="firmware")


@pytest.fixture
def s3(s3_client: Any) -> S3:
    return S3(s3_client)


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    found: Place = (
        Folder(tmp_path / "artifacts")
        if request.param == "folder"
        else request.getfixturevalue("s3")
    )
    return found


async def chunks(data: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]
    if error is not None:
        raise error


async def keep(store: Artifacts, data: bytes) -> str:
    async with store.received(chunks(data)) as upload:
        await store.keep(upload)
        return upload.sha256


async def read(store: Artifacts, digest: str, start: int, stop: int) -> bytes:
    return b"".join([chunk async for chunk in store.read(digest, start, stop)])


def name_of(digest: str) -> str:
    return f"sha256/{digest[:2]}/{digest}"


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_what_is_kept_is_read_whole_or_in_part(place: Place, data: bytes) -> None:
    async with place.store.received(chunks(data)) as upload:
        assert (upload.size_bytes, upload.sha256) == (len(data), sha256(data).hexdigest())
        assert place.names() == [upload.name]
        await place.store.keep(upload)
    assert place.names() == [name_of(upload.sha256)]
    assert await read(place.store, upload.sha256, 0, len(data)) == data
    assert await read(place.store, upload.sha256, 3, 7) == data[3:7]


async def test_the_same_bytes_are_kept_once(place: Place) -> None:
    assert await keep(place.store, SMALL) == await keep(place.store, SMALL)
    await asyncio.gather(*(keep(place.store, LARGE) for _ in range(3)))
    assert len(place.names()) == 2


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_what_breaks_off_leaves_nothing_and_says_why(place: Place, data: bytes) -> None:
    error = KeyError("the very error")
    with pytest.raises(KeyError) as raised:
        async with place.store.received(chunks(data, error)):
            pytest.fail("it was received")
    assert raised.value is error
    assert place.names() == []


async def test_what_is_not_kept_is_gone(place: Place) -> None:
    with pytest.raises(ZeroDivisionError):
        async with place.store.received(chunks(LARGE)):
            raise ZeroDivisionError
    assert place.names() == []


async def test_an_upload_that_a_stopping_server_cancels_leaves_nothing_in_a_folder(
    tmp_path: Path,
) -> None:
    place, begun = Folder(tmp_path), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield LARGE
        begun.set()
        await asyncio.sleep(60)

    async def receive() -> None:
        async with place.store.received(endless()):
            pytest.fail("it was received")

    task = asyncio.create_task(receive())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    for _ in range(100):
        if not place.names():
            break
        await asyncio.sleep(0.02)
    assert place.names() == []


async def test_a_store_that_is_not_there_is_unavailable(place: Place) -> None:
    place.spoil()
    with pytest.raises(Unavailable):
        await keep(place.store, SMALL)
    with pytest.raises(Unavailable):
        await read(place.store, sha256(SMALL).hexdigest(), 0, 1)


async def test_what_a_killed_process_left_is_swept_away_a_day_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "abc#1").write_bytes(b"part")
    folder = Folder(tmp_path)
    await keep(folder.store, SMALL)
    assert "uploads/abc#1" in folder.names()
    monkeypatch.setattr(artifacts, "LEFT_S", -1)
    await keep(folder.store, SMALL)
    assert "uploads/abc#1" not in folder.names()


async def test_what_is_kept_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Artifacts(tmp_path / "a")
        async with store.received(chunks(SMALL)) as upload:
            await store.keep(upload)
    finally:
        os.umask(before)
    kept = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert [path.stat().st_mode & 0o777 for path in kept] == [0o600]


@pytest.mark.parametrize("mode", [0o770, 0o757, 0o777, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(mode)
    with pytest.raises(NotOurs, match="chmod go-w"):
        Artifacts(tmp_path / "a")


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "a").symlink_to(tmp_path / "target")
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    for name in ("a", "b"):
        with pytest.raises(NotOurs, match="symbolic link"):
            Artifacts(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        return  # only root can make another user's folder
    (tmp_path / "a").mkdir(mode=0o755)
    os.chown(tmp_path / "a", 12345, 12345)
    with pytest.raises(NotOurs, match="uid 12345"):
        Artifacts(tmp_path / "a")


def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    Artifacts(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


async def test_further_digests_are_computed_once_and_kept_next_to_the_object(place: Place) -> None:
    digest = await keep(place.store, LARGE)
    expected = Digests(
        sha1(LARGE, usedforsecurity=False).hexdigest(),
        md5(LARGE, usedforsecurity=False).hexdigest(),
    )
    found = await asyncio.gather(*(place.store.digests(digest, len(LARGE)) for _ in range(3)))
    assert found == [expected] * 3
    assert place.names() == sorted([name_of(digest), f"digests/{digest[:2]}/{digest}"])
    other_process = Folder(place.path).store if isinstance(place, Folder) else S3(None).store
    assert await other_process.digests(digest, 0) == expected
