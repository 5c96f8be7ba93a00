"""Which devices run less than the latest release of their model?

No rows of its own: precedence is no order that SQL knows, but a fleet runs few versions. Those that
don't count are named to the query, which leaves their devices out; what comes is looked at once
more, since a device may have come to a version meanwhile that nobody knew of.
"""

from collections.abc import Mapping
from typing import NamedTuple

from firmtrail import release
from firmtrail.device import DeviceState
from firmtrail.eventstore.database import Database
from firmtrail.projections import fleet_versions, releases
from firmtrail.projections.fleet_versions import Cell
from firmtrail.release import Release


class Outdated(NamedTuple):
    """The devices that are outdated, or with `wanted` False all others."""

    wanted: bool
    latest: Mapping[str, Release]
    """Of each model that has one."""
    others: tuple[Cell, ...] = ()
    """The cells known of which no device is wanted."""

    def finds(self, state: DeviceState) -> bool:
        return self.wanted == release.is_outdated(self.latest, state.model, state.version)


async def now(db: Database, log_id: int, *, wanted: bool) -> tuple[int, Outdated]:
    """As known after at least so many events as are given with it."""
    size, counts = await fleet_versions.counts(db, log_id)
    latest = release.latest((await releases.live(db, log_id)).values())
    others = sorted(
        (count.model or "", count.version or "")
        for count in counts
        if release.is_outdated(latest, count.model, count.version) != wanted
    )
    return size, Outdated(wanted, latest, tuple(others))


async def then(db: Database, log_id: int, stop: int, *, wanted: bool) -> Outdated:
    """As known after the log's first `stop` events."""
    known = release.as_of((await releases.live(db, log_id)).values(), stop)
    return Outdated(wanted, release.latest(known))
