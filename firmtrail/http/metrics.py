"""Counts what the service does, for Prometheus. No metric names a device, a user or a project.

Children of a labelled metric are bound once and kept, because looking one up costs more than
counting. Several workers share their counts through files in a folder (prometheus_client's
multiprocess mode: PROMETHEUS_MULTIPROC_DIR names the folder before the library is imported). The
present state of a process is computed for each scrape, by the worker that answers it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, override

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from firmtrail import __version__
from firmtrail.http.work_metrics import WorkMetrics

CONTENT_TYPE = CONTENT_TYPE_LATEST

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

type Observe = Callable[[int, float], None]


class ProcessState(NamedTuple):
    """Holds the state of the scraped process at the moment of the scrape."""

    ready: bool
    refused_logs: int
    publishing: bool
    checkpoints_up: bool | None
    """None if nothing is published, so that there is no store of checkpoints."""
    artifacts_up: bool | None
    """None if the server has no store of artifacts."""


class _Known(Collector):
    """Yields metrics whose values are already known."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    @override
    def collect(self) -> Iterable[Metric]:
        return self._metrics


def text_of(metrics: Iterable[Metric]) -> bytes:
    """Returns metrics in Prometheus's text format."""
    return generate_latest(_Known(metrics))


_STATE = {
    "ready": "1 if this server can do its work now, as /readyz reports.",
    "refused_logs": "Number of logs that accept no appends.",
    "publishing": "1 if the last round of publishing succeeded; 0 if it failed or there is no key.",
    "checkpoints_up": "1 if the store of published checkpoints can be read and written.",
    "artifacts_up": "1 if the store of artifacts can be written.",
}


class Metrics:
    """Counts what one process does. With a `folder`, it reports the sums of all processes that
    share the folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._own, self._process = CollectorRegistry(), CollectorRegistry()
        ProcessCollector(registry=self._process)
        self._requests = Histogram(
            "firmtrail_http_request_duration_seconds",
            "Duration of requests, from the end of their head to the last byte of their answer. "
            "The protocol is native for all of Firmtrail's own routes.",
            ["protocol", "method", "route", "status"],
            buckets=_BUCKETS_S,
            registry=self._own,
        )
        self._add_rebuilds()
        self._add_connections()
        self._add_messages()
        self.work = WorkMetrics(self._own)
        build = Gauge(
            "firmtrail_build_info",
            "Version of the running program; the value is always 1.",
            ["version"],
            multiprocess_mode="livemax",
            registry=self._own,
        )
        build.labels(__version__).set(1)

    def _add_rebuilds(self) -> None:
        self._rebuilds = self._sum("firmtrail_rebuilds", "Number of running rebuilds of views.")
        self._rebuild_position = Gauge(
            "firmtrail_rebuild_position",
            "Position in its log of the rebuild that made progress last.",
            multiprocess_mode="livemax",
            registry=self._own,
        )
        self._rebuild_events = Counter(
            "firmtrail_rebuild_events",
            "Number of events that rebuilds of views have read.",
            registry=self._own,
        )

    def _add_connections(self) -> None:
        self.connections = self._sum(
            "firmtrail_connections", "Number of open connections of clients."
        )
        self.connections_max = self._sum(
            "firmtrail_connections_max", "Largest allowed number of connections of clients."
        )
        self.open_descriptors = self._sum(
            "firmtrail_open_descriptors", "Number of open file descriptors."
        )
        self.descriptors_max = self._sum(
            "firmtrail_descriptors_max", "Largest allowed number of file descriptors."
        )
        self.closed_connections = Counter(
            "firmtrail_closed_connections",
            "Number of connections that were refused, closed to make room for newer ones "
            "(displaced), or closed because no request arrived in time (late).",
            ["reason"],
            registry=self._own,
        )

    def _add_messages(self) -> None:
        self.dropped_chunks = Counter(
            "firmtrail_dropped_chunks",
            "Number of requests with diagnostic data of Memfault devices, which is not kept.",
            registry=self._own,
        )
        self._deliveries = Counter(
            "firmtrail_webhook_deliveries",
            "Number of attempts to send to webhooks, delivered or failed.",
            ["outcome"],
            registry=self._own,
        )

    def count_delivery(self, outcome: str) -> None:
        """Counts an attempt to send to a webhook: "delivered" or "failed"."""
        self._deliveries.labels(outcome).inc()

    def _sum(self, name: str, help_text: str) -> Gauge:
        return Gauge(name, help_text, multiprocess_mode="livesum", registry=self._own)

    def observer(self, protocol: str, method: str, route: str) -> Observe:
        """Returns the function that counts a request of one route: call it with status and
        seconds."""
        children: dict[int, Histogram] = {}

        def observe(status: int, seconds: float) -> None:
            child = children.get(status)
            if child is None:
                child = children[status] = self._requests.labels(
                    protocol, method, route, str(status)
                )
            child._sum.inc(seconds)  # noqa: SLF001 (its observe() looks at one bound after another)
            child._buckets[bisect_left(_BUCKETS_S, seconds)].inc(1)  # noqa: SLF001

        return observe

    def count_rebuild_step(self, position: int, events: int, running: int) -> None:
        """Counts a step of a rebuild; `rebuilding.builder` calls it."""
        self._rebuild_position.set(position)
        self._rebuild_events.inc(events)
        self._rebuilds.set(running)

    def text(self, state: ProcessState) -> bytes:
        """Returns all metrics and the state of the process in Prometheus's text format."""
        present = [
            GaugeMetricFamily(f"firmtrail_{name}", _STATE[name], value=float(value))
            for name, value in state._asdict().items()
            if value is not None
        ]
        return self._counted() + text_of(present) + generate_latest(self._process)

    def _counted(self) -> bytes:
        if self._folder is None:
            return generate_latest(self._own)
        shared = CollectorRegistry()
        MultiProcessCollector(shared, path=str(self._folder))  # type: ignore[no-untyped-call] # theirs
        return generate_latest(shared)
