"""Which devices run less than the latest release of their model?

No rows of its own: precedence is no order that SQL knows, but a fleet runs few versions. Those that
don't count are named to the query, which leaves their devices out; what comes is looked at once
more, since a device may have come to a version meanwhile that nobody knew of.
"""

from typing import NamedTuple

from firmtrail import release
from firmtrail.device import DeviceState
from firmtrail.eventstore.database import Database
from firmtrail.projections import fleet_versions, releases
from firmtrail.projections.fleet_versions import Cell
from firmtrail.release import Current


class Outdated(NamedTuple):
    """The devices that are outdated, or with `wanted` False all others."""

    wanted: bool
    current: Current
    others: tuple[Cell, ...] = ()
    """The cells known of which no device is wanted."""

    def finds(self, state: DeviceState) -> bool:
        since_ms = release.outdated_since_ms(self.current, state.model, state.version)
        return self.wanted == (since_ms is not None)


async def now(db: Database, log_id: int, *, wanted: bool) -> tuple[int, Outdated]:
    """As known after at least so many events as are given with it."""
    size, counts = await fleet_versions.counts(db, log_id)
    current = release.current((await releases.live(db, log_id)).values())
    others = sorted(
        (count.model or "", count.version or "")
        for count in counts
        if wanted == (release.outdated_since_ms(current, count.model, count.version) is None)
    )
    return size, Outdated(wanted, current, tuple(others))


async def current_then(db: Database, log_id: int, stop: int) -> Current:
    """What outdated after the log's first `stop` events."""
    return release.current(release.as_of((await releases.live(db, log_id)).values(), stop))
