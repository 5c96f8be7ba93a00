"""Stores the bytes of artifacts, named by their SHA-256: in a folder, or in a bucket of an S3
service.

An object is complete or absent, is durable before anyone learns of it, and never changes: its name
is the digest of its bytes. Bytes that arrive are under `uploads/` until they are kept. An upload
that fails leaves nothing. If its process ends meanwhile, its bytes stay: in a folder the first
upload a day later deletes them, in a bucket the bucket's rule for incomplete uploads does. The log
knows to which release an artifact belongs; objects do not belong to projects.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import md5, sha1, sha256
from pathlib import Path
from uuid import uuid4

import msgspec
import obstore
from cachetools import LRUCache
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from firmtrail import config
from firmtrail.database import files, shared_work
from firmtrail.database.database import Unavailable

PART_BYTES = 5 * 1024 * 1024
"""The size of a piece that is sent to the store, the least that S3 takes. An upload keeps three in
memory."""
PARTS_AT_ONCE = 2
READ_BYTES = 256 * 1024
"""The bytes of a download in memory."""
REQUEST_TIMEOUT = timedelta(minutes=10)
"""For requests to a bucket: a request that copies gigabytes there takes long."""
LEFT_S = 24 * 3600
"""Unfinished uploads older than this are deleted."""
RETRY_AFTER_S = 30

HEAD_BYTES = 256 * 1024
"""The first bytes of an upload, which are kept in memory so that its form can be recognised."""
DIGESTS_MAX = 10_000
"""Limits the digests of older objects that a process keeps in memory."""

_UPLOADS = "uploads"
_PROBE = "no-such-prefix"
"""A prefix to list: it shows that the bucket answers, and the answer is small."""


class Digests(msgspec.Struct, frozen=True):
    """Holds further digests of bytes, in hex, for clients that do not check SHA-256."""

    sha1: str
    md5: str


@dataclass(frozen=True, slots=True)
class Upload:
    """Describes bytes that have arrived and are not kept yet."""

    name: str
    size_bytes: int
    sha256: str
    digests: Digests
    head: bytes
    """The first bytes, at most `HEAD_BYTES`."""


class _Hashing:
    """Counts and hashes bytes as they pass."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.head = bytearray()
        self._sha256 = sha256()
        self._others = (sha1(usedforsecurity=False), md5(usedforsecurity=False))

    async def of(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._sha256.update(chunk)
            for each in self._others:
                each.update(chunk)
            if (missing := HEAD_BYTES - len(self.head)) > 0:
                self.head += chunk[:missing]
            self.size_bytes += len(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def digests(self) -> Digests:
        return Digests(*(each.hexdigest() for each in self._others))


class Artifacts:
    """Stores artifacts. Raises `Unavailable` if the store can't serve."""

    def __init__(self, place: config.StorageLocation) -> None:
        self._place = place
        self._store = _store(place)
        self._digests: LRUCache[str, Digests] = LRUCache(DIGESTS_MAX)
        self._hashing: dict[str, asyncio.Task[Digests]] = {}
        self._one_at_a_time = asyncio.Semaphore(1)

    @contextlib.asynccontextmanager
    async def received(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Upload]:
        """Stores bytes as they arrive, and hashes them. Unless the block keeps them, they are
        deleted after it. An error of `chunks` is raised."""
        name, hashing = f"{_UPLOADS}/{uuid4().hex}", _Hashing()
        with _unavailable():
            if isinstance(self._place, Path):
                await asyncio.to_thread(_prepare, self._place / _UPLOADS)
            await obstore.put_async(
                self._store,
                name,
                hashing.of(chunks),
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        try:
            size_bytes, head = hashing.size_bytes, bytes(hashing.head)
            yield Upload(name, size_bytes, hashing.sha256, hashing.digests, head)
        finally:
            with _unavailable(), contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self._store, name)

    async def keep(self, upload: Upload) -> None:
        """Makes the upload the object of its digest; once this returns, it is durable. An object
        that exists already has the same bytes and stays."""
        target = _name(upload.sha256)
        with _unavailable():
            if isinstance(self._place, Path):
                await self._keep_in_folder(self._place, upload.name, target)
            elif not await self._has(target):
                # Two that do this in parallel write the same bytes; S3 shows either, whole.
                await obstore.copy_async(self._store, upload.name, target)

    async def _keep_in_folder(self, folder: Path, name: str, target: str) -> None:
        """Syncs the bytes before their name: else a crash of the machine could leave a name with
        fewer bytes. The store creates files by the process's umask, so their mode is set here.
        """
        await asyncio.to_thread((folder / name).chmod, files.PRIVATE)
        await asyncio.to_thread(files.sync, folder / name)
        with contextlib.suppress(AlreadyExistsError):
            await obstore.rename_async(self._store, name, target, overwrite=False)
        kept = folder / target
        for path in (kept.parent, kept.parent.parent, folder, folder.parent):
            await asyncio.to_thread(files.sync, path)

    async def check(self) -> None:
        """Raises `Unavailable` if nothing can be stored."""
        with _unavailable():
            if isinstance(self._place, Path):
                await asyncio.to_thread(files.check_writable, self._place)
            else:
                await obstore.list_with_delimiter_async(self._store, _PROBE)

    async def _has(self, name: str) -> bool:
        try:
            await obstore.head_async(self._store, name)
        except FileNotFoundError:
            return False
        return True

    async def digests(self, digest: str, size_bytes: int) -> Digests:
        """Returns the further digests of the object with this SHA-256. They are computed at the
        first call, which takes as long as reading the object does, and kept next to the object; all
        callers of a process share one computation."""
        if (known := self._digests.get(digest)) is not None:
            return known
        if digest not in self._hashing:
            self._hashing[digest] = shared_work.begin(partial(self._learn, digest, size_bytes))
        return await shared_work.result_of(self._hashing[digest])

    async def _learn(self, digest: str, size_bytes: int) -> Digests:
        try:
            found = await self._read_digests(digest)
            if found is None:
                found = await self._computed(digest, size_bytes)
                with _unavailable():
                    await obstore.put_async(
                        self._store, _digests_name(digest), msgspec.json.encode(found)
                    )
            self._digests[digest] = found
            return found
        finally:
            del self._hashing[digest]

    async def _computed(self, digest: str, size_bytes: int) -> Digests:
        hashing = _Hashing()
        async with self._one_at_a_time:
            async for _ in hashing.of(self.read(digest, 0, size_bytes)):
                pass
        return hashing.digests

    async def _read_digests(self, digest: str) -> Digests | None:
        with _unavailable():
            try:
                found = await obstore.get_async(self._store, _digests_name(digest))
            except FileNotFoundError:
                return None
            text = bytes(await found.bytes_async())
        try:
            return msgspec.json.decode(text, type=Digests)
        except msgspec.DecodeError:
            return None  # a crash of the machine left a part of it

    async def read(self, digest: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        """Yields the bytes at start <= position < stop of the object with this SHA-256. Each chunk
        is a request of its own: a client that takes hours occupies no connection to a bucket."""
        for first in range(start, stop, READ_BYTES):
            last = min(first + READ_BYTES, stop)
            with _unavailable():
                chunk = await obstore.get_range_async(
                    self._store, _name(digest), start=first, end=last
                )
            if len(chunk) != last - first:
                raise Unavailable(f"artifacts: {digest} is shorter than it was", RETRY_AFTER_S)
            yield bytes(chunk)


def _store(place: config.StorageLocation) -> ObjectStore:
    if isinstance(place, config.BucketUrl):
        # These options replace those of the environment, AWS_ALLOW_HTTP among them. Naming an
        # http:// endpoint allows it.
        return S3Store.from_url(
            place.url, client_options={"timeout": REQUEST_TIMEOUT, "allow_http": True}
        )
    files.private_folder(place)
    return LocalStore(place)


def _prepare(uploads: Path) -> None:
    """Creates or checks the folder of uploads, and deletes the uploads that killed processes
    left."""
    files.private_folder(uploads)
    for path in uploads.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - LEFT_S:
                path.unlink()


def _name(digest: str) -> str:
    return f"sha256/{digest[:2]}/{digest}"


def _digests_name(digest: str) -> str:
    return f"digests/{digest[:2]}/{digest}"


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise Unavailable(f"artifacts: {error}".splitlines()[0], RETRY_AFTER_S) from error
