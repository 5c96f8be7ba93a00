"""Where do the bytes of artifacts lie? In a folder, or in a bucket of S3's kind, named by their
SHA-256.

An object is there whole or not at all, is durable before anybody learns of it, and never changes:
its name is what it holds. Bytes that arrive lie under `uploads/` until they are kept. An upload
that fails leaves nothing. What one leaves whose process ends meanwhile is swept away in a folder by
the first upload a day later; in a bucket that is left to the bucket's rule for incomplete uploads.
Which release an artifact belongs to is in the log; objects know nothing of projects.
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
"""The size of a piece that is sent to the store, the least that S3 takes. An upload holds three."""
PARTS_AT_ONCE = 2
READ_BYTES = 256 * 1024
"""What a download holds."""
REQUEST_TIMEOUT = timedelta(minutes=10)
"""To a bucket: what copies gigabytes on its side takes its time."""
LEFT_S = 24 * 3600
"""After so long an unfinished upload is nobody's any more."""
RETRY_AFTER_S = 30

_UPLOADS = "uploads"
_PROBE = "no-such-prefix"
"""Listing it shows that the bucket answers, and costs one small answer."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes that have arrived and are not kept yet."""

    name: str
    size_bytes: int
    sha256: str


class Artifacts:
    """A store of artifacts. Raises `Unavailable` where it can't serve."""

    def __init__(self, place: config.StorageLocation) -> None:
        self._place = place
        self._store = _store(place)

    @contextlib.asynccontextmanager
    async def received(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Upload]:
        """Store bytes as they come, and hash them. What is not kept inside of the block is gone
        after it; what `chunks` raises is raised."""
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
                self._store,
                name,
                hashed(),
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        try:
            yield Upload(name, size_bytes, digest.hexdigest())
        finally:
            with _unavailable(), contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self._store, name)

    async def keep(self, upload: Upload) -> None:
        """Make it the object of its digest; once this returns, it is durable.

        An object that is there already has the same bytes and stays.
        """
        target = _name(upload.sha256)
        with _unavailable():
            if isinstance(self._place, Path):
                await self._keep_in_folder(self._place, upload.name, target)
            elif not await self._has(target):
                # Two that do this in parallel write the same bytes; S3 shows either, whole.
                await obstore.copy_async(self._store, upload.name, target)

    async def _keep_in_folder(self, folder: Path, name: str, target: str) -> None:
        """Syncs bytes before their name: else a lost machine could leave a name with fewer bytes.

        The store creates files as the process's umask lets it, so their mode is set here.
        """
        await asyncio.to_thread((folder / name).chmod, files.PRIVATE)
        await asyncio.to_thread(files.sync, folder / name)
        with contextlib.suppress(AlreadyExistsError):
            await obstore.rename_async(self._store, name, target, overwrite=False)
        kept = folder / target
        for path in (kept.parent, kept.parent.parent, folder, folder.parent):
            await asyncio.to_thread(files.sync, path)

    async def check(self) -> None:
        """Raise `Unavailable` where nothing can be stored."""
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
        """The bytes at start <= position < stop of what has this SHA-256, in small chunks.

        Each is a request of its own: a client that takes hours holds no connection to a bucket.
        """
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
        # Options given here are all that count, so what AWS_ALLOW_HTTP says would be lost: that an
        # endpoint may be http:// is said by naming one.
        return S3Store.from_url(
            place.url, client_options={"timeout": REQUEST_TIMEOUT, "allow_http": True}
        )
    files.private_folder(place)
    return LocalStore(place)


def _prepare(uploads: Path) -> None:
    """Create or check the folder of uploads, and delete what killed processes have left."""
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
