"""Answers lists: by pages, with a total, or as one whole stream.

A cursor holds the sort key of the last item of a page, and a keyed checksum over that key and over
the list that it came from: the route, the log and every filter. A cursor is refused if no server of
this database made it, or if it belongs to another list. A cursor costs the server no memory. Each
page is a query that begins after the sort key, never an OFFSET.
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
from aiohttp import hdrs, web
from aiohttp.helpers import parse_mimetype

from firmtrail.access.keys import CURSORS
from firmtrail.http import decisions, recorded_reads, respond
from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import ConsistentRead
from firmtrail.http.errors import BadRequest
from firmtrail.http.scalars import Cursor, Limit

PAGE_ITEMS_MAX = 500
COUNTED_PAGES_MAX = 40
"""Limits the pages that a total of a list reads, if no query counts its items."""
CHECKSUM_BYTES = 16

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Starts the text of a cell that a spreadsheet would run. Some programs read the wide forms too."""

VARIES: dict[str, str] = {hdrs.VARY: "Accept"}
"""Marks a list as available in several media types."""

SUFFIXES = {"csv": respond.CSV, "ndjson": respond.NDJSON}
"""The media types of the files that pages link; no path of the API's lists ends with one."""

type SortKey = tuple[str | int, ...]


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the parameters that every list takes."""

    limit: Limit = 50
    cursor: Cursor | None = None
    count: bool = False


class ListPage(NamedTuple):
    """Holds some items of a list; `next` is the sort key of the last, None at the list's end."""

    items: Sequence[msgspec.Struct]
    next: SortKey | None
    log_size: int | None = None


class Total(NamedTuple):
    """Counts the items of a list."""

    items: int
    is_all: bool = True
    """False: there may be more, which were not looked at."""


class Listing[Item](msgspec.Struct, frozen=True, omit_defaults=True):
    """Holds a page of a list."""

    items: list[Item]
    next: str | None
    total: int | msgspec.UnsetType = msgspec.UNSET
    total_is_at_least: bool | msgspec.UnsetType = msgspec.UNSET
    """true: a bounded number of items was looked at, and `total` of them are on the list, so that
    the list may be longer. Absent: `total` is exact."""


type FetchPage = Callable[[SortKey | None, int], Awaitable[ListPage]]
"""Returns the items after a sort key, up to a limit."""
type CountItems = Callable[[], Awaitable[int | Total]]


type FetchAt = Callable[[ConsistentRead], FetchPage]
"""Returns the function that fetches pages with this read."""
type CountAt = Callable[[ConsistentRead], CountItems]

type WriteItems = Callable[[Sequence[msgspec.Struct]], bytes]


async def answer_consistently(
    call: AnyCall,
    item: type[msgspec.Struct],
    fetching: FetchAt,
    counting: CountAt | None = None,
    *,
    key_type: Any = tuple[str],
) -> web.StreamResponse:
    """Answers as `answer` does, for a page that takes several statements: the page and its total
    are read at one size of the log. A list that is sent whole reads each page at its own size, so a
    later page can show more than the size that was sent, and never less."""

    async def fetch(after: SortKey | None, limit: int) -> ListPage:
        async with decisions.consistent_read(call) as now:
            return await fetching(now)(after, limit)

    if not call.query.count or _wanted_media(call) != respond.JSON:
        return await answer(call, item, fetch, key_type=key_type)
    # Without its own query, a total takes as long as many pages: in a snapshot, nothing waits.
    reading = call.db.moment() if counting else call.db.snapshot()
    async with decisions.consistent_read(call, reading) as now:
        count = counting(now) if counting else partial(count_some, fetching(now))
        return await _one_page(call, fetching(now), count, key_type)


async def answer(
    call: AnyCall,
    item: type[msgspec.Struct],
    fetch: FetchPage,
    count: CountItems | None = None,
    *,
    key_type: Any = tuple[str],
) -> web.StreamResponse:
    """Answers one page as JSON, or the whole list as CSV or NDJSON, as Accept asks.

    Without `count`, a requested total is found as `count_some` does. `key_type` is the type of the
    list's sort keys.
    """
    media = _wanted_media(call)
    if media != respond.JSON:
        return await _whole(call, item, fetch, media)
    counted = count or partial(count_some, fetch)
    return await _one_page(call, fetch, counted if call.query.count else None, key_type)


def _wanted_media(call: AnyCall) -> str:
    """Returns what the end of the path says, as that of a file that a page links, or Accept."""
    suffix = call.request.rel_url.raw_path.rpartition(".")[2]
    return SUFFIXES.get(suffix) or wanted_media(call.request.headers.get(hdrs.ACCEPT, ""))


async def _one_page(
    call: AnyCall, fetch: FetchPage, count: CountItems | None, key_type: Any
) -> web.Response:
    query = call.query
    after = None if query.cursor is None else await _sort_key(call, query.cursor, key_type)
    page = await fetch(after, query.limit)
    cursor = None if page.next is None else await _cursor(call, page.next)
    body: Listing[Any] = Listing(list(page.items), cursor)
    if count:
        counted = await count()
        total, is_all = (counted, True) if isinstance(counted, int) else counted
        body = Listing(body.items, cursor, total, msgspec.UNSET if is_all else True)
    return respond.resource(call, body, page.log_size, VARIES | _link(call, cursor))


