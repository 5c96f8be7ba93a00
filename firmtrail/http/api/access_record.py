"""Serves the record of reads of the log and of exports of lists."""

from functools import partial
from typing import Annotated, Any

import msgspec
from aiohttp import web

from firmtrail.access import reads
from firmtrail.access.reads import ReadFilter
from firmtrail.commands.access_record import trim
from firmtrail.events.times import DAY_MS, time_text
from firmtrail.http import lists, query_times, respond
from firmtrail.http.api.rows import AUDIT, LOCAL_PROJECT, POST, P, command, listing
from firmtrail.http.api.wire import StrictBody, TimeText
from firmtrail.http.call import Call
from firmtrail.http.callers import LOCAL
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.http.scalars import ActorName, Time


class AccessRecordQuery(ListQuery, frozen=True, kw_only=True):
    """Filters the records: since <= at < until, by one actor."""

    since: Time | None = None
    until: Time | None = None
    actor: ActorName | None = None


class ReadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a read: its actor, `path` below the project's, and `asked`, the parsed query."""

    at: TimeText
    actor: str
    path: str
    asked: dict[str, int | bool | str]
    request_id: str
    address: str | None
    """The network address of the reader; null in records of versions that kept none."""


class TrimWanted(StrictBody, frozen=True, kw_only=True):
    """Asks to delete the old rows of the access record."""

    older_than_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)]


class TrimmedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Says how many rows are gone, of all that were ever recorded, and how many this deleted; once
    this is 0, no more can be deleted."""

    size: int
    deleted: int


async def get_access_record(call: Call[AccessRecordQuery, None]) -> web.StreamResponse:
    """List the reads of the log and the exports of lists, the newest first."""
    db, which = call.db, _filter(call)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        after = None if place is None else (int(place[0]), str(place[1]))
        rows = await reads.page(db, which, after=after, limit=limit + 1)
        return lists.page_of(rows, limit, lambda read: (read.at_ms, read.request_id), _shown)

    count = partial(reads.count, db, which)
    return await lists.answer(call, ReadRecord, fetch, count, key_type=tuple[int, str])


def _filter(call: Call[AccessRecordQuery, None]) -> ReadFilter:
    query, which = call.query, ReadFilter(call.project, actor=call.query.actor)
    if query.since is not None:
        which = which._replace(since_ms=query_times.parameter_ms("since", query.since))
    if query.until is not None:
        which = which._replace(until_ms=query_times.parameter_ms("until", query.until))
    return which


def _shown(read: reads.Read) -> ReadRecord:
    return ReadRecord(
        at=time_text(read.at_ms),
        actor=read.actor,
        path=read.path,
        asked=msgspec.json.decode(read.asked),
        request_id=read.request_id,
        address=read.address,
    )


async def post_local_trim(call: Call[Any, TrimWanted]) -> web.Response:
    """Delete old rows of the project's access record, as far as the log has sealed them.

    A request deletes a limited number of rows: ask again until none is deleted."""
    services = call.services
    before_ms = services.access.now_ms() - call.body.older_than_days * DAY_MS
    done = await trim(services.db, services.recorder, (call.project, call.log_id), before_ms)
    return respond.json(200, TrimmedRecord(size=done.size, deleted=done.deleted))


ROUTES = (
    listing(f"{P}/access-record", get_access_record, AUDIT, ReadRecord, query=AccessRecordQuery),
    command(
        POST,
        f"{LOCAL_PROJECT}/access-record",
        post_local_trim,
        LOCAL,
        body=TrimWanted,
        answers={200: TrimmedRecord},
        refusals={404, 409},
    ),
)
