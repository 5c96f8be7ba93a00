"""Reports to Prometheus how many devices are outdated, and since when.

The counts come from the view of versions, which has one row a version; devices are never read. A
caller without a credential gets totals over all projects. Only its members see a project's name and
the names of its models.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from firmtrail.archive import positions, pruned
from firmtrail.archive.positions import ArchiveLag
from firmtrail.archive.pruned import Totals
from firmtrail.database.database import Database, NoSuchTable, Unavailable
from firmtrail.eventstore import sizes
from firmtrail.eventstore.sizes import LogTotals
from firmtrail.http.metrics import text_of
from firmtrail.http.shared_reads import SharedReads
from firmtrail.projections import outdated
from firmtrail.projections.fleet_versions import VersionCount
from firmtrail.projections.outdated import OutdatedCounts
from firmtrail.rules.release import CurrentReleases, ReleaseState
from firmtrail.schema import partitions
from firmtrail.webhooks import lags
from firmtrail.webhooks.lags import Lag

CACHED_S = 15
WAIT_S = 1
"""Limits the wait of a scrape for the database; without an answer it still covers the process."""

MODELS_MAX = 1_000
"""Limits the models of one scrape: each makes three to four series in Prometheus."""


_SINCE = "Oldest time at which a release newer than some device's version appeared."


class _Everywhere(NamedTuple):
    """Holds the totals of all projects."""

    behind: OutdatedCounts
    logs: LogTotals
    webhooks: Lag
    pruned: Totals
    """The entries that are only in the archive."""
    archive: ArchiveLag | None
    """The entries that are not in the archive yet. None: this server writes no archive."""
    positions_left: int | None
    """None: events are one table."""


class _Model(NamedTuple):
    name: str
    behind: OutdatedCounts
    latest: ReleaseState


class FleetTotals:
    """Caches the counts of outdated devices of all projects; reads them at most every 15 s. A
    failed read is not cached: the next scrape reads again."""

    def __init__(self, db: Database, archive: str | None = None) -> None:
        """`archive` names the archive in the database; None: there is none."""
        self._db = db
        self._archive = archive
        self._reads = SharedReads(CACHED_S)

    async def text(self) -> bytes:
        """Returns the totals in Prometheus's text format. Returns nothing if the database does not
        answer in time, or if its tables are missing."""
        read = partial(_everywhere, self._db, self._archive)
        try:
            return text_of(_totals(await asyncio.wait_for(self._reads.get("", read), WAIT_S)))
        except (TimeoutError, Unavailable, NoSuchTable):
            return b""

    async def close(self) -> None:
        """Ends a read that is in progress, if there is one."""
        await self._reads.close()


def model_metrics(project: str, counts: Iterable[VersionCount], current: CurrentReleases) -> bytes:
    """Returns the metrics of each model with a release, in Prometheus's text format. The models
    with the most outdated devices come first."""
    behind = outdated.by_model(counts, current)
    models = [
        _Model(model, behind.get(model, OutdatedCounts()), outdating.latest)
        for model, outdating in current.items()
    ]
    models.sort(key=lambda each: (-each.behind.outdated, each.name))
    return text_of(_model_families(project, models[:MODELS_MAX], len(models[MODELS_MAX:])))


async def _everywhere(db: Database, archive: str | None) -> _Everywhere:
    lag = await positions.lag(db, archive) if archive is not None else None
    return _Everywhere(
        await outdated.everywhere(db),
        await sizes.totals(db),
        await lags.read(db),
        await pruned.totals(db),
        lag,
        await partitions.positions_left(db),
    )


def _totals(found: _Everywhere) -> list[Metric]:
    behind, logs = found.behind, found.logs
    since = GaugeMetricFamily("firmtrail_outdated_since_timestamp_seconds", _SINCE)
    if behind.since_ms is not None:
        since.add_metric([], behind.since_ms / 1000)
    return [
        GaugeMetricFamily("firmtrail_logs", "Number of logs of all projects.", logs.logs),
        GaugeMetricFamily(
            "firmtrail_log_events", "Number of events in these logs together.", logs.events
        ),
        GaugeMetricFamily(
            "firmtrail_devices", "Number of registered devices of all projects.", behind.devices
        ),
        GaugeMetricFamily(
            "firmtrail_devices_outdated",
            "Number of devices that run a lower version than the latest release of their model.",
            behind.outdated,
        ),
        since,
        *_webhooks(found.webhooks),
        *_pruned(found.pruned),
        *([] if found.archive is None else [_archive(found.archive)]),
        *([] if found.positions_left is None else [_partitions(found.positions_left)]),
    ]


def _pruned(gone: Totals) -> list[Metric]:
    return [
        GaugeMetricFamily(
            "firmtrail_pruned_events",
            "Number of events whose entries were pruned: they are only in the archive.",
            gone.entries,
        ),
        GaugeMetricFamily(
            "firmtrail_pruned_bytes",
            "Number of bytes that these entries had more than the stubs in their place.",
            gone.bytes,
        ),
    ]


def _archive(lag: ArchiveLag) -> Metric:
    return GaugeMetricFamily(
        "firmtrail_archive_waiting_events",
        "Number of events that could be in the archive and are not yet, over all logs. Without an "
        "archive there is no value.",
        lag.entries,
    )


def _partitions(positions_left: int) -> Metric:
    return GaugeMetricFamily(
        "firmtrail_partition_positions_left",
        "Number of events that the largest log can take before it reaches the last partition of "
        "PostgreSQL; below 0 once it has. `firmtrail migrate` adds a partition. Without partitions "
        "there is no value.",
        positions_left,
    )


def _webhooks(lag: Lag) -> list[Metric]:
    failing = GaugeMetricFamily(
        "firmtrail_webhooks_failing_since_timestamp_seconds",
        "Oldest time since which an enabled webhook fails.",
    )
    waiting = GaugeMetricFamily(
        "firmtrail_webhooks_waiting_since_timestamp_seconds",
        "Time of the oldest event that an enabled webhook has not passed yet; webhooks that fail "
        "are left out.",
    )
    for family, at_ms in ((failing, lag.failing_since_ms), (waiting, lag.waiting_since_ms)):
        if at_ms is not None:
            family.add_metric([], at_ms / 1000)
    return [
        GaugeMetricFamily(
            "firmtrail_webhooks", "Number of webhooks of all projects.", lag.webhooks
        ),
        GaugeMetricFamily(
            "firmtrail_webhooks_disabled",
            "Number of webhooks that are disabled, by a person or after failures.",
            lag.disabled,
        ),
        GaugeMetricFamily(
            "firmtrail_webhook_waiting_events",
            "Number of events that enabled webhooks have not passed yet, over all webhooks.",
            lag.events,
        ),
        failing,
        waiting,
    ]


def _model_families(project: str, models: Sequence[_Model], left_out: int) -> list[Metric]:
    devices = _model_family("devices", "Number of registered devices of the model.")
    behind = _model_family(
        "devices_outdated",
        "Number of devices of the model that run a lower version than its latest release.",
    )
    since = _model_family("outdated_since_timestamp_seconds", _SINCE)
    added = _model_family(
        "latest_release_timestamp_seconds", "Time at which the model's latest release was added."
    )
    for each in models:
        labels = [project, each.name]
        devices.add_metric(labels, each.behind.devices)
        behind.add_metric(labels, each.behind.outdated)
        added.add_metric(labels, each.latest.added_at_ms / 1000)
        if each.behind.since_ms is not None:
            since.add_metric(labels, each.behind.since_ms / 1000)
    rest = GaugeMetricFamily(
        "firmtrail_models_left_out",
        f"Number of models that are not reported: only the {MODELS_MAX} with the most outdated "
        "devices are.",
        labels=["project"],
    )
    rest.add_metric([project], left_out)
    return [devices, behind, since, added, rest]


def _model_family(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"firmtrail_model_{name}", text, labels=["project", "model"])