async def count_some(fetch: FetchPage) -> Total:
    """Counts the items of a list that has no query for it, on its first `COUNTED_PAGES_MAX`
    pages."""
    total, after = 0, None
    for _ in range(COUNTED_PAGES_MAX):
        page = await fetch(after, PAGE_ITEMS_MAX)
        total, after = total + len(page.items), page.next
        if after is None:
            return Total(total)
    return Total(total, is_all=False)


def next_key[Row](
    rows: Sequence[Row], limit: int, key_of: Callable[[Row], SortKey]
) -> SortKey | None:
    """Returns the sort key after which the next page begins, or None if there is no next page. The
    caller fetched one row more than `limit`, so a further row means a further page."""
    return key_of(rows[limit - 1]) if len(rows) > limit else None


def page_of[Row](
    rows: Sequence[Row],
    limit: int,
    key_of: Callable[[Row], SortKey],
    show: Callable[[Row], msgspec.Struct],
    *,
    log_size: int | None = None,
) -> ListPage:
    """Returns a page of rows; a row more than `limit` shows that another page follows."""
    return ListPage([show(row) for row in rows[:limit]], next_key(rows, limit, key_of), log_size)


def text_before(place: SortKey | None) -> str:
    """Returns the id or name after which a page begins."""
    return str(place[0]) if place else ""


def _link(call: AnyCall, cursor: str | None) -> dict[str, str]:
    if cursor is None:
        return {}
    url = call.request.rel_url.update_query(cursor=cursor)
    return {"Link": f'<{call.prefix}{url.raw_path_qs}>; rel="next"'}


def _scope(call: AnyCall) -> bytes:
    """Returns everything that determines the items of the list and their order, as bytes."""
    members = msgspec.structs.asdict(call.query)
    filters = {
        name: value
        for name, value in members.items()
        if name not in recorded_reads.PAGING_PARAMETERS
    }
    owner = call.caller.log_id or call.caller.actor_id
    return msgspec.json.encode([call.request.path, owner, filters])


async def _cursor(call: AnyCall, key: SortKey) -> str:
    encoded = msgspec.json.encode(key)
    return _canonical(await _checksum(call, encoded) + encoded)


async def _sort_key(call: AnyCall, cursor: str, key_type: Any) -> SortKey:
    """Returns the sort key in a cursor. Raises `BadRequest` for a text of any other origin."""
    try:
        joined = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:  # no base64, or not even ASCII
        joined = b""
    checksum, encoded = joined[:CHECKSUM_BYTES], joined[CHECKSUM_BYTES:]
    is_ours = compare_digest(checksum, await _checksum(call, encoded))
    try:
        key: SortKey = msgspec.json.decode(encoded, type=key_type)
    except msgspec.DecodeError:
        is_ours = False
    if not is_ours or _canonical(joined) != cursor:
        raise BadRequest(
            "This cursor is not from this list: use `next` of a page of the same list and filters.",
            code="bad_cursor",
        )
    return key


def _canonical(joined: bytes) -> str:
    return urlsafe_b64encode(joined).decode().rstrip("=")


async def _checksum(call: AnyCall, encoded: bytes) -> bytes:
    key = await call.services.keys.get(CURSORS)
    signed = _scope(call) + b"\0" + encoded
    return blake2b(signed, key=key, digest_size=CHECKSUM_BYTES).digest()


@lru_cache(maxsize=256)
def wanted_media(accept: str) -> str:
    """Returns JSON, unless Accept prefers CSV or NDJSON. Ignores what it says of other types."""
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
    call: AnyCall, item: type[msgspec.Struct], fetch: FetchPage, media: str
) -> web.StreamResponse:
    first = await fetch(None, PAGE_ITEMS_MAX)
    if call.project:  # a list of the caller's own things is read for no project
        await recorded_reads.record(call, recorded_reads.filters_of(call.query))
    headers = VARIES | {"Cache-Control": "private, no-cache"}
    if first.log_size is not None:
        headers[respond.LOG_SIZE] = str(first.log_size)
    is_csv = media == respond.CSV
    head = f"{','.join(_csv_columns(item).values())}\r\n".encode() if is_csv else b""
    write: WriteItems = _csv if is_csv else msgspec.json.Encoder().encode_lines
    return await respond.stream(call, media, _chunks(first, fetch, head, write), headers)


async def _chunks(
    page: ListPage,
    fetch: FetchPage,
    head: bytes,
    write: WriteItems,
) -> AsyncGenerator[bytes]:
    yield head + write(page.items)
    while page.next is not None:
        page = await fetch(page.next, PAGE_ITEMS_MAX)
        yield write(page.items)


def _csv_columns(item: type[msgspec.Struct]) -> dict[str, str]:
    """Returns field names and their columns, without fields that only answers to commands set."""
    fields = msgspec.structs.fields(item)
    return {each.name: each.encode_name for each in fields if each.default is not msgspec.UNSET}


def _csv(items: Sequence[msgspec.Struct]) -> bytes:
    if not items:
        return b""
    text = io.StringIO()
    names = _csv_columns(type(items[0]))
    csv.writer(text).writerows([_cell(getattr(item, name)) for name in names] for item in items)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """Returns the text of a cell that no spreadsheet runs. Text that begins like a formula gets an
    apostrophe before it. A spreadsheet takes that as the mark of a text and does not show it."""
    text = _cell_text(value)
    is_formula = isinstance(value, str | list | tuple) and text.startswith(FORMULA)
    return f"'{text}" if is_formula else text


def _cell_text(value: Any) -> str:
    """Returns a value as text for RFC 4180. True and false are written as in JSON, several values
    of one cell with spaces between them, and structs as JSON."""
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
