"""Reads which versions a model's devices ran at several times, as known then.

A log never changes its past, so what was true at an earlier time is kept, and read again only when
the view has been rebuilt.
"""

from collections.abc import Sequence

from cachetools import LRUCache

from firmtrail.database.database import Database
from firmtrail.eventstore import log, sizes
from firmtrail.projections import fleet_versions, fold
from firmtrail.projections.fleet_versions import VersionCount

KEPT_MAX = 20_000
"""How many times are kept, of all logs together: some hundred bytes each."""


class Adoption:
    """Reads the counts of versions at earlier times, and keeps them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._kept: LRUCache[tuple[int, int, int], tuple[VersionCount, ...]] = LRUCache(KEPT_MAX)

    async def at(
        self, log_id: int, times: Sequence[int], now_ms: int
    ) -> list[tuple[VersionCount, ...]]:
        """Returns the counts as known at each time; the earliest time comes first."""
        live = {name: at for name, _, at in await self._db.read(fold.live(log_id))}
        generation = live[fleet_versions.NAME]
        return [await self._at(log_id, generation, at_ms, now_ms) for at_ms in times]

    async def _at(
        self, log_id: int, generation: int, at_ms: int, now_ms: int
    ) -> tuple[VersionCount, ...]:
        kept = self._kept.get((log_id, generation, at_ms))
        if kept is not None:
            return kept
        stop = min((await log.head(self._db, log_id)).size, await sizes.at(self._db, log_id, at_ms))
        _, counts = await fleet_versions.counts(self._db, log_id, stop)
        found = tuple(counts)
        if at_ms < now_ms - SETTLED_MS:
            self._kept[log_id, generation, at_ms] = found
        return found


SETTLED_MS = 60_000
"""After so long no server records an event with an earlier time."""
