"""What C2SP tlog-tiles clients read: the log's tree and its entries as tiles, and proofs of growth.

None of these answers ever changes for a log, so they may be kept. A tile that needs more than the
log has is not there; any narrower one is, whether or not there was a checkpoint of that size.
"""

from base64 import b64encode

from aiohttp import web

from firmtrail.eventstore import log, tiles, tree
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.eventstore.tiles import Tile
from firmtrail.http import recorded_reads, respond
from firmtrail.http.bodies import ConsistencyQuery
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.logs import is_newest, log_of

OCTETS = "application/octet-stream"
TEXT = "text/plain"

RECORDED_POSITIONS = 65_536

KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}
"""Private, as it is for those who may audit. A year is what caches take for ever."""

KEPT_OF_NEWEST = {"Cache-Control": "private, max-age=60"}
"""The newest log is another one when the project begins one: who keeps tiles, reads by number."""


async def get_tile(call: AnyCall) -> web.Response:
    """Neighbouring hashes of one level of the tree."""
    level = int(call.path("level") or -1)
    log_id, tile = await _tile_of(call, level, str(level))
    hashes = await tree.hash_tile(call.services.db, log_id, level, *tile)
    return respond.encoded_resource(call, OCTETS, hashes, _kept(call))


async def get_bundle(call: AnyCall) -> web.Response:
    """The entries below a tile of leaf hashes."""
    log_id, tile = await _tile_of(call, 0, "entries")
    entries = await tree.bundle(call.services.db, log_id, *tile)
    headers = _kept(call) | {"Vary": "Accept-Encoding"}
    response = respond.encoded_resource(call, OCTETS, entries, headers)
    if respond.accepts_gzip(call.request):
        response.headers["ETag"] = f"W/{response.headers['ETag']}"  # of other bytes
        if response.status == 200:
            response.enable_compression(web.ContentCoding.gzip)
    return response


async def get_consistency(call: Call[ConsistencyQuery, None]) -> web.Response:
    """The proof that the log only grew between two sizes: a hash a line, in base64."""
    db, query = call.services.db, call.query
    log_id = await log_of(call)
    size = (await log.head(db, log_id)).size
    if query.new > size:
        raise invalid_parameter("to", f"the log has {size} events")
    if query.old > query.new:
        raise invalid_parameter("from", "is more than `to`")
    proof = await tree.consistency(db, log_id, query.old, query.new)
    lines = "".join(f"{b64encode(node).decode()}\n" for node in proof)
    return respond.encoded_resource(call, TEXT, lines.encode(), _kept(call))


def _kept(call: AnyCall) -> dict[str, str]:
    return KEPT_OF_NEWEST if is_newest(call) else KEPT


async def _tile_of(call: AnyCall, level: int, what: str) -> tuple[int, Tile]:
    """The log and the tile that the path names, the read of them recorded.

    Raises `NotFound` where the log has no such tile.
    """
    log_id, tile = await log_of(call), tiles.parse(call.path("tile"))
    if level < 0 or tile is None:
        raise NotFound
    head = await log.head(call.services.db, log_id)
    if not tiles.is_within(level, tile, head.size):
        raise NotFound("The log has no such tile.")
    path = f"/logs/{head.number}/tile/{what}"
    await recorded_reads.record_once_a_minute(
        call, path, {"log": head.number, **_range(level, tile)}
    )
    return log_id, tile


def _range(level: int, tile: Tile) -> dict[str, int]:
    """The positions that the tile and its neighbours are about: at least `RECORDED_POSITIONS`, so
    that who fetches all tiles leaves a record for each so many positions, and not for each tile.
    """
    positions = TILE_WIDTH ** (level + 1)
    block = max(positions, RECORDED_POSITIONS)
    start = tile.number * positions // block * block
    return {"from": start, "to": start + block}
