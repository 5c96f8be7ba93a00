"""Holds the receipts of reports, and adds proofs to those that ask for them.

A report with `Prefer: receipt=proof` is recorded before its proof is made, so its receipt is
answered in any case: a proof that is not there in time is left out, and the receipt says why.
"""

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec
import structlog
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from firmtrail.database.database import Unavailable
from firmtrail.eventstore import log, tree
from firmtrail.http.api.wire import TimeText
from firmtrail.http.call import AnyCall
from firmtrail.publishing import checkpoint
from firmtrail.publishing.published import PublishedNote
from firmtrail.repeats import Repeats

type NoProof = Literal["publishing_off", "not_yet", "log_corrupt"]
"""Why a receipt has no proof. The proof can be read later, at events/{position}/proof."""


class Receipt(msgspec.Struct, frozen=True):
    """Says where a report is in the log; `duplicate`: it was recorded by an earlier request."""

    log: int
    position: int
    duplicate: bool
    recorded_at: TimeText
    proof: str | UnsetType | None = UNSET
    """The C2SP tlog-proof, for `Prefer: receipt=proof`; None: see `no_proof`."""
    no_proof: NoProof | UnsetType = UNSET


class RefusedItem(msgspec.Struct, frozen=True):
    """Takes the place of an item of an array that was not recorded."""

    refused: str
    detail: str


class RefusedIndex(msgspec.Struct, frozen=True):
    """Names an item that was not recorded by its index in the array."""

    index: int
    code: str


class ReportsSummary(msgspec.Struct, frozen=True):
    """Answers an array of reports sent with `Prefer: return=minimal`."""

    recorded: int
    duplicates: int
    refused: list[RefusedIndex]
    last_position: int | None


_log = structlog.get_logger("firmtrail.http")

_repeats = Repeats()

PROOF_WAIT_S = 5
"""Limits the wait for the next checkpoint (mostly half a second) and for a large array's proofs."""


async def proven(call: AnyCall, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Returns the receipts, each with its proof under the next checkpoint that covers all of
    them."""
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
    """Returns the proofs, read one after another so that other requests can read in between."""
    publisher = call.services.publisher
    assert publisher is not None
    proofs = {}
    for number in {each.log for each in receipts}:
        positions = {each.position for each in receipts if each.log == number}
        log_id = await log.by_number(call.services.db, call.project, number)
        assert log_id is not None, "every receipt names a log of its project"
        last = await publisher.served.covering(log_id, 1 + max(positions))
        for position in positions:
            proofs[number, position] = await proof_text(call, log_id, position, last)
    return [proofs[each.log, each.position] for each in receipts]


async def proof_text(call: AnyCall, log_id: int, position: int, signed: PublishedNote) -> str:
    """Returns the offline receipt of an event under a checkpoint that covers it."""
    path = await tree.inclusion(call.services.db, log_id, position, signed.size)
    return checkpoint.proof_text(position, path, signed.note)
