"""Stores the files of an archive: in a folder, or in a bucket of an S3 service.

Tiles and bundles never change. `add` writes one only where there is none, and compares the content
where there is one. Only a log's checkpoint is replaced, and only if it still is the one that the
caller has read. A file is complete and durable when the call that wrote it returns.
"""

import asyncio
import contextlib
import fcntl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Protocol, override

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import ObjectStore

from firmtrail import config
from firmtrail.audit.source import FILE_BYTES_MAX
from firmtrail.database import files
from firmtrail.publishing.published_bucket import NO_TAG, bucket_at

REQUEST_TIMEOUT = timedelta(seconds=30)
RETRY_TIMEOUT = timedelta(seconds=10)

FOLDER_THREADS = 8

_PROBE = "conditional-put"
"""Names an object that `check` writes: it is no project's, whose files are in folders."""


class ArchiveRefused(Exception):
    """Says why the archive and the log do not belong together: trying again changes nothing."""


class ArchiveStore(Protocol):
    """Keeps files by their names, which are paths with slashes. Every method raises OSError where
    the store can't be reached. As a text, a store is its location."""

    async def get(self, name: str) -> bytes | None:
        """Returns a file; None if there is none."""

    async def add(self, name: str, content: bytes) -> None:
        """Writes a file that never changes. Raises `ArchiveRefused` if there is another one."""

    async def replace(self, name: str, before: bytes | None, after: bytes) -> bool:
        """Replaces a file that is still as `before`, or writes it where there is none (None).
        Returns False, and changes nothing, if it is another one."""

    async def check(self) -> None:
        """Raises OSError or `ArchiveRefused` if nothing can be written, or if an existing file
        would be overwritten."""


class FolderStore:
    """Implements `ArchiveStore` by a folder. It has threads of its own: those that wait for a
    network folder that does not answer keep no other work of the process waiting."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = ThreadPoolExecutor(FOLDER_THREADS, thread_name_prefix="archive")

    @override
    def __str__(self) -> str:
        return str(self._folder)

    async def get(self, name: str) -> bytes | None:
        return await self._in_thread(self._get, name)

    async def _in_thread[R](self, work: Callable[..., R], *args: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def _get(self, name: str) -> bytes | None:
        path = self._folder / name
        try:
            with path.open("rb") as file:
                found = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        if len(found) > FILE_BYTES_MAX:
            raise OSError(f"{path} is larger than any file of a log")
        return found

    async def add(self, name: str, content: bytes) -> None:
        await self._in_thread(self._add, name, content)

    def _add(self, name: str, content: bytes) -> None:
        path = self._folder / name
        if not path.exists():
            self._prepare(path.parent)
            exists = contextlib.suppress(FileExistsError)
            with files.temporary_file(path, content) as temporary, exists:
                path.hardlink_to(temporary)
        _check_same(path, self._get(name), content)

    async def replace(self, name: str, before: bytes | None, after: bytes) -> bool:
        return await self._in_thread(self._replace, name, before, after)

    def _replace(self, name: str, before: bytes | None, after: bytes) -> bool:
        path = self._folder / name
        self._prepare(path.parent)
        with files.open_lock_file(path.with_name(f".{path.name}.lock")) as lock:
            try:
                fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False  # another server replaces it now
            if self._get(name) != before:
                return False
            files.replace(path, after)
        return True

    def _prepare(self, folder: Path) -> None:
        """Creates a folder of the archive, and syncs those that lead to it."""
        if folder.is_dir():
            return
        files.private_folder(self._folder)
        missing = [folder]
        while not missing[-1].parent.is_dir():
            missing.append(missing[-1].parent)
        for each in reversed(missing):
            each.mkdir(mode=files.PRIVATE_FOLDER, exist_ok=True)
            files.sync(each.parent)

    async def check(self) -> None:
        await self._in_thread(files.private_folder, self._folder)
        await self._in_thread(files.check_writable, self._folder)


class BucketStore:
    """Implements `ArchiveStore` by a bucket that honours conditions of a put."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store = store
        self._name = name

    @classmethod
    def at(cls, url: str) -> "BucketStore":
        """Returns the archive in the bucket of s3://BUCKET/PREFIX."""
        return cls(bucket_at(url, REQUEST_TIMEOUT, RETRY_TIMEOUT), url)

    @override
    def __str__(self) -> str:
        return self._name

    async def get(self, name: str) -> bytes | None:
        found = await self._get(name)
        return found[0] if found else None

    async def _get(self, name: str) -> tuple[bytes, str] | None:
        """Returns an object and its entity tag."""
        with self._errors():
            try:
                found = await obstore.get_async(self._store, name)
            except FileNotFoundError:
                return None
            if found.meta["size"] > FILE_BYTES_MAX:
                raise OSError(f"{self._name}/{name} is larger than any file of a log")
            return bytes(await found.bytes_async()), found.meta["e_tag"] or ""

    async def add(self, name: str, content: bytes) -> None:
        if not await self._put(name, content, "create"):
            _check_same(f"{self._name}/{name}", await self.get(name), content)

    async def replace(self, name: str, before: bytes | None, after: bytes) -> bool:
        found = await self._get(name)
        if (found[0] if found else None) != before:
            return False
        return await self._put(name, after, {"e_tag": found[1]} if found else "create")

    async def _put(self, name: str, content: bytes, mode: "obstore.PutMode") -> bool:
        """Writes the object; returns False if the condition of `mode` does not hold."""
        with self._errors():
            try:
                await obstore.put_async(self._store, name, content, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
            except NotImplementedError as error:
                raise ArchiveRefused(f"{self._name} has no conditional writes") from error
        return True

    async def folders(self, name: str) -> list[str]:
        """Returns the names of the folders in a folder."""
        with self._errors():
            found = await obstore.list_with_delimiter_async(self._store, name)
        return [each.rstrip("/").rpartition("/")[2] for each in found["common_prefixes"]]

    async def check(self) -> None:
        await self._put(_PROBE, b"", "create")
        again = await self._put(_PROBE, b"", "create")
        if again or await self._put(_PROBE, b"x", {"e_tag": NO_TAG}):
            raise ArchiveRefused(
                f"{self._name} ignores If-None-Match or If-Match, so a file of the archive could "
                "be overwritten: use a store that honours both, or a folder"
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BaseError as error:
            raise OSError(f"{self._name}: {str(error).splitlines()[0]}") from error


def _check_same(place: Path | str, there: bytes | None, content: bytes) -> None:
    if there != content:
        raise ArchiveRefused(f"{place} has another content than the log")


def store_at(location: config.StorageLocation) -> ArchiveStore:
    """Returns the store of a location. Creates nothing."""
    if isinstance(location, config.BucketUrl):
        return BucketStore.at(location.url)
    return FolderStore(location)
