"""Lets a project write again after a clock has jumped ahead.

Times in a log never decrease, so events after the jump get the last event's time until the clock
has reached it. Accepting that loses nothing: positions, proofs and every device's order stay as
they are, and only the recording times of that span are later than they should be. It ends when the
clock has reached the accepted time: until then, no later time is written.
"""

from typing import NamedTuple

from firmtrail.database.database import Database
from firmtrail.eventstore import log
from firmtrail.rules.device import Refused


class AcceptedTime(NamedTuple):
    """Holds the number of the log, and the time that its next events get."""

    number: int
    recorded_at_ms: int


async def accept_clock(db: Database, log_id: int) -> AcceptedTime:
    """Lets the log take events. Raises `Refused` if it takes them already."""
    async with db.transaction() as tx:
        [rows] = await tx.run(log.lock(log_id))
        head = log.head_of(rows)
        if head.refused_until_ms() is None:
            raise Refused(
                "clock_is_right",
                "The log takes events: its last event is not too far ahead of the clock.",
            )
        await tx.run(log.accept_clock(log_id))
    return AcceptedTime(head.number, head.recorded_at_ms)
