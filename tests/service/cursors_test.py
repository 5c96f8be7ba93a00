"""Tests that a cursor is valid only as a server of this database made it, and that CSV is safe."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b, sha256

import msgspec
import pytest

from firmtrail.application import app
from firmtrail.http import lists
from firmtrail.http.callers import LocalAccess
from tests.databases import read
from tests.service.routes import ROUTES, assert_is_problem, path_of
from tests.service.site import D, P, Site

LISTS = [route for route in ROUTES if route.is_list and not isinstance(route.access, LocalAccess)]
PLACES = ["[]", "{}", "nul", "null", "[1e400]", "[1]", '["a"]', '["a","b"]', "[1,2]", '[1,"a",2]',
          "[-1]", '[[1]]', f"[{2**64}]", '["\\u0000"]', '["\\ud800"]', "[null]", ""]  # fmt: skip


def encoded(joined: bytes) -> str:
    return urlsafe_b64encode(joined).decode().rstrip("=")


async def test_a_forged_cursor_is_refused_by_every_list(site: Site) -> None:
    for route in LISTS:
        path = path_of(route)
        query = "from=2026-01-01T00:00:00Z&" if "timeline" in path else ""
        for place in PLACES:
            for length in (8, 16, 32):
                for checksum in (b"\0" * length, sha256(place.encode()).digest()[:length]):
                    cursor = encoded(checksum + place.encode()) or "A"
                    answer = await site.get(f"{path}?{query}cursor={cursor}")
                    assert answer.status in {400, 404}, (path, place, answer.body)
                    if answer.status == 400:
                        assert assert_is_problem(answer, 400)["code"] == "bad_cursor"


async def test_every_list_refuses_a_text_that_no_server_made_as_a_cursor(site: Site) -> None:
    for route in LISTS:
        path = path_of(route)
        query = "from=2026-01-01T00:00:00Z&" if "timeline" in path else ""
        for text in ("", "=", "AAAA=", "%00", "%C3%A9", "%F0%9F%98%80", "a+b", "a.b", "A" * 2_000):
            answer = await site.get(f"{path}?{query}cursor={text}")
            assert answer.status in {400, 404}, (path, text, answer.body)


async def test_a_cursor_whose_checksum_was_made_without_a_key_is_refused(site: Site) -> None:
    scope = msgspec.json.encode([f"{P}/devices", site.log_id, {}])
    for place in (b'["d1"]', b"[]"):
        for digest in (sha256, blake2b):
            for length in (8, 16):
                checksum = digest(scope + b"\0" + place).digest()[:length]
                answer = await site.get(f"{P}/devices?cursor={encoded(checksum + place)}")
                assert_is_problem(answer, 400)


async def first_cursor(site: Site) -> str:
    cursor: str = (await site.get(f"{P}/devices?limit=1")).json["next"]
    return cursor


async def test_an_altered_cursor_is_refused(site: Site) -> None:
    cursor = await first_cursor(site)
    joined = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for index in range(len(joined)):
        altered = bytearray(joined)
        altered[index] ^= 1
        answer = await site.get(f"{P}/devices?limit=1&cursor={encoded(bytes(altered))}")
        assert_is_problem(answer, 400)
    assert (await site.get(f"{P}/devices?cursor={cursor}")).status == 200


async def test_all_servers_of_a_database_share_the_key_of_cursors(site: Site) -> None:
    cursor = await first_cursor(site)
    another = app.services(
        site.services.db, site.services.access, site.services.recorder, site.services.serving
    )
    assert await another.keys.get("cursors") == await site.services.keys.get("cursors")
    [[key]] = await read(site.services.db, "SELECT key FROM shared_keys WHERE name = 'cursors'")
    assert len(set(key)) > 8
    assert len(key) == 64
    assert key not in cursor
    assert lists.CHECKSUM_BYTES * 8 >= 128


@pytest.mark.one_back_end
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
async def test_text_that_begins_like_a_formula_is_shown_as_text(site: Site, start: str) -> None:
    text = f"{start}1+cmd|' /C calc'!A0"
    release = {"version": "1.0.0", "model": "m", "notes": text}
    assert (await site.call("POST", f"{P}/releases", caller="admin", json=release)).status == 201
    assert (await site.report({"version": "1.0.0", "detail": text})).status == 201
    withdraw = f"{P}/releases/m/1.0.0/withdraw"
    assert (await site.call("POST", withdraw, caller="admin", json={"reason": text})).status == 200
    for path, count in ((f"{P}/releases", 2), (f"{D}/history", 1)):
        body = (await site.get(path, Accept="text/csv")).body.decode()
        assert body.count(f"'{text}") == count
        assert body.count(text) == count
        shown = (await site.get(path)).json["items"][0]
        assert text in shown.values()


async def test_a_persons_address_begins_with_a_letter_or_a_digit(site: Site) -> None:
    for address in ("+1@x.y", '=hyperlink("http://evil","x")@x.y', "-a@x.y", "@a@x.y", "_a@x.y"):
        body = {"email": address, "role": "viewer"}
        answer = await site.call("POST", f"{P}/members", caller="admin", json=body)
        assert_is_problem(answer, 422)
    for address in ("a+b@x.y", "1@x.y", "\u00e9va@x.y"):
        body = {"email": address, "role": "viewer"}
        assert (await site.call("POST", f"{P}/members", caller="admin", json=body)).status == 201
    listed = (await site.get(f"{P}/members", Accept="text/csv")).body.decode()
    assert "a+b@x.y" in listed
