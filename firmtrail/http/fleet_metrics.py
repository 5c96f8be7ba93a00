"""How many devices are outdated, and since when, in Prometheus's words.

Counts come from the view of versions, one a version, never from the devices. Who asks without a
credential learns sums over all projects; a project and its models are named to its members alone.
"""

import asyncio
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import NamedTuple

from prometheus_client import Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from firmtrail.database.database import Database, NoSuchTable, Unavailable
from firmtrail.projections import outdated
from firmtrail.projections.fleet_versions import Count
from firmtrail.projections.outdated import Behind
from firmtrail.rules.release import Current, Release

KEPT_S = 15
WAIT_S = 1
"""For the database; a scrape tells of the process also where there is none."""

MODELS_MAX = 1_000
"""Of one scrape: each model is three to four series in whoever scrapes."""


class _Model(NamedTuple):
    name: str
    behind: Behind
    latest: Release


class FleetTotals:
    """How far all projects are behind; read at most every 15 s, however often it is asked for.

    What could not be read is not kept: who asks next has it read again.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._reading: asyncio.Task[Behind] | None = None
        self._stale_at_s = 0.0

    async def text(self) -> bytes:
        """In Prometheus's text format; nothing where the database does not answer in time, or has
        no schema that could be read."""
        if self._reading is None or self._is_over(self._reading):
            self._reading = asyncio.create_task(outdated.everywhere(self._db))
            self._stale_at_s = monotonic() + KEPT_S
        try:
            return _text(_sums(await asyncio.wait_for(asyncio.shield(self._reading), WAIT_S)))
        except (TimeoutError, Unavailable, NoSuchTable):
            return b""

    async def close(self) -> None:
        """End the reading that goes on, if one does."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _is_over(self, reading: asyncio.Task[Behind]) -> bool:
        is_stale = monotonic() >= self._stale_at_s
        return reading.done() and (is_stale or reading.exception() is not None)


def model_metrics(project: str, counts: Iterable[Count], current: Current) -> bytes:
    """How far each model that has a release is behind it, the most outdated devices first."""
    behind = outdated.by_model(counts, current)
    models = [
        _Model(model, behind.get(model, Behind()), outdating.latest)
        for model, outdating in current.items()
    ]
    models.sort(key=lambda each: (-each.behind.outdated, each.name))
    return _text(_of_models(project, models[:MODELS_MAX], len(models[MODELS_MAX:])))


def _sums(behind: Behind) -> list[Metric]:
    since = GaugeMetricFamily(
        "firmtrail_outdated_since_timestamp_seconds",
        "Since when there has been a higher release than what a device runs; of any the longest.",
    )
    if behind.since_ms is not None:
        since.add_metric([], behind.since_ms / 1000)
    return [
        GaugeMetricFamily("firmtrail_devices", "Devices of all projects.", behind.devices),
        GaugeMetricFamily(
            "firmtrail_devices_outdated",
            "Those that run less than the latest release of their model.",
            behind.outdated,
        ),
        since,
    ]


def _of_models(project: str, models: Sequence[_Model], left_out: int) -> list[Metric]:
    devices = _of_model("devices", "Devices of the model.")
    behind = _of_model("devices_outdated", "Those that run less than its latest release.")
    since = _of_model(
        "outdated_since_timestamp_seconds",
        "Since when there has been a higher release than what a device runs; of any the longest.",
    )
    added = _of_model("latest_release_timestamp_seconds", "When its latest release was added.")
    for each in models:
        labels = [project, each.name]
        devices.add_metric(labels, each.behind.devices)
        behind.add_metric(labels, each.behind.outdated)
        added.add_metric(labels, each.latest.added_at_ms / 1000)
        if each.behind.since_ms is not None:
            since.add_metric(labels, each.behind.since_ms / 1000)
    rest = GaugeMetricFamily(
        "firmtrail_models_left_out",
        f"Models beyond the {MODELS_MAX} with the most outdated devices.",
        labels=["project"],
    )
    rest.add_metric([project], left_out)
    return [devices, behind, since, added, rest]


def _of_model(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"firmtrail_model_{name}", text, labels=["project", "model"])


class _Known(Collector):
    """Metrics whose values are known already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _text(metrics: Iterable[Metric]) -> bytes:
    return generate_latest(_Known(metrics))
