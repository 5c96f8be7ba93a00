"""Serves the log to C2SP tlog-tiles clients: tree and entries as tiles, and proofs of growth.

None of these answers ever changes for a log, so caches may keep them. A tile that needs more events
than the log has does not exist; every narrower one does, whether or not a checkpoint has its size.
"""

from base64 import b64encode
from typing import Any

import msgspec
from aiohttp import web

from firmtrail.eventstore import log, tiles, tree
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.eventstore.tiles import Tile
from firmtrail.http import recorded_reads, respond
from firmtrail.http.api.rows import AUDIT, TEXT, L, P, resource
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.logs import is_newest, log_of
from firmtrail.http.respond import BYTES
from firmtrail.http.route import Handler, Route
from firmtrail.http.scalars import Position

RECORDED_POSITIONS = 65_536
"""Reads of tiles are recorded in blocks of at least so many positions."""

KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}
"""Private, because only auditors may read it. Caches treat a year as for ever."""

KEPT_OF_NEWEST = {"Cache-Control": "private, max-age=60"}
"""Another log becomes the newest one; a client that caches for longer reads a log by its number."""


class ConsistencyQuery(
    msgspec.Struct, frozen=True, kw_only=True, rename={"old": "from", "new": "to"}
):
    """Names the sizes between which the log grew."""

    old: Position
    new: Position


async def get_tile(call: AnyCall) -> web.Response:
    """Return up to 256 hashes of a level of the tree: a tile of C2SP tlog-tiles."""
    level = int(call.path("level") or -1)
    log_id, tile = await _tile_of(call, level, str(level))
    hashes = await tree.hash_tile(call.db, log_id, level, *tile)
    return respond.encoded_resource(call, BYTES, hashes, _kept(call))


async def get_bundle(call: AnyCall) -> web.Response:
    """Return up to 256 entries, each after its length: a bundle of C2SP tlog-tiles."""
    log_id, tile = await _tile_of(call, 0, "entries")
    entries = await tree.bundle(call.db, log_id, *tile)
    headers = _kept(call) | {"Vary": "Accept-Encoding"}
    response = respond.encoded_resource(call, BYTES, entries, headers)
    if respond.accepts_gzip(call.request):
        response.headers["ETag"] = f"W/{response.headers['ETag']}"  # not the plain bytes
        if response.status == 200:
            response.enable_compression(web.ContentCoding.gzip)
    return response


async def get_consistency(call: Call[ConsistencyQuery, None]) -> web.Response:
    """Return the proof that the log only grew between two sizes, one base64 hash per line."""
    db, query = call.db, call.query
    log_id = await log_of(call)
    size = (await log.head(db, log_id)).size
    if query.new > size:
        raise invalid_parameter("to", f"the log has {size} events")
    if query.old > query.new:
        raise invalid_parameter("from", "is greater than `to`")
    proof = await tree.consistency(db, log_id, query.old, query.new)
    lines = "".join(f"{b64encode(node).decode()}\n" for node in proof)
    return respond.encoded_resource(call, TEXT, lines.encode(), _kept(call))


def _kept(call: AnyCall) -> dict[str, str]:
    return KEPT_OF_NEWEST if is_newest(call) else KEPT


async def _tile_of(call: AnyCall, level: int, what: str) -> tuple[int, Tile]:
    """Returns the log and the tile that the path names, and records the read. Raises `NotFound` if
    the log has no such tile."""
    log_id, tile = await log_of(call), tiles.parse(call.path("tile"))
    if level < 0 or tile is None:
        raise NotFound
    head = await log.head(call.db, log_id)
    if not tiles.is_within(level, tile, head.size):
        raise NotFound("The log has no such tile.")
    path = f"/logs/{head.number}/tile/{what}"
    await recorded_reads.record_once_a_minute(
        call, path, {"log": head.number, **_range(level, tile)}
    )
    return log_id, tile


def _range(level: int, tile: Tile) -> dict[str, int]:
    """Returns the positions of the block of tiles around this one, at least `RECORDED_POSITIONS`: a
    client that fetches all tiles leaves one record for each block, and not one for each tile."""
    positions = TILE_WIDTH ** (level + 1)
    block = max(positions, RECORDED_POSITIONS)
    start = tile.number * positions // block * block
    return {"from": start, "to": start + block}


def _read(path: str, handler: Handler, content: str, **fields: Any) -> Route:
    return resource(
        path, handler, AUDIT, content, reads_standby=True, reads_log_only=True, **fields
    )


def _of_log(prefix: str) -> tuple[Route, ...]:
    """Describes the tiles of a log. Entries come first, or they would be taken for a level."""
    return (
        _read(
            f"{prefix}/tile/entries/{{tile}}", get_bundle, BYTES, sends=("Vary",), refusals={410}
        ),
        _read(f"{prefix}/tile/{{level}}/{{tile}}", get_tile, BYTES),
        _read(f"{prefix}/consistency", get_consistency, TEXT, query=ConsistencyQuery),
    )


ROUTES = (*_of_log(f"{P}/log"), *_of_log(L))
