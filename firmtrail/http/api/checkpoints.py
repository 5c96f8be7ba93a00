"""Serves what an outside verifier needs: the log's key, its checkpoints, and inclusion proofs.

All answers are plain text in the forms of C2SP, for programs that others wrote. A server without a
key publishes nothing, and each of these routes answers so.
"""

from functools import partial

import msgspec
from aiohttp import web

from firmtrail.eventstore import log
from firmtrail.http import lists, respond, sealing
from firmtrail.http.api.receipts import proof_text
from firmtrail.http.api.rows import AUDIT, TEXT, L, P, listing, resource
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import MemberAccess, Permission
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.http.logs import log_of
from firmtrail.http.route import Route
from firmtrail.http.scalars import SEQ_MAX, Position
from firmtrail.publishing import checkpoint, published
from firmtrail.publishing.minimum_sizes import LogName, LogRefused
from firmtrail.publishing.publisher import Publisher

_AUDIT_OR_PUBLIC = MemberAccess(Permission.AUDIT, is_public_checkpoint=True)

CHECKPOINT_KEPT = "max-age=1"
"""Caches may keep a checkpoint for a second; it lags the log by that much anyway."""

KEY_KEPT = "max-age=3600"

PROOF_KEPT = "max-age=31536000, immutable"


class PublishedCheckpoint(msgspec.Struct, frozen=True):
    """Holds a checkpoint that was published, as its signed note."""

    size: int
    checkpoint: str


class ProofQuery(msgspec.Struct, frozen=True):
    """Chooses the size of the tree to prove the event in; without it, that of the latest
    checkpoint."""

    size: Position | None = None


async def get_key(call: AnyCall) -> web.Response:
    """Return the key that verifies the log's checkpoints, as a C2SP signed-note vkey."""
    publisher = _publisher_of(call)
    head = await log.head(call.db, await log_of(call))
    verifier = await publisher.served.verifier(LogName(head.project, head.number))
    return _text(call, f"{checkpoint.key_line(verifier)}\n", KEY_KEPT)


async def get_checkpoint(call: AnyCall) -> web.Response:
    """Return the log's latest checkpoint: C2SP tlog-checkpoint, a signed note.

    It covers the entry of every read that was recorded before.
    """
    publisher, log_id = _publisher_of(call), await log_of(call)
    await sealing.before_checkpoint(call, publisher)
    last = await _last(publisher, log_id)
    return _text(call, last.note, CHECKPOINT_KEPT)


async def get_checkpoints(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List every checkpoint that was published, the newest first."""
    _publisher_of(call)
    db, log_id = call.db, await log_of(call)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        below = int(place[0]) if place else SEQ_MAX
        rows = await published.page(db, log_id, below=below, limit=limit + 1)
        return lists.page_of(
            rows, limit, lambda row: (row.size,), lambda row: PublishedCheckpoint(*row)
        )

    count = partial(published.count, db, log_id)
    return await lists.answer(call, PublishedCheckpoint, fetch, count, key_type=tuple[int])


async def get_proof(call: Call[ProofQuery, None]) -> web.Response:
    """Return the proof that an event is in the log: C2SP tlog-proof.

    It holds the event's path in the tree, and a checkpoint of that tree.
    """
    publisher, log_id = _publisher_of(call), await log_of(call)
    head = await log.head(call.db, log_id)
    position = int(call.path("position") or -1)
    if not 0 <= position < head.size:
        raise NotFound("There is no event at this position.")
    last = await _last(publisher, log_id)
    name = LogName(head.project, head.number)
    if head.size < last.size:
        raise LogRefused(
            name, f"it has {head.size} events, but a checkpoint of {last.size} was published"
        )
    size = _size_of_tree(call.query.size, position, last.size)
    signed = await publisher.served.at_size(log_id, name, size)
    if signed is None:  # the size is at most the published size
        raise NotFound(
            "This log was moved here from another instance, and this one signs no checkpoint of "
            "it: name a size that `checkpoints` lists.",
            code="not_published",
        )
    kept = CHECKPOINT_KEPT if call.query.size is None else PROOF_KEPT
    return _text(call, await proof_text(call, log_id, position, signed), kept)


def _size_of_tree(wanted: int | None, position: int, published_size: int) -> int:
    """Returns the size of the tree to prove the position in. Raises a `Problem` if no published
    checkpoint has it."""
    size = published_size if wanted is None else wanted
    if size > published_size:
        raise invalid_parameter("size", f"the latest checkpoint has the size {published_size}")
    if size > position:
        return size
    if wanted is None:
        raise NotFound("No published checkpoint covers this event yet.", code="not_published")
    raise invalid_parameter("size", f"has to be greater than the position, {position}")


def _publisher_of(call: AnyCall) -> Publisher:
    """Returns the publisher. Raises `NotFound` if the server signs nothing."""
    if call.services.publisher is None:
        raise NotFound("This server has no key and publishes nothing.", code="publishing_off")
    return call.services.publisher


async def _last(publisher: Publisher, log_id: int) -> published.PublishedNote:
    last = await publisher.served.latest(log_id)
    if last is None:
        raise NotFound("No checkpoint of this log is published yet.", code="not_published")
    return last


def _text(call: AnyCall, text: str, kept: str) -> web.Response:
    whose = "public" if call.caller.kind == "nobody" else "private"
    headers = {"Cache-Control": f"{whose}, {kept}", "X-Content-Type-Options": "nosniff"}
    return respond.encoded_resource(call, "text/plain", text.encode(), headers)


def _of_log(prefix: str) -> tuple[Route, ...]:
    return (
        resource(
            f"{prefix}/checkpoint", get_checkpoint, _AUDIT_OR_PUBLIC, TEXT, reads_log_only=True
        ),
        resource(f"{prefix}/key", get_key, _AUDIT_OR_PUBLIC, TEXT, reads_log_only=True),
        listing(
            f"{prefix}/checkpoints",
            get_checkpoints,
            AUDIT,
            PublishedCheckpoint,
            reads_log_only=True,
        ),
    )


def _proof(prefix: str) -> Route:
    path = f"{prefix}/events/{{position}}/proof"
    return resource(
        path, get_proof, AUDIT, TEXT, query=ProofQuery, refusals={503}, reads_log_only=True
    )


ROUTES = (*_of_log(f"{P}/log"), *_of_log(L), _proof(P), _proof(L))
