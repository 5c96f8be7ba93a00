"""Finds the devices that run less than the latest release of their model, how many they are, and
since when.

It has no rows of its own. SQL can't order versions by precedence, but a fleet runs few versions: a
query names the (model, version) cells that don't count, and excludes their devices. The caller
checks each row again, because a device may have moved meanwhile to a version that was not known.
"""

from collections.abc import Iterable
from typing import NamedTuple

from firmtrail.database.database import Database, Reader
from firmtrail.projections import fleet_versions, releases
from firmtrail.projections.fleet_versions import FleetCell, VersionCount
from firmtrail.rules import release
from firmtrail.rules.device import DeviceState
from firmtrail.rules.release import CurrentReleases


class Outdated(NamedTuple):
    """Selects the devices that are outdated, or, if `wanted` is False, all others."""

    wanted: bool
    current: CurrentReleases
    others: tuple[FleetCell, ...] = ()
    """The known cells in which no device is selected."""

    def finds(self, state: DeviceState | VersionCount) -> bool:
        since_ms = release.outdated_since_ms(self.current, state.model, state.version)
        return self.wanted == (since_ms is not None)


class OutdatedCounts(NamedTuple):
    """Counts outdated devices, and says since when one has been outdated."""

    devices: int = 0
    """All registered devices, outdated or not."""
    outdated: int = 0
    since_ms: int | None = None
    """The oldest time at which a release higher than the version of one of them appeared."""


def by_model(counts: Iterable[VersionCount], current: CurrentReleases) -> dict[str, OutdatedCounts]:
    """Returns the counts of each model; "" stands for the devices without a model."""
    found: dict[str, OutdatedCounts] = {}
    for model, version, devices in counts:
        since_ms = release.outdated_since_ms(current, model, version)
        cell = OutdatedCounts(devices, 0 if since_ms is None else devices, since_ms)
        found[model or ""] = _total([found.get(model or "", OutdatedCounts()), cell])
    return found


async def everywhere(db: Database) -> OutdatedCounts:
    """Returns the counts of all projects together."""
    counts, found = await fleet_versions.everywhere(db), await releases.everywhere(db)
    return _total(
        part
        for log_id, cells in counts.items()
        for part in by_model(cells, release.current(found.get(log_id, ()))).values()
    )


def _total(parts: Iterable[OutdatedCounts]) -> OutdatedCounts:
    devices, outdated, since = zip(OutdatedCounts(), *parts, strict=True)
    known = [each for each in since if each is not None]
    return OutdatedCounts(sum(devices), sum(outdated), min(known, default=None))


async def now(db: Reader, log_id: int, *, wanted: bool) -> tuple[int, Outdated]:
    """Returns the log's size and the filter; both are of one moment if `db` is a snapshot."""
    size, counts = await fleet_versions.counts(db, log_id)
    current = release.current((await releases.live(db, log_id)).values())
    others = sorted(
        (count.model or "", count.version or "")
        for count in counts
        if wanted == (release.outdated_since_ms(current, count.model, count.version) is None)
    )
    return size, Outdated(wanted, current, tuple(others))


async def current_then(db: Reader, log_id: int, stop: int) -> CurrentReleases:
    """Returns the releases that outdated devices after the log's first `stop` events."""
    return release.current(release.as_of((await releases.live(db, log_id)).values(), stop))
