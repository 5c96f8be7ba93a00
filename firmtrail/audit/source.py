"""Where a log is read from: a URL, a directory of an export, a database.

All are read by the names of C2SP tlog-tiles, relative to the log's own address: `checkpoint`,
`tile/…`, `tile/entries/…`, and `key`, which is ours. What is read is believed by nobody: it is
held against what the entries hash to, and in the end against the signed root.
"""

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession

from firmtrail.audit.edge import Place
from firmtrail.database.database import Database
from firmtrail.eventstore import merkle, tiles, tree
from firmtrail.eventstore.log import Corrupt
from firmtrail.publishing.checkpoint import BadNote, Checkpoint, parse, read_key_line, verify_note

ENTRY_LENGTH_BYTES = 2
FILE_BYTES_MAX = merkle.TILE_WIDTH * (ENTRY_LENGTH_BYTES + 0xFFFF)
"""Of a bundle of the longest entries; everything else of a log is smaller."""

WAITS_S = (1, 5, 15)
_CREDENTIAL = re.compile(r"[^/\s]*@")
"""The part of a URL that says who asks for it."""

CHECKPOINT, KEY = "checkpoint", "key"


class Missing(Exception):
    """The source answers, and has no such thing."""


class Unreadable(OSError):
    """The source does not answer, or refuses to."""


class Denied(Unreadable):
    """The source refuses this caller: asking again changes nothing."""


class Source(Protocol):
    """A log as somebody serves it."""

    async def get(self, path: str) -> bytes:
        """What lies at a path of the log. Raises `Missing`, `Unreadable`."""


class Published(NamedTuple):
    """What a source signs: a note, the key that opens it, and what it says."""

    note: str
    key: str
    signed: Checkpoint


class Directory:
    """An export, or any tlog that somebody made a directory of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    async def get(self, path: str) -> bytes:
        try:
            return (self._folder / path).read_bytes()
        except FileNotFoundError as error:
            raise Missing(path) from error


class Url:
    """A log that is served over HTTP. Who answered once is asked again when he fails to."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._waits_s: Sequence[int] = ()

    def __str__(self) -> str:
        """Without the credential that it may carry."""
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
                    said = f"{response.url} answers {response.status} {response.reason}"
                    raise Denied(f"{said}: give a token that may audit the project")
                if response.status != 200:
                    raise Unreadable(f"{response.url} answers {response.status} {response.reason}")
                return await _bounded(response)
        except (ClientError, TimeoutError) as error:
            said = _CREDENTIAL.sub("", str(error)) or type(error).__name__
            if isinstance(error, ClientConnectorError) and error.os_error.errno:
                said = os.strerror(error.os_error.errno)
            raise Unreadable(f"{self}/{path} can't be read: {said}") from error


async def _bounded(response: ClientResponse) -> bytes:
    """The body, of which a server that nobody trusts sends no more than any file of a log has."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > FILE_BYTES_MAX:
            raise Unreadable(f"{response.url} answers with more than {FILE_BYTES_MAX} bytes")
    return bytes(body)


class Stored:
    """A log of a database, as its tiles; with the note and key that are published of it."""

    def __init__(self, db: Database, log_id: int, *, note: str, key: str) -> None:
        self._db = db
        self._log_id = log_id
        self._texts = {CHECKPOINT: note, KEY: key}

    async def get(self, path: str) -> bytes:
        if path in self._texts:
            return self._texts[path].encode()
        _, level, place = path.split("/", 2)
        found = tiles.parse(place)
        assert found is not None, f"{path} is no tile's"
        try:
            if level == "entries":
                return await tree.bundle(self._db, self._log_id, *found)
            return await tree.hash_tile(self._db, self._log_id, int(level), *found)
        except Corrupt as error:
            raise Missing(path) from error


async def published(source: Source, keys: Sequence[str] = ()) -> Published:
    """The checkpoint of a log. Raises `BadNote` where none of `keys` opens it.

    Without keys the source's own is taken: who trusts that trusts the source.
    """
    note = (await source.get(CHECKPOINT)).decode(errors="replace")
    for key in keys or [(await source.get(KEY)).decode(errors="replace")]:
        verifier = read_key_line(key)
        if verifier.name == parse(note).origin:
            return Published(note, key, verify_note(note, verifier))
    raise BadNote(f"none of the keys is of {parse(note).origin}")


async def tile(source: Source, place: Place, size: int) -> bytes:
    """The hashes of a tile, as a log of this size has it."""
    widest = min(merkle.TILE_WIDTH, _hashes(place.level, size) - place.number * merkle.TILE_WIDTH)
    whole = await _get(source, f"tile/{place.level}/", place, widest)
    return whole[: place.width * merkle.HASH_BYTES]


def _hashes(level: int, size: int) -> int:
    """How many hashes a level of the tree has."""
    return size >> merkle.TILE_HEIGHT * level


async def bundle(source: Source, number: int, width: int) -> list[bytes]:
    """The first `width` entries of a bundle. Raises `ValueError` where they are not that."""
    entries = split_bundle(await _get(source, "tile/entries/", Place(0, number, width), width))
    if len(entries) < width:
        raise ValueError(f"it holds {len(entries)} entries instead of {width}")
    return entries[:width]


async def _get(source: Source, folder: str, place: Place, widest: int) -> bytes:
    """A part of a tile may be gone once there is a wider one: a directory was made when there was.

    C2SP tlog-tiles ("Partial tiles") lets it go once the tile is full.
    """
    for width in sorted({place.width, widest, merkle.TILE_WIDTH}):
        try:
            return await source.get(folder + tiles.path(tiles.Tile(place.number, width)))
        except Missing:
            if width == merkle.TILE_WIDTH:
                raise
    raise AssertionError("a tile is at most full")


def path(place: Place) -> str:
    return f"tile/{place.level}/{tiles.path(tiles.Tile(place.number, place.width))}"


def bundle_path(number: int, width: int) -> str:
    return f"tile/entries/{tiles.path(tiles.Tile(number, width))}"


def split_bundle(text: bytes) -> list[bytes]:
    """The entries of a bundle, each of which has its length in two bytes before it."""
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
