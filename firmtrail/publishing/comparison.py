"""Compares a log with the checkpoints that it has to continue."""

from collections.abc import Sequence

from firmtrail.database.database import Database
from firmtrail.eventstore import log, merkle, tree
from firmtrail.eventstore.proofs import TreeHead, verify_consistency
from firmtrail.publishing.minimum_sizes import differs, ends_before
from firmtrail.publishing.published import LogState, SignedCheckpoint


async def fault_of_log(
    db: Database, state: LogState, known: Sequence[SignedCheckpoint]
) -> str | None:
    """Returns why the log is not what its last checkpoints sign; None: it is."""
    if fault := _fault_of_head(state, known):
        return fault
    try:
        for each in known:
            root = await _root(db, state, each.checkpoint.size)
            if fault := differs(each.checkpoint, root):
                return fault
    except log.Corrupt as error:
        return str(error)
    return None


async def fault_of_step(
    db: Database, state: LogState, known: Sequence[SignedCheckpoint]
) -> str | None:
    """Returns why the head must not be signed after these checkpoints; None: it may. It may if the
    entries prove that they make up this head, and that it continues the checkpoints."""
    if fault := _fault_of_head(state, known):
        return fault
    head = TreeHead(state.size, merkle.root(state.frontier))
    try:
        if not await _continues(db, state.log_id, known, head):
            return "it does not continue its last checkpoint"
    except log.Corrupt as error:
        return str(error)
    return None


async def _continues(
    db: Database, log_id: int, known: Sequence[SignedCheckpoint], head: TreeHead
) -> bool:
    for each in known:
        old = TreeHead(each.checkpoint.size, each.checkpoint.root)
        proof = await tree.consistency(db, log_id, old.size, head.size)
        if not verify_consistency(proof, old, head):
            return False
    return bool(known) or await tree.root(db, log_id, head.size) == head.root


def _fault_of_head(state: LogState, known: Sequence[SignedCheckpoint]) -> str | None:
    """Returns the fault that sizes alone show."""
    end = min(state.size, state.stored)
    for each in known:
        if end < each.checkpoint.size:
            return ends_before(each.checkpoint, end)
    if state.stored != state.size:
        return f"its head says {state.size} events, but {state.stored} are there"
    return None


async def _root(db: Database, state: LogState, size: int) -> bytes:
    if size == state.size:
        return merkle.root(state.frontier)
    return await tree.root(db, state.log_id, size)
