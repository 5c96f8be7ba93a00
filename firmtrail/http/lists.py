"""How a list is paged, counted, or streamed whole.

A cursor is where a page ended, with a keyed checksum over it and over the list that it came from:
the route, the log and every filter. A cursor that no server of this database made, or one of
another list, is refused, and one costs the server no memory. A page is a query of its own that
begins after that place, never an OFFSET.
"""

import csv
import io
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import lru_cache, partial
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, NamedTuple

import msgspec
from aiohttp import web
from aiohttp.helpers import parse_mimetype

from firmtrail.access.keys import CURSORS
from firmtrail.http import decisions, recorded_reads, respond
from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import Moment
from firmtrail.http.errors import BadRequest
from firmtrail.http.scalars import Cursor, Limit

PAGE_ITEMS_MAX = 500
CHECKSUM_BYTES = 16

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a cell begins that a spreadsheet would run; some read the wide forms as the narrow ones."""

VARIES = {"Vary": "Accept"}
"""Of a list, which is there in several forms."""

type Place = tuple[str | int, ...]


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What every list takes."""

    limit: Limit = 50
    cursor: Cursor | None = None
    count: bool = False


class Page(NamedTuple):
    """Some items of a list; `next` is the place of the last, None at the list's end."""

    items: Sequence[msgspec.Struct]
    next: Place | None
    log_size: int | None = None


class Listing[Item](msgspec.Struct, frozen=True, omit_defaults=True):
    """A page of a list."""

    items: list[Item]
    next: str | None
    total: int | msgspec.UnsetType = msgspec.UNSET


type Fetch = Callable[[Place | None, int], Awaitable[Page]]
"""Returns the items after a place, at most so many."""
type Count = Callable[[], Awaitable[int]]


type Fetching = Callable[[Moment], Fetch]
"""Returns the function that fetches the pages of a moment."""
type Counting = Callable[[Moment], Count]


async def answer_of_moments(
    call: AnyCall,
    item: type[msgspec.Struct],
    fetching: Fetching,
    counting: Counting | None = None,
    *,
    place: Any = tuple[str],
) -> web.StreamResponse:
    """As `answer`, where a page takes several statements: it is read at one moment, with its total.

    Each page of a list that is sent whole has a moment of its own, so a later one can show more
    than the size that was sent says, and never less.
    """

    async def fetch(after: Place | None, limit: int) -> Page:
        async with decisions.moment(call) as now:
            return await fetching(now)(after, limit)

    if not call.query.count or _wanted_media(call) != respond.JSON:
        return await answer(call, item, fetch, place=place)
    # A total without a query of its own takes as long as all pages: nothing else waits for it.
    opened = call.services.db.moment() if counting else call.services.db.snapshot()
    async with decisions.moment(call, opened) as now:
        count = counting(now) if counting else partial(_counted, fetching(now))
        return await _one_page(call, fetching(now), count, place)


async def answer(
    call: AnyCall,
    item: type[msgspec.Struct],
    fetch: Fetch,
    count: Count | None = None,
    *,
    place: Any = tuple[str],
) -> web.StreamResponse:
    """One page as JSON, or the whole list as CSV or NDJSON, as Accept asks.

    Without `count`, the pages are gone through where the total is asked for. `place` is the type of
    the list's places.
    """
    media = _wanted_media(call)
    if media != respond.JSON:
        return await _whole(call, item, fetch, media)
    counted = count or partial(_counted, fetch)
    return await _one_page(call, fetch, counted if call.query.count else None, place)


def _wanted_media(call: AnyCall) -> str:
    return wanted_media(call.request.headers.get("Accept", ""))


async def _one_page(call: AnyCall, fetch: Fetch, count: Count | None, place: Any) -> web.Response:
    query = call.query
    after = None if query.cursor is None else await _place(call, query.cursor, place)
    page = await fetch(after, query.limit)
    cursor = None if page.next is None else await _cursor(call, page.next)
    total = await count() if count else msgspec.UNSET
    body: Listing[Any] = Listing(list(page.items), cursor, total)
    return respond.resource(call, body, page.log_size, VARIES | _link(call, cursor))


async def _counted(fetch: Fetch) -> int:
    total, place = 0, None
    while True:
        page = await fetch(place, PAGE_ITEMS_MAX)
        total, place = total + len(page.items), page.next
        if place is None:
            return total


def page_of[Row](rows: Sequence[Row], limit: int, place: Callable[[Row], Place]) -> Place | None:
    """Where the next page begins, `rows` being one more than `limit` if there is one."""
    return place(rows[limit - 1]) if len(rows) > limit else None


def _link(call: AnyCall, cursor: str | None) -> dict[str, str]:
    if cursor is None:
        return {}
    url = call.request.rel_url.update_query(cursor=cursor)
    return {"Link": f'<{call.prefix}{url.raw_path_qs}>; rel="next"'}


