"""Keeps the last published checkpoints in a bucket of S3's kind, which needs no shared file system.

One object for each log, named by its origin, which holds the signed note. Servers change it by
conditional put: `If-None-Match: *` for the first, `If-Match` with the entity tag that was read for
each further one. The store compares and writes in one step, so of several servers one makes each
step. A store that ignores these conditions could let a log fork: `check` refuses it.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple, override

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import ObjectStore, S3Store

from firmtrail.publishing.published_file import BadFile, Move, Notes

AT_ONCE = 16
"""Requests to the store that run in parallel."""
IDLE_READ_S = 10.0
REQUEST_TIMEOUT = timedelta(seconds=10)
RETRY_TIMEOUT = timedelta(seconds=5)

_PROBE = "conditional-put"
"""An object that only shows whether the store honours conditions. Origins have slashes."""
_WANTED = "Use a store that does, or --checkpoints-file on a file system that is shared"


class _Kept(NamedTuple):
    """An object as it was seen last."""

    e_tag: str
    note: str


class Bucket:
    """Keeps them in a bucket, for all servers of a database."""

    idle_read_s = IDLE_READ_S

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store = store
        self._name = name
        self._kept: dict[str, _Kept] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    @classmethod
    def at(cls, url: str) -> "Bucket":
        """Returns the bucket of s3://BUCKET/PREFIX; credentials come from the usual AWS_…
        variables."""
        store = S3Store.from_url(
            url,
            client_options={"timeout": REQUEST_TIMEOUT, "allow_http": True},
            retry_config={"max_retries": 3, "retry_timeout": RETRY_TIMEOUT},
        )
        return cls(store, url)

    @override
    def __str__(self) -> str:
        return self._name

    async def read(self) -> Notes:
        """Return everything that is published; fetches only the objects that have changed."""
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
                    if origin not in self._kept or self._kept[origin].e_tag != e_tag
                )
            )
        self._kept = {origin: kept for origin, kept in self._kept.items() if origin in listed}
        return {origin: kept.note for origin, kept in self._kept.items()}

    async def _fetch(self, origin: str) -> None:
        async with self._places:
            found = await obstore.get_async(self._store, origin)
            content = bytes(await found.bytes_async())
        try:
            self._kept[origin] = _Kept(found.meta["e_tag"] or "", content.decode())
        except UnicodeDecodeError as error:
            raise BadFile(f"{self._name}/{origin} is no checkpoint: {error}") from error

    async def compare_and_set(self, moves: Mapping[str, Move]) -> frozenset[str]:
        """Make the moves whose `before` still stands; every put has ended when this returns."""
        done = await asyncio.gather(
            *(self._move(origin, move) for origin, move in moves.items()), return_exceptions=True
        )
        for each in done:
            if isinstance(each, BaseException):
                raise each
        return frozenset(origin for origin, is_made in zip(moves, done, strict=True) if is_made)

    async def _move(self, origin: str, move: Move) -> bool:
        kept = self._kept.get(origin)
        if move.before != (kept.note if kept else None):
            return False
        async with self._places:
            with self._errors():
                e_tag = await self._put(origin, move.after.encode(), kept)
        if e_tag is not None:
            self._kept[origin] = _Kept(e_tag, move.after)
        return e_tag is not None

    async def _put(self, name: str, content: bytes, kept: _Kept | None) -> str | None:
        """Write the object if it is as it was kept; None: it is not."""
        mode: obstore.PutMode = "create" if kept is None else {"e_tag": kept.e_tag}
        try:
            made = await obstore.put_async(
                self._store, name, content, mode=mode, use_multipart=False
            )
        except (AlreadyExistsError, PreconditionError):
            return None
        except NotImplementedError as error:
            raise BadFile(f"{self._name} has no conditional writes. {_WANTED}") from error
        return made["e_tag"] or ""

    async def check(self) -> None:
        """Read, write, and see that both conditions are honoured. Raises OSError, `BadFile`."""
        await self.read()
        with self._errors():
            await self._put(_PROBE, b"", None)
            again = await self._put(_PROBE, b"", None)
            other = await self._put(_PROBE, b"x", _Kept('"0123456789abcdef0123456789abcdef"', ""))
        if again is not None or other is not None:
            raise BadFile(
                f"{self._name} ignores If-None-Match or If-Match, so two servers could overwrite "
                f"each other's checkpoints. {_WANTED}"
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise OSError(f"{self._name}: {str(error).splitlines()[0]}") from error
