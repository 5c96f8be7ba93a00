"""Adds proofs to receipts, for clients that ask for them with the report (`Prefer: receipt=proof`).

The report is already recorded, so the client gets its receipt whatever happens here. A proof that
is not available in time is left out, and the receipt says why.
"""

import asyncio
from collections.abc import Sequence

import structlog
from msgspec.structs import replace

from firmtrail.database.database import Unavailable
from firmtrail.eventstore import log, tree
from firmtrail.http.answers import Receipt
from firmtrail.http.call import AnyCall
from firmtrail.publishing import checkpoint, published
from firmtrail.repeats import Repeats

_log = structlog.get_logger("firmtrail.http")
_repeats = Repeats()

PROOF_WAIT_S = 5
"""Limits the wait for the next checkpoint, which mostly takes half a second, and for the proofs of
a large array."""


async def proven(call: AnyCall, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Returns the receipts, each with its proof under the next checkpoint that covers them all."""
    if call.services.publisher is None:
        return [replace(each, proof=None, no_proof="publishing_off") for each in receipts]
    try:
        async with asyncio.timeout(PROOF_WAIT_S):
            proofs = await _proofs(call, receipts)
    except (TimeoutError, Unavailable):
        return [replace(each, proof=None, no_proof="not_yet") for each in receipts]
    except log.Corrupt as error:
        if (left_out := _repeats.due(reason := str(error))) is not None:
            _log.error("a proof can't be made", reason=reason, left_out=left_out)
        return [replace(each, proof=None, no_proof="log_corrupt") for each in receipts]
    return [replace(each, proof=proof) for each, proof in zip(receipts, proofs, strict=True)]


async def _proofs(call: AnyCall, receipts: Sequence[Receipt]) -> list[str]:
    """Makes the proofs one after another: each takes a few reads, and other requests read too."""
    publisher = call.services.publisher
    assert publisher is not None
    proofs = {}
    for number in {each.log for each in receipts}:
        positions = {each.position for each in receipts if each.log == number}
        log_id = await log.by_number(call.services.db, call.project, number)
        assert log_id is not None, "a receipt names a log of its project"
        last = await publisher.covering(log_id, 1 + max(positions))
        for position in positions:
            proofs[number, position] = await proof_text(call, log_id, position, last)
    return [proofs[each.log, each.position] for each in receipts]


async def proof_text(call: AnyCall, log_id: int, position: int, signed: published.Published) -> str:
    """Returns the offline receipt of an event under a checkpoint that covers it."""
    path = await tree.inclusion(call.services.db, log_id, position, signed.size)
    return checkpoint.proof_text(position, path, signed.note)
