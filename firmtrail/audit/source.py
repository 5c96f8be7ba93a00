"""Reads a log from a URL, from the directory of an export, or from a database.

All are read by the paths of C2SP tlog-tiles, relative to the log's own address: `checkpoint`,
`tile/…`, `tile/entries/…`, and `key`, which is Firmtrail's addition. Nothing that is read is
trusted: it is compared with the hashes of the entries, and in the end with the signed root.
"""

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession

from firmtrail.audit.growing_tree import TileId
from firmtrail.database.database import Database
from firmtrail.eventstore import merkle, tiles, tree
from firmtrail.eventstore.log import Corrupt
from firmtrail.publishing.checkpoint import BadNote, Checkpoint, parse, read_key_line, verify_note

ENTRY_LENGTH_BYTES = 2
FILE_BYTES_MAX = merkle.TILE_WIDTH * (ENTRY_LENGTH_BYTES + 0xFFFF)
"""The size of a bundle of the longest entries; all other files of a log are smaller."""

WAITS_S = (1, 5, 15)
_CREDENTIAL = re.compile(r"[^/\s]*@")
"""The part of a URL that holds a credential."""

CHECKPOINT, KEY = "checkpoint", "key"


class Missing(Exception):
    """Says that the source answers, but has no such file."""


class Unreadable(OSError):
    """Says that the source does not answer, or refuses to."""


class Denied(Unreadable):
    """Says that the source refuses this caller: trying again changes nothing."""


class Source(Protocol):
    """Serves the files of a log."""

    async def get(self, path: str) -> bytes:
        """Returns the file at a path of the log. Raises `Missing`, `Unreadable`."""


class SignedNote(NamedTuple):
    """Holds a source's note, the key that opens it, and the checkpoint in it."""

    note: str
    key: str
    checkpoint: Checkpoint


class DirectorySource:
    """Reads an export, or any tlog in a directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    async def get(self, path: str) -> bytes:
        try:
            return (self._folder / path).read_bytes()
        except FileNotFoundError as error:
            raise Missing(path) from error


class UrlSource:
    """Reads a log over HTTP. A server that has answered once is asked again when it fails."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._waits_s: Sequence[int] = ()

    def __str__(self) -> str:
        """Returns the URL without a credential that it may contain."""
        return _CREDENTIAL.sub("", self._url)

    async def get(self, path: str) -> bytes:
        for wait_s in self._waits_s:
            try:
                return await self._get(path)
            except Denied:
                raise
            except Unreadable:
                await asyncio.sleep(wait_s)
        answer = await self._get(path)
        self._waits_s = WAITS_S
        return answer

    async def _get(self, path: str) -> bytes:
        try:
            async with self._session.get(f"{self._url}/{path}") as response:
                if response.status == 404:
                    raise Missing(path)
                if response.status in {401, 403}:
                    answer = f"{response.url} answers {response.status} {response.reason}"
                    raise Denied(f"{answer}: give a token that may audit the project")
                if response.status != 200:
                    raise Unreadable(f"{response.url} answers {response.status} {response.reason}")
                return await _bounded(response)
        except (ClientError, TimeoutError) as error:
            reason = _CREDENTIAL.sub("", str(error)) or type(error).__name__
            if isinstance(error, ClientConnectorError) and error.os_error.errno:
                reason = os.strerror(error.os_error.errno)
            raise Unreadable(f"{self}/{path} can't be read: {reason}") from error


async def _bounded(response: ClientResponse) -> bytes:
    """Returns the body. An untrusted server can't send more than the largest file of a log."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > FILE_BYTES_MAX:
            raise Unreadable(f"{response.url} answers with more than {FILE_BYTES_MAX} bytes")
    return bytes(body)


class DatabaseSource:
    """Reads the tiles of a log in a database; `note` and `key` are its checkpoint and key files."""

    def __init__(self, db: Database, log_id: int, *, note: str, key: str) -> None:
        self._db = db
        self._log_id = log_id
        self._files = {CHECKPOINT: note, KEY: key}

    async def get(self, path: str) -> bytes:
        if path in self._files:
            return self._files[path].encode()
        _, level, number = path.split("/", 2)
        found = tiles.parse(number)
        assert found is not None, f"{path} is not the path of a tile"
        try:
            if level == "entries":
                return await tree.bundle(self._db, self._log_id, *found)
            return await tree.hash_tile(self._db, self._log_id, int(level), *found)
        except Corrupt as error:
            raise Missing(path) from error


async def published(source: Source, keys: Sequence[str] = ()) -> SignedNote:
    """Returns the checkpoint of a log. Raises `BadNote` if none of `keys` opens it. Without keys
    the source's own key is used: a caller that trusts this key trusts the source."""
    note = (await source.get(CHECKPOINT)).decode(errors="replace")
    for key in keys or [(await source.get(KEY)).decode(errors="replace")]:
        verifier = read_key_line(key)
        if verifier.name == parse(note).origin:
            return SignedNote(note, key, verify_note(note, verifier))
    raise BadNote(f"none of the keys is for {parse(note).origin}")


async def tile(source: Source, wanted: TileId, size: int) -> bytes:
    """Returns the hashes of a tile of a log of this size."""
    level_width = size >> merkle.TILE_HEIGHT * wanted.level
    widest = min(merkle.TILE_WIDTH, level_width - wanted.number * merkle.TILE_WIDTH)
    whole = await _get(source, f"tile/{wanted.level}/", wanted, widest)
    return whole[: wanted.width * merkle.HASH_BYTES]


async def bundle(source: Source, number: int, width: int) -> list[bytes]:
    """Returns the first `width` entries of a bundle. Raises `ValueError` if it is malformed."""
    entries = split_bundle(await _get(source, "tile/entries/", TileId(0, number, width), width))
    if len(entries) < width:
        raise ValueError(f"it contains {len(entries)} entries instead of {width}")
    return entries[:width]


async def _get(source: Source, folder: str, wanted: TileId, widest: int) -> bytes:
    """Returns a tile of at least the wanted width: a partial tile may be missing when there is a
    wider one. C2SP tlog-tiles ("Partial tiles") allows servers to drop it once the tile is full."""
    for width in sorted({wanted.width, widest, merkle.TILE_WIDTH}):
        try:
            return await source.get(folder + tiles.path(tiles.Tile(wanted.number, width)))
        except Missing:
            if width == merkle.TILE_WIDTH:
                raise
    raise AssertionError("a tile is at most full")


def path(tile: TileId) -> str:
    return f"tile/{tile.level}/{tiles.path(tiles.Tile(tile.number, tile.width))}"


def bundle_path(number: int, width: int) -> str:
    return f"tile/entries/{tiles.path(tiles.Tile(number, width))}"


def split_bundle(text: bytes) -> list[bytes]:
    """Returns the entries of a bundle; two bytes before each entry hold its length."""
    entries, at = [], 0
    while at < len(text):
        start = at + ENTRY_LENGTH_BYTES
        at = start + int.from_bytes(text[at:start])
        if at > len(text):
            raise ValueError("it ends within an entry")
        entries.append(text[start:at])
    return entries


def join_bundle(entries: list[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(ENTRY_LENGTH_BYTES) + entry for entry in entries)
