"""Shows what an audit needs: logs, checkpoints, the key, and who read or exported what.

The browser checks the checkpoints on its own; the page only shows what the server says.
"""

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.access import reads
from firmtrail.access.reads import Read, ReadFilter
from firmtrail.console import render
from firmtrail.console.here import Moment
from firmtrail.console.meaning import wording_of
from firmtrail.console.moments import PageTime, as_time
from firmtrail.console.pages.log import head_of, verifier_of
from firmtrail.console.rows import AUDIT, PROJECT, PageQuery, page
from firmtrail.eventstore import log
from firmtrail.http import query_times
from firmtrail.http.call import Call
from firmtrail.http.scalars import ActorName
from firmtrail.publishing import checkpoint, published

LOGS_MAX = 100
CHECKPOINTS_MAX = 10
READS = 50
"""The records on one page."""

LOOKED_AT = 500
LOOKS_MAX = 4
"""A search for exports reads so many pages of records, each of `LOOKED_AT`."""

_LOG_PATHS = ("/log", "/events", "/stream")
"""Paths of reads of the log; every other one is a list that was taken whole."""

type ReadPlace = Annotated[
    str,
    Meta(pattern=r"^[0-9]{1,16}_[A-Za-z0-9-]{1,64}$(?!\n)", description="a place in the record"),
]


class AuditQuery(PageQuery, frozen=True, kw_only=True):
    """Filters the access record, and chooses where its page begins."""

    since: PageTime | None = None
    until: PageTime | None = None
    actor: ActorName | None = None
    kind: Literal["reads", "exports"] | None = None
    older: ReadPlace | None = None


type AuditCall = Call[AuditQuery, None]


class ReadLine(NamedTuple):
    """Holds a record of a read, in words."""

    read: Read
    is_export: bool
    what: str
    asked: dict[str, str]


class ReadPage(NamedTuple):
    """Holds some records, and the place where the next page begins."""

    lines: list[ReadLine]
    next: str | None

    @property
    def is_searching(self) -> bool:
        """Returns whether the records that were looked at did not fill the page."""
        return self.next is not None and len(self.lines) < READS


async def get_audit(call: AuditCall) -> web.Response:
    """Show the logs, their checkpoints, and the record of reads."""
    db = call.db
    head = await head_of(call, None)
    verifier = await verifier_of(call, head)
    record = await _record(call)
    return render.page(
        call,
        "audit.html",
        title="Audit",
        moment=Moment(head.size),
        head=head,
        logs=await log.newest(db, call.project, limit=LOGS_MAX),
        key_line=None if verifier is None else checkpoint.key_line(verifier),
        checkpoints=await published.page(
            db, head.log_id, below=head.size + 1, limit=CHECKPOINTS_MAX
        ),
        record=record,
        wording=await wording_of(call, {line.read.actor for line in record.lines}),
        query=call.query,
    )


async def _record(call: AuditCall) -> ReadPage:
    which, place = _filter(call), _place(call.query.older)
    found: list[ReadLine] = []
    for _ in range(LOOKS_MAX if call.query.kind else 1):
        limit = LOOKED_AT if call.query.kind else READS + 1
        rows = await reads.page(call.db, which, after=place, limit=limit)
        lines, kind = map(_line, rows), call.query.kind
        found += [line for line in lines if kind is None or line.is_export == (kind == "exports")]
        if len(found) > READS:
            return ReadPage(found[:READS], _place_text(found[READS - 1].read))
        if len(rows) < limit:
            return ReadPage(found, None)
        place = (rows[-1].at_ms, rows[-1].request_id)
    return ReadPage(found, _place_text(rows[-1]))


def _filter(call: AuditCall) -> ReadFilter:
    query, which = call.query, ReadFilter(call.project, actor=call.query.actor)
    if since := as_time("since", query.since):
        which = which._replace(since_ms=query_times.parameter_ms("since", since))
    if until := as_time("until", query.until):
        which = which._replace(until_ms=query_times.parameter_ms("until", until))
    return which


def _place(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    at_ms, _, request_id = text.partition("_")
    return int(at_ms), request_id


def _place_text(read: Read) -> str:
    return f"{read.at_ms}_{read.request_id}"


def _line(read: Read) -> ReadLine:
    is_export = not read.path.startswith(_LOG_PATHS)
    asked = msgspec.json.decode(read.asked, type=dict[str, Any])
    words = {name.replace("_", " "): _value(value) for name, value in asked.items()}
    return ReadLine(read, is_export, _words_of(read, asked, is_export=is_export), words)


def _value(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _words_of(read: Read, asked: dict[str, Any], *, is_export: bool) -> str:
    if is_export:
        return f"took the list {read.path.removeprefix('/')}"
    if "tile" in read.path:
        return "fetched tiles of the log"
    if read.path.endswith("/stream"):
        return "opened the stream of the log"
    return "watched the log" if asked.get("live") else "read the log"


ROUTES = (page(f"{PROJECT}/audit", get_audit, AUDIT, query=AuditQuery),)
