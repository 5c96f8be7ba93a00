"""What proves the log to who trusts nobody: its key, its checkpoints, and proofs of its entries.

All are plain text in the forms of C2SP, for programs that others wrote. Where the server has no
key, it publishes nothing, and each of these routes says so.
"""

from aiohttp import web

from firmtrail.eventstore import log
from firmtrail.http import lists, respond, sealing
from firmtrail.http.answers import PublishedCheckpoint
from firmtrail.http.bodies import ProofQuery
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.http.logs import log_of
from firmtrail.http.receipts import proof_text
from firmtrail.http.scalars import SEQ_MAX
from firmtrail.publishing import checkpoint, published
from firmtrail.publishing.minimum_sizes import LogName, LogRefused
from firmtrail.publishing.publisher import Publisher

CHECKPOINT_KEPT = "max-age=1"
"""By who reads it: a checkpoint is at most a second behind anyway."""
KEY_KEPT = "max-age=3600"
PROOF_KEPT = "max-age=31536000, immutable"


async def get_key(call: AnyCall) -> web.Response:
    """The key line that verifies the log's checkpoints."""
    publisher = publisher_of(call)
    head = await log.head(call.services.db, await log_of(call))
    verifier = publisher.signer.verifier(LogName(head.project, head.number))
    return _text(call, f"{checkpoint.key_line(verifier)}\n", KEY_KEPT)


async def get_checkpoint(call: AnyCall) -> web.Response:
    """The log's last checkpoint, with what was read before in it."""
    publisher, log_id = publisher_of(call), await log_of(call)
    await sealing.before_checkpoint(call, publisher)
    last = await _last(publisher, log_id)
    return _text(call, last.note, CHECKPOINT_KEPT)


async def get_checkpoints(call: Call[ListQuery, None]) -> web.StreamResponse:
    """Every checkpoint that was published, the newest first."""
    publisher_of(call)
    db, log_id = call.services.db, await log_of(call)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        below = int(place[0]) if place else SEQ_MAX
        rows = await published.page(db, log_id, below=below, limit=limit + 1)
        next_place = lists.next_key(rows, limit, lambda row: (row.size,))
        return ListPage([PublishedCheckpoint(*row) for row in rows[:limit]], next_place)

    async def count() -> int:
        return await published.count(db, log_id)

    return await lists.answer(call, PublishedCheckpoint, fetch, count, key_type=tuple[int])


async def get_proof(call: Call[ProofQuery, None]) -> web.Response:
    """That an entry is in the log: its path in the tree, and a checkpoint of that tree."""
    publisher, log_id = publisher_of(call), await log_of(call)
    head = await log.head(call.services.db, log_id)
    position = int(call.path("position") or -1)
    if not 0 <= position < head.size:
        raise NotFound("There is no event at this position.")
    last = await _last(publisher, log_id)
    name = LogName(head.project, head.number)
    if head.size < last.size:
        raise LogRefused(name, f"it ends at {head.size}, but its checkpoint of {last.size} is out")
    size = last.size if call.query.size is None else call.query.size
    if size > last.size:
        raise invalid_parameter("size", f"the latest checkpoint is of size {last.size}")
    if size <= position:
        if call.query.size is None:
            raise NotFound("The event is not published yet.", code="not_published")
        raise invalid_parameter("size", f"has to be greater than the position, {position}")
    signed = await publisher.signed(log_id, name, size)
    assert signed is not None, "the size is at most the published one"
    kept = CHECKPOINT_KEPT if call.query.size is None else PROOF_KEPT
    return _text(call, await proof_text(call, log_id, position, signed), kept)


def publisher_of(call: AnyCall) -> Publisher:
    """Raises `NotFound` where the server signs nothing."""
    if call.services.publisher is None:
        raise NotFound("This server has no key and publishes nothing.", code="publishing_off")
    return call.services.publisher


async def _last(publisher: Publisher, log_id: int) -> published.Published:
    last = await publisher.latest(log_id)
    if last is None:
        raise NotFound("Nothing of this log is published yet.", code="not_published")
    return last


def _text(call: AnyCall, text: str, kept: str) -> web.Response:
    whose = "public" if call.caller.kind == "nobody" else "private"
    headers = {"Cache-Control": f"{whose}, {kept}", "X-Content-Type-Options": "nosniff"}
    return respond.encoded_resource(call, "text/plain", text.encode(), headers)
