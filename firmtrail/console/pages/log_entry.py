"""Shows one entry of a log: its meaning in words, its exact bytes, and its proof.

The browser computes the proof from the tlog routes. The page only says which entry it shows.
"""

from typing import NamedTuple

from aiohttp import web

from firmtrail.commands import access as commands
from firmtrail.console import render
from firmtrail.console.here import Moment
from firmtrail.console.meaning import wording_of
from firmtrail.console.moments import past_of
from firmtrail.console.pages.log import head_of, names_in, verifier_of
from firmtrail.console.rows import ADMINISTER, AUDIT, PROJECT, PageQuery, action, page
from firmtrail.events.entry import decode
from firmtrail.events.event import Event
from firmtrail.eventstore import free_texts, lineage, log
from firmtrail.http import recorded_reads
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import NotFound

ENTRY = f"{PROJECT}/log/{{number}}/{{position}}"


class EventText(NamedTuple):
    """Holds the text that an event refers to; None: it was erased."""

    member: str
    text: str | None


async def get_entry(call: Call[PageQuery, None]) -> web.Response:
    """Show one entry of the log, with its proof."""
    head, position = await _place(call)
    past = await past_of(call)
    known = head.size if past.stop is None else await _size_then(call, head, past.stop)
    if position >= known:
        raise NotFound("The log did not have this entry at that moment.")
    await recorded_reads.record(call, {"log": head.number})
    entry, text = await free_texts.entry_and_text(call.db, head.log_id, position)
    recorded = decode(position, entry)
    wording = await wording_of(call, names_in([recorded]))
    verifier = await verifier_of(call, head)
    return render.page(
        call,
        "log_entry.html",
        title=f"Position {position}",
        moment=Moment(head.size, *past),
        head=head,
        has_next=position + 1 < known,
        entry=entry,
        recorded=recorded,
        name=type(recorded.event).__name__,
        sentence=wording.sentence(recorded),
        subject=wording.thing(recorded.stream),
        actor=wording.actor(recorded),
        facts=wording.facts(recorded.event),
        free_text=_free_text(recorded.event, text),
        origin=None if verifier is None else verifier.name,
    )


async def get_erasure(call: AnyCall) -> web.Response:
    """Ask whether to erase the text of an event."""
    head, position = await _place(call)
    entry, text = await free_texts.entry_and_text(call.db, head.log_id, position)
    recorded = decode(position, entry)
    found = _free_text(recorded.event, text)
    if found is None or found.text is None:
        raise NotFound("This event has no text that can be erased.")
    await recorded_reads.record(call, {"log": head.number})
    return render.page(
        call,
        "log_erasure.html",
        title="Erase a text",
        moment=Moment(head.size),
        head=head,
        recorded=recorded,
        sentence=(await wording_of(call, names_in([recorded]))).sentence(recorded),
        free_text=found,
    )


async def post_erasure(call: AnyCall) -> web.Response:
    """Erase the free text of an event; the entry keeps its hash, so every proof stays true."""
    head, position = await _place(call)
    erase = commands.erase_text(head, position, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, erase)
    await call.services.db.scrub()
    return render.redirect(call, "log", str(head.number), str(position))


def _free_text(event: Event, text: str | None) -> EventText | None:
    if event.TEXT is None or getattr(event, event.TEXT) is None:
        return None
    return EventText(event.TEXT, text)


async def _size_then(call: AnyCall, head: log.Head, stop: int) -> int:
    """Returns how many events of this log the project knew after the first `stop` events of its
    newest log, which may be below 0. It knew none of a log that this one does not continue."""
    segments = await lineage.all_segments(call.db, call.log_id)
    sizes = {each.log_id: min(stop - each.start, each.size) for each in segments}
    return sizes.get(head.log_id, 0)


async def _place(call: AnyCall) -> tuple[log.Head, int]:
    """Returns the log and the position that the path names. Raises `NotFound`."""
    head = await head_of(call, call.path("number") or "0")
    position = int(call.path("position") or -1)
    if not 0 <= position < head.size:
        raise NotFound("The log has no such position.")
    return head, position


ROUTES = (
    page(ENTRY, get_entry, AUDIT, has_past=True),
    page(f"{ENTRY}/erase", get_erasure, ADMINISTER),
    action(f"{ENTRY}/erase", post_erasure, ADMINISTER),
)
