"""Finds entries of a log by position, subject, type and actor, from either end.

The log has an index over positions and one over subjects; every other filter is applied to the
entries that were read. So a search for something rare reads many entries: page by page, each at a
bounded cost. `newest_page` stops after `LOOKED_AT_MAX` entries and says how far it came.
"""

from collections.abc import AsyncIterator, Iterable
from difflib import get_close_matches
from typing import NamedTuple

from firmtrail.database.database import Reader
from firmtrail.events.entry import TYPES, envelope_of, types_named
from firmtrail.eventstore import log, replay
from firmtrail.eventstore.log import EntryPage
from firmtrail.eventstore.replay import Part

LOOKED_AT_MAX = 8_000
"""Limits the positions that one page looks at, apart from those of a short stream."""


EVENTS = tuple(sorted(TYPES))
"""The names of all events."""


class Wanted(NamedTuple):
    """Selects entries of a log: start <= position < stop, and whatever else is given."""

    log_id: int
    start: int
    stop: int
    subject: str | None = None
    """A stream, or the beginning of several, which ends with "/"."""
    types: frozenset[str] | None = None
    actor: str | None = None

    @property
    def is_range(self) -> bool:
        """Returns whether every entry of the range is wanted."""
        return self.subject is None and self.types is None and self.actor is None

    def at_most(self, limit: int, *, newest_first: bool) -> "Wanted":
        """Returns the first or the last `limit` positions of a range."""
        if newest_first:
            return self._replace(start=max(self.start, self.stop - limit))
        return self._replace(stop=min(self.stop, self.start + limit))


class NewestPage(NamedTuple):
    """Holds the newest entries that were found."""

    entries: EntryPage
    next_stop: int | None
    """Where the search continues, below which position; None: everything was looked at."""


class UnknownType(ValueError):
    """There is no event of this name."""


def types_of(names: Iterable[str]) -> frozenset[str]:
    """Returns the types that the names mean. Raises `UnknownType`, so that a mistyped name does not
    look as if nothing had happened."""
    wanted: set[str] = set()
    for name in names:
        types = types_named(name)
        if not types:
            raise UnknownType(unknown_type(name))
        wanted |= types
    return frozenset(wanted)


def unknown_type(name: str) -> str:
    """Returns in words that there is no event of this name, and which have similar names."""
    similar = get_close_matches(name.removeprefix("firmtrail."), TYPES)
    hint = f" (similar are {', '.join(similar)})" if similar else ""
    return f"there is no event {name[:80]}{hint}; docs/events.md lists the events"


async def oldest_first(db: Reader, wanted: Wanted) -> AsyncIterator[EntryPage]:
    """Yields the entries in order. Pages may be empty: they show that reading continues."""
    log_id, start, stop, subject, *_ = wanted
    if subject is not None:
        pages = replay.read_stream(db, log_id, subject, start=start, stop=stop)
    else:
        pages = log.read(db, log_id, start, stop)
    async for page in pages:
        yield _filtered(page, wanted)


async def newest_first(db: Reader, wanted: Wanted) -> AsyncIterator[Part]:
    """Yields the entries from the last one down. Parts may be empty, as above."""
    log_id, start, stop, subject, *_ = wanted
    if subject is not None:
        parts = replay.newest_of_stream(db, log_id, subject, start=start, stop=stop)
    else:
        parts = replay.newest_first(db, log_id, start, stop)
    async for part in parts:
        yield Part(part.start, _filtered(part.entries, wanted))


async def newest_page(db: Reader, wanted: Wanted, *, limit: int) -> NewestPage:
    """Returns the newest entries, up to `limit`, or those that a bounded search found."""
    if wanted.is_range:
        wanted = wanted.at_most(limit + 1, newest_first=True)
    found: EntryPage = []
    async for part in newest_first(db, wanted):
        found += part.entries
        if len(found) > limit:
            return NewestPage(found[:limit], found[limit - 1][0])
        if wanted.stop - part.start >= LOOKED_AT_MAX and part.start > wanted.start:
            return NewestPage(found, part.start)
    return NewestPage(found, None)


def _filtered(page: EntryPage, wanted: Wanted) -> EntryPage:
    if wanted.types is None and wanted.actor is None:
        return page
    return [entry for entry in page if _is_wanted(entry[2], wanted)]


def _is_wanted(text: str, wanted: Wanted) -> bool:
    envelope = envelope_of(text)
    return (wanted.types is None or envelope.type in wanted.types) and (
        wanted.actor is None or envelope.actor == wanted.actor
    )
