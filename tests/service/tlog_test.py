"""Checks the log as tiles over HTTP: a client can verify it with these alone."""

from base64 import b64decode
from hashlib import sha256

import pytest

from firmtrail.eventstore import proofs, tiles
from firmtrail.eventstore.proofs import TreeHead
from firmtrail.eventstore.tiles import Tile
from tests.contract.appended import append
from tests.databases import new_log
from tests.fleet import register
from tests.reference import Reference
from tests.service.site import P, Site
from tests.serving import Answer

DEVICES = 600


@pytest.fixture
async def grown(site: Site) -> Site:
    """Returns the site, with a log of some full and some partial tiles."""
    await register(site.services.recorder, site.log_id, *(f"e{n}" for n in range(DEVICES)))
    return site


async def entries_of(site: Site) -> list[bytes]:
    return (await site.get(f"{P}/events")).body.splitlines()


def unbundled(bundle: bytes) -> list[bytes]:
    entries, at = [], 0
    while at < len(bundle):
        size = int.from_bytes(bundle[at : at + 2])
        entries.append(bundle[at + 2 : at + 2 + size])
        at += 2 + size
    return entries


def assert_is_kept(answer: Answer) -> None:
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"


async def test_a_tile_of_the_newest_log_is_cached_only_for_a_minute(grown: Site) -> None:
    answer = await grown.get(f"{P}/log/tile/0/000")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "private, max-age=60")


async def test_the_log_can_be_read_and_hashed_from_its_tiles(grown: Site) -> None:
    entries = await entries_of(grown)
    full, partial = tiles.tiles(0, len(entries))
    assert (full, partial > 0) == (2, True)
    read: list[bytes] = []
    for tile in (Tile(0), Tile(1), Tile(2, partial)):
        bundle = await grown.get(f"{P}/logs/1/tile/entries/{tiles.path(tile)}")
        assert_is_kept(bundle)
        hashes = await grown.get(f"{P}/logs/1/tile/0/{tiles.path(tile)}")
        assert_is_kept(hashes)
        found = unbundled(bundle.body)
        assert hashes.body == b"".join(sha256(b"\x00" + entry).digest() for entry in found)
        read += found
    assert read == entries
    above = await grown.get(f"{P}/logs/1/tile/1/000.p/2")
    assert_is_kept(above)
    tree = Reference(entries)
    assert above.body == tree.mth(0, 256) + tree.mth(256, 512)


async def test_a_partial_tile_has_every_width_that_the_log_allows(grown: Site) -> None:
    entries = await entries_of(grown)
    hashes = [sha256(b"\x00" + entry).digest() for entry in entries]
    _, partial = tiles.tiles(0, len(entries))
    for number, widths in ((0, (1, 2, 128, 254, 255)), (2, range(1, partial + 1))):
        start = number * 256
        for width in widths:
            path = tiles.path(Tile(number, width))
            tile = await grown.get(f"{P}/log/tile/0/{path}")
            assert tile.body == b"".join(hashes[start : start + width]), path
            bundle = await grown.get(f"{P}/log/tile/entries/{path}")
            assert unbundled(bundle.body) == entries[start : start + width], path


NO_TILES = (
    *("0/002", "0/003.p/1", "0/002.p/255", "1/000", "1/000.p/3", "2/000.p/1", "63/000.p/1"),
    *("0/000.p/0", "0/000.p/256", "0/000.p/257", "0/000.p/01", "0/000.p/", "0/000.p"),
    *("0/0", "0/x000/000", "0/000/", "0/000/x001", "00/000", "64/000", "-1/000", "a/000"),
    *("0/" + "x999/" * 5 + "999", "63/" + "x999/" * 5 + "999", "0/%00", "0/000%0A"),
    *("entries/002", "entries/002.p/255", "entries/000.p/0", "entries/000.p/256", "entries/x"),
)


async def test_a_tile_that_the_log_does_not_have_is_not_found(grown: Site) -> None:
    for path in NO_TILES:
        assert (await grown.get(f"{P}/log/tile/{path}")).status == 404, path
        assert (await grown.get(f"{P}/logs/1/tile/{path}")).status == 404, path


ENCODINGS = {
    "gzip": "gzip",
    "br, GZIP;q=0.5, deflate": "gzip",
    "*": "gzip",
    "identity": None,
    "": None,
    "deflate, br": None,
    "gzip;q=0, deflate": None,
    "gzip; q=0.000, *": None,
}


async def test_a_bundle_is_sent_as_gzip_on_request(grown: Site) -> None:
    entries = await entries_of(grown)
    for accepted, encoding in ENCODINGS.items():
        answer = await grown.get(f"{P}/logs/1/tile/entries/001", Accept_Encoding=accepted)
        assert_is_kept(answer)
        assert answer.headers.get("Content-Encoding") == encoding, accepted
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert (int(answer.headers["Content-Length"]) < len(answer.body)) == bool(encoding)
        assert unbundled(answer.body) == entries[256:512]  # the client has unzipped it
        tile = await grown.get(f"{P}/logs/1/tile/0/001", Accept_Encoding=accepted)
        assert "Content-Encoding" not in tile.headers


async def test_growth_is_proved(grown: Site) -> None:
    entries = await entries_of(grown)
    tree, size = Reference(entries), len(entries)
    for old, new in ((0, 0), (0, 5), (1, size), (256, 512), (257, size), (300, 301), (size, size)):
        answer = await grown.get(f"{P}/log/consistency?from={old}&to={new}")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        proof = [b64decode(line, validate=True) for line in answer.body.decode().splitlines()]
        assert proof == tree.consistency(old, new)
        before, after = TreeHead(old, tree.root(old)), TreeHead(new, tree.root(new))
        assert proofs.verify_consistency(proof, before, after)


NO_SIZES = {
    "from=1&to=100000": "to",
    "from=3&to=2": "from",
    "from=1": "to",
    "to=1": "from",
    "from=-1&to=1": "from",
    "from=1&to=9007199254740992": "to",
    "from=a&to=1": "from",
}


async def test_growth_is_proved_only_between_sizes_of_the_log(site: Site) -> None:
    for query, parameter in NO_SIZES.items():
        answer = await site.get(f"{P}/log/consistency?{query}")
        assert answer.status == 422
        assert [fault["parameter"] for fault in answer.json["errors"]] == [parameter]


async def test_each_log_of_the_project_is_served_by_its_number(site: Site) -> None:
    """Here the project writes to its first log; the second is another log of it."""
    second = await new_log(site.services.db, "acme")
    await append(site.services.db, second, "a", "b", "c")
    bundle = await site.get(f"{P}/logs/2/tile/entries/000.p/3")
    assert bundle.body == b"\0\x01a\0\x01b\0\x01c"
    proof = await site.get(f"{P}/logs/2/consistency?from=1&to=3")
    hashes = [b64decode(line) for line in proof.body.split()]
    assert hashes == Reference([b"a", b"b", b"c"]).consistency(1, 3)
    newest = await site.get(f"{P}/log/tile/0/000.p/3")
    assert newest.body == (await site.get(f"{P}/logs/1/tile/0/000.p/3")).body
    assert newest.body != (await site.get(f"{P}/logs/2/tile/0/000.p/3")).body


async def test_a_log_that_the_project_does_not_have_is_not_found(site: Site) -> None:
    for number in ("0", "2", "01", "-1", "a", "9999999999999999", "99999999999999999"):
        for path in ("tile/0/000.p/1", "tile/entries/000.p/1", "consistency?from=1&to=1"):
            assert (await site.get(f"{P}/logs/{number}/{path}")).status == 404, number
