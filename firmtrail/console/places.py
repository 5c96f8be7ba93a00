"""Says where the log has an event, and who the actors of events are, as pages show both."""

from collections.abc import Iterable
from typing import NamedTuple

from firmtrail.access import people
from firmtrail.database.database import Reader
from firmtrail.events.entry import decode
from firmtrail.events.event import Recorded
from firmtrail.eventstore import lineage, log, short_streams
from firmtrail.eventstore.lineage import Segment
from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import ConsistentRead


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
    names = await _actor_names(now.reader, {each.actor for each in found})
    return [
        GivenOrder(each, where.of(each.position), names[each.actor], texts.get(each.position))
        for each in reversed(found)
    ]


async def _actor_names(reader: Reader, actors: Iterable[str]) -> dict[str, str]:
    """Returns how people know the actors: by their addresses, where they have one."""
    known = await people.names(reader, actors)
    return {each: known.get(each, "the service" if each == "system" else each) for each in actors}