def _scope(call: AnyCall) -> bytes:
    """What a cursor belongs to: all that decides which items the list has, and their order."""
    members = msgspec.structs.asdict(call.query)
    filters = {
        name: value
        for name, value in members.items()
        if name not in recorded_reads.PAGING_PARAMETERS
    }
    owner = call.caller.log_id or call.caller.actor_id
    return msgspec.json.encode([call.request.path, owner, filters])


async def _cursor(call: AnyCall, place: Place) -> str:
    encoded = msgspec.json.encode(place)
    return _canonical(await _checksum(call, encoded) + encoded)


async def _place(call: AnyCall, cursor: str, kind: Any) -> Place:
    """Raises `BadRequest` for a text that is not one of this list's cursors."""
    try:
        joined = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:  # no base64, or not even ASCII
        joined = b""
    checksum, encoded = joined[:CHECKSUM_BYTES], joined[CHECKSUM_BYTES:]
    is_ours = compare_digest(checksum, await _checksum(call, encoded))
    try:
        place: Place = msgspec.json.decode(encoded, type=kind)
    except msgspec.DecodeError:
        is_ours = False
    if not is_ours or _canonical(joined) != cursor:
        raise BadRequest("This cursor is not from this list.", code="bad_cursor")
    return place


def _canonical(joined: bytes) -> str:
    return urlsafe_b64encode(joined).decode().rstrip("=")


async def _checksum(call: AnyCall, encoded: bytes) -> bytes:
    key = await call.services.keys.get(CURSORS)
    signed = _scope(call) + b"\0" + encoded
    return blake2b(signed, key=key, digest_size=CHECKSUM_BYTES).digest()


@lru_cache(maxsize=256)
def wanted_media(accept: str) -> str:
    """JSON, unless Accept prefers CSV or NDJSON. What it says of other types is not looked at."""
    weights = dict.fromkeys((respond.JSON, respond.CSV, respond.NDJSON), 0.0)
    for each in accept.split(","):
        parsed = parse_mimetype(each.strip())
        media = f"{parsed.type}/{parsed.subtype}"
        if media in weights:
            weights[media] = _weight(parsed.parameters.get("q", "1"))
    return max(weights, key=lambda media: weights[media])


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


async def _whole(
    call: AnyCall, item: type[msgspec.Struct], fetch: Fetch, media: str
) -> web.StreamResponse:
    first = await fetch(None, PAGE_ITEMS_MAX)
    if call.project:  # a list of the caller's own is nobody's business
        await recorded_reads.record(call, recorded_reads.filters_of(call.query))
    headers = VARIES | {"Cache-Control": "private, no-cache"}
    if first.log_size is not None:
        headers[respond.LOG_SIZE] = str(first.log_size)
    write = _csv if media == respond.CSV else _ndjson
    head = _csv_head(item) if media == respond.CSV else b""
    return await respond.stream(call, media, _chunks(first, fetch, head, write), headers)


async def _chunks(
    page: Page, fetch: Fetch, head: bytes, write: Callable[[Sequence[msgspec.Struct]], bytes]
) -> AsyncGenerator[bytes]:
    yield head + write(page.items)
    while page.next is not None:
        page = await fetch(page.next, PAGE_ITEMS_MAX)
        yield write(page.items)


def _ndjson(items: Sequence[msgspec.Struct]) -> bytes:
    return msgspec.json.Encoder().encode_lines(items)


def _csv_columns(item: type[msgspec.Struct]) -> dict[str, str]:
    """Names in the text by names of the fields; what only answers to commands hold is no column."""
    fields = msgspec.structs.fields(item)
    return {each.name: each.encode_name for each in fields if each.default is not msgspec.UNSET}


def _csv_head(item: type[msgspec.Struct]) -> bytes:
    return f"{','.join(_csv_columns(item).values())}\r\n".encode()


def _csv(items: Sequence[msgspec.Struct]) -> bytes:
    if not items:
        return b""
    text = io.StringIO()
    names = _csv_columns(type(items[0]))
    csv.writer(text).writerows([_cell(getattr(item, name)) for name in names] for item in items)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """Spreadsheets run text that begins as a formula does. It gets an apostrophe before it, which
    they take for "this is text" and do not show."""
    text = _cell_text(value)
    is_formula = isinstance(value, str | list | tuple) and text.startswith(FORMULA)
    return f"'{text}" if is_formula else text


def _cell_text(value: Any) -> str:
    """RFC 4180; true and false as in JSON, several values of one cell apart by a space,
    structs as JSON itself."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case [msgspec.Struct(), *_]:
            return msgspec.json.encode(value).decode()
        case list() | tuple():
            return " ".join(value)
        case dict():
            return msgspec.json.encode(value).decode()
        case _:
            return str(value)
