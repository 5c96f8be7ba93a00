"""Keeps the published checkpoints in an S3 bucket, which needs no shared file system.

Each log has one object, named by its origin, that contains the signed note. Servers change it by a
conditional put: `If-None-Match: *` for the first note, `If-Match` with the entity tag that was read
for each later one. The bucket compares and writes in one step, so only one of several servers makes
each change. A bucket that ignores these conditions could let a log fork: `check` refuses it.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple, override

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import ObjectStore, S3Store

from firmtrail.publishing.checkpoint_store import BadStore, NoteChange, Notes

REQUESTS_MAX = 16
"""Requests to the bucket that run in parallel."""
IDLE_READ_S = 10.0
REQUEST_TIMEOUT = timedelta(seconds=10)
RETRY_TIMEOUT = timedelta(seconds=5)

NO_TAG = '"0123456789abcdef0123456789abcdef"'
"""An entity tag that no object has: a put on condition of it must fail."""

_PROBE = "conditional-put"
"""Names an object that `check` writes. Unlike an origin it has no slash, so it is no checkpoint."""
_REMEDY = "Use a store that does, or --checkpoints-file on a file system that is shared"


def bucket_at(url: str, request_timeout: timedelta, retry_timeout: timedelta) -> S3Store:
    """Returns the bucket of s3://BUCKET/PREFIX, with credentials of the usual AWS_… variables."""
    return S3Store.from_url(
        url,
        client_options={"timeout": request_timeout, "allow_http": True},
        retry_config={"max_retries": 3, "retry_timeout": retry_timeout},
    )


class _Cached(NamedTuple):
    """Holds an object as this process last saw it."""

    e_tag: str
    note: str


class CheckpointBucket:
    """Implements `CheckpointStore` by a bucket. Caches notes, and fetches only those that
    changed."""

    idle_read_s = IDLE_READ_S

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store = store
        self._name = name
        self._cache: dict[str, _Cached] = {}
        self._requests = asyncio.Semaphore(REQUESTS_MAX)

    @classmethod
    def at(cls, url: str) -> "CheckpointBucket":
        """Returns the checkpoints in the bucket of s3://BUCKET/PREFIX."""
        return cls(bucket_at(url, REQUEST_TIMEOUT, RETRY_TIMEOUT), url)

    @override
    def __str__(self) -> str:
        return self._name

    async def read(self) -> Notes:
        listed: dict[str, str] = {}
        with self._errors():
            async for page in obstore.list(self._store):
                listed |= {
                    each["path"]: each["e_tag"] or "" for each in page if "/" in each["path"]
                }
            await asyncio.gather(
                *(
                    self._fetch(origin)
                    for origin, e_tag in listed.items()
                    if origin not in self._cache or self._cache[origin].e_tag != e_tag
                )
            )
        self._cache = {origin: cached for origin, cached in self._cache.items() if origin in listed}
        return {origin: cached.note for origin, cached in self._cache.items()}

    async def _fetch(self, origin: str) -> None:
        async with self._requests:
            found = await obstore.get_async(self._store, origin)
            content = bytes(await found.bytes_async())
        try:
            self._cache[origin] = _Cached(found.meta["e_tag"] or "", content.decode())
        except UnicodeDecodeError as error:
            raise BadStore(f"{self._name}/{origin} is not a checkpoint: {error}") from error

    async def compare_and_set(self, changes: Mapping[str, NoteChange]) -> frozenset[str]:
        """Has no put under way when it returns or raises."""
        done = await asyncio.gather(
            *(self._change(origin, change) for origin, change in changes.items()),
            return_exceptions=True,
        )
        for each in done:
            if isinstance(each, BaseException):
                raise each
        return frozenset(origin for origin, is_made in zip(changes, done, strict=True) if is_made)

    async def _change(self, origin: str, change: NoteChange) -> bool:
        cached = self._cache.get(origin)
        if change.before != (cached.note if cached else None):
            return False
        async with self._requests:
            with self._errors():
                e_tag = await self._put(origin, change.after.encode(), cached)
        if e_tag is not None:
            self._cache[origin] = _Cached(e_tag, change.after)
        return e_tag is not None

    async def _put(self, name: str, content: bytes, cached: _Cached | None) -> str | None:
        """Writes the object if it is as `cached`, and returns its new tag; None: it is not."""
        mode: obstore.PutMode = "create" if cached is None else {"e_tag": cached.e_tag}
        try:
            made = await obstore.put_async(
                self._store, name, content, mode=mode, use_multipart=False
            )
        except (AlreadyExistsError, PreconditionError):
            return None
        except NotImplementedError as error:
            raise BadStore(f"{self._name} has no conditional writes. {_REMEDY}") from error
        return made["e_tag"] or ""

    async def check(self) -> None:
        """Raises if the bucket can't be read or written, or ignores one of the two conditions."""
        await self.read()
        with self._errors():
            await self._put(_PROBE, b"", None)
            again = await self._put(_PROBE, b"", None)
            other = await self._put(_PROBE, b"x", _Cached(NO_TAG, ""))
        if again is not None or other is not None:
            raise BadStore(
                f"{self._name} ignores If-None-Match or If-Match, so two servers could overwrite "
                f"each other's checkpoints. {_REMEDY}"
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise OSError(f"{self._name}: {str(error).splitlines()[0]}") from error
