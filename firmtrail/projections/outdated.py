"""Which devices run less than the latest release of their model, how many, and since when?

No rows of its own: precedence is no order that SQL knows, but a fleet runs few versions. Those that
don't count are named to the query, which leaves their devices out; what comes is looked at once
more, since a device may have come to a version meanwhile that nobody knew of.
"""

from collections.abc import Iterable
from typing import NamedTuple

from firmtrail.database.database import Database, Reader
from firmtrail.projections import fleet_versions, releases
from firmtrail.projections.fleet_versions import Cell, Count
from firmtrail.rules import release
from firmtrail.rules.device import DeviceState
from firmtrail.rules.release import CurrentReleases


class Outdated(NamedTuple):
    """The devices that are outdated, or with `wanted` False all others."""

    wanted: bool
    current: CurrentReleases
    others: tuple[Cell, ...] = ()
    """The cells known of which no device is wanted."""

    def finds(self, state: DeviceState) -> bool:
        since_ms = release.outdated_since_ms(self.current, state.model, state.version)
        return self.wanted == (since_ms is not None)


class Behind(NamedTuple):
    """How far devices are behind the latest releases of their models."""

    devices: int = 0
    """Registered, outdated or not."""
    outdated: int = 0
    since_ms: int | None = None
    """Since when there has been a higher release than what one of them runs; of any the longest."""


def by_model(counts: Iterable[Count], current: CurrentReleases) -> dict[str, Behind]:
    """Of each model; "" stands for the devices that have none."""
    found: dict[str, Behind] = {}
    for model, version, devices in counts:
        since_ms = release.outdated_since_ms(current, model, version)
        cell = Behind(devices, 0 if since_ms is None else devices, since_ms)
        found[model or ""] = _together([found.get(model or "", Behind()), cell])
    return found


async def everywhere(db: Database) -> Behind:
    """Of all projects."""
    counts, found = await fleet_versions.everywhere(db), await releases.everywhere(db)
    return _together(
        behind
        for log_id, cells in counts.items()
        for behind in by_model(cells, release.current(found.get(log_id, ()))).values()
    )


def _together(parts: Iterable[Behind]) -> Behind:
    devices, outdated, since = zip(Behind(), *parts, strict=True)
    known = [each for each in since if each is not None]
    return Behind(sum(devices), sum(outdated), min(known, default=None))


async def now(db: Reader, log_id: int, *, wanted: bool) -> tuple[int, Outdated]:
    """Returns the log's size and what is outdated; both are of one moment if `db` reads one."""
    size, counts = await fleet_versions.counts(db, log_id)
    current = release.current((await releases.live(db, log_id)).values())
    others = sorted(
        (count.model or "", count.version or "")
        for count in counts
        if wanted == (release.outdated_since_ms(current, count.model, count.version) is None)
    )
    return size, Outdated(wanted, current, tuple(others))


async def current_then(db: Database, log_id: int, stop: int) -> CurrentReleases:
    """Returns which devices were outdated after the log's first `stop` events."""
    return release.current(release.as_of((await releases.live(db, log_id)).values(), stop))
