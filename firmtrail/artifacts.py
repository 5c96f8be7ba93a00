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
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from firmtrail import config
from firmtrail.database import files
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

_UPLOADS = "uploads"
_PROBE = "no-such-prefix"
"""A prefix to list: it shows that the bucket answers, and the answer is small."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Describes bytes that have arrived and are not kept yet."""

    name: str
    size_bytes: int
    sha256: str


class Artifacts:
    """Stores artifacts. Raises `Unavailable` if the store can't serve."""

    def __init__(self, place: config.StorageLocation) -> None:
        self._place = place
        self._store = _store(place)

    @contextlib.asynccontextmanager
    async def received(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Upload]:
        """Stores bytes as they arrive, and hashes them. Unless the block keeps them, they are
        deleted after it. An error of `chunks` is raised."""
        name, digest, size_bytes = f"{_UPLOADS}/{uuid4().hex}", sha256(), 0

        async def hashed() -> AsyncIterator[bytes]:
            nonlocal size_bytes
            async for chunk in chunks:
                digest.update(chunk)
                size_bytes += len(chunk)
                yield chunk

        with _unavailable():
            if isinstance(self._place, Path):
                await asyncio.to_thread(_prepare, self._place / _UPLOADS)
            await obstore.put_async(
                self._store, name, hashed(), chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )
        try:
            yield Upload(name, size_bytes, digest.hexdigest())
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


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise Unavailable(f"artifacts: {error}".splitlines()[0], RETRY_AFTER_S) from error
