"""Says where the log has an event, and who the actors of events are, as pages show both."""

from collections.abc import Mapping
from typing import NamedTuple

from firmtrail.access import people
from firmtrail.console.meaning import system_name
from firmtrail.events.entry import decode
from firmtrail.events.event import Recorded
from firmtrail.eventstore import lineage, log, short_streams
from firmtrail.eventstore.lineage import Segment
from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import ConsistentRead
from firmtrail.recording.commit import SYSTEM


class Place(NamedTuple):
    """Holds the number of a log, and a position in it."""

    log: int
    position: int


class Places(NamedTuple):
    """Finds the place of an event from its position in the newest log; an event of an older log has
    a position below 0."""

    number: int
    old: list[Segment]

    def of(self, position: int) -> Place:
        if position >= 0:
            return Place(self.number, position)
        return Place(*lineage.original_place(self.old, position))


async def places(call: AnyCall, now: ConsistentRead) -> Places:
    """Returns the places of the project's events."""
    head = await log.head(now.reader, call.log_id)
    rows = await now.reader.read(lineage.segments(call.log_id))
    return Places(head.number, lineage.segments_of(rows))


class GivenOrder(NamedTuple):
    """Holds an event of a short stream, with the actor that ordered it and the reason."""

    recorded: Recorded
    place: Place
    by: str
    reason: str | None


async def orders(call: AnyCall, now: ConsistentRead, stream: str) -> list[GivenOrder]:
    """Returns all events of a stream that stays short, the newest first."""
    rows = await short_streams.read(now.reader, call.log_id, stream)
    texts = await short_streams.texts(now.reader, call.log_id, stream)
    found = [decode(position, text) for position, _, text in rows]
    where = await places(call, now)
    names = await people.names(now.reader, {each.actor for each in found})
    return [
        GivenOrder(each, where.of(each.position), _by(each, names), texts.get(each.position))
        for each in reversed(found)
    ]


def _by(recorded: Recorded, names: Mapping[str, str]) -> str:
    """Returns how people know the actor: by an address, where it has one."""
    if recorded.actor == SYSTEM:
        return system_name(recorded.event)
    return names.get(recorded.actor, recorded.actor)
