"""What the service counts about itself, in Prometheus's words. No device, user or project is named.

Children of a labelled metric are bound once and kept: looking one up costs more than counting.
Several workers share what they count through files in a folder (prometheus_client's multiprocess
mode, for which PROMETHEUS_MULTIPROC_DIR names the folder before that library is imported). What a
server is at this moment is computed for each scrape, by the worker that answers it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, override

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from firmtrail import __version__

CONTENT_TYPE = CONTENT_TYPE_LATEST

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

type Observe = Callable[[int, float], None]


class Present(NamedTuple):
    """The state of the process that is scraped, at that moment."""

    ready: bool
    refused_logs: int
    publishing: bool
    checkpoints_up: bool | None
    """None: nothing is published, so there is no place for checkpoints."""
    artifacts_up: bool | None
    """None: there is no place for artifacts."""


class _Scraped(Collector):
    """Shows it. It is in no file that workers share: a value of another moment would mislead."""

    def __init__(self, present: Present) -> None:
        self._present = present

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, value in self._present._asdict().items():
            if value is not None:
                yield GaugeMetricFamily(f"firmtrail_{name}", _SCRAPED[name], value=float(value))


_SCRAPED = {
    "ready": "1 if this server can do its work now, as /readyz says.",
    "refused_logs": "How many logs take no appends.",
    "publishing": "1 if the last round of publishing succeeded; 0 without a key.",
    "checkpoints_up": "1 if the place of published checkpoints can be read and written.",
    "artifacts_up": "1 if the place of artifacts can be written.",
}


class Metrics:
    """The metrics of one process; with a `folder`, what it tells is that of all its siblings."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._own = CollectorRegistry()
        self._requests = Histogram(
            "firmtrail_http_request_duration_seconds",
            "How long requests took, from their head to the last byte of their answer.",
            ["method", "route", "status"],
            buckets=_BUCKETS_S,
            registry=self._own,
        )
        self._rebuilds = Gauge(
            "firmtrail_rebuilds",
            "How many rebuilds of views this process is at.",
            multiprocess_mode="livesum",
            registry=self._own,
        )
        self._rebuild_position = Gauge(
            "firmtrail_rebuild_position",
            "The position in its log that the rebuild which moved last has reached.",
            multiprocess_mode="livemax",
            registry=self._own,
        )
        self._rebuild_events = Counter(
            "firmtrail_rebuild_events",
            "Events folded into views that are built anew.",
            registry=self._own,
        )
        self._add_connections()
        build = Gauge(
            "firmtrail_build_info",
            "What is running.",
            ["version"],
            multiprocess_mode="livemax",
            registry=self._own,
        )
        build.labels(__version__).set(1)

    def _add_connections(self) -> None:
        self.connections = self._sum(
            "firmtrail_connections", "How many client connections are open."
        )
        self.connections_max = self._sum(
            "firmtrail_connections_max", "How many client connections there may be."
        )
        self.open_descriptors = self._sum(
            "firmtrail_open_descriptors", "How many file descriptors are open."
        )
        self.descriptors_max = self._sum(
            "firmtrail_descriptors_max", "How many file descriptors there may be."
        )
        self.closed_connections = Counter(
            "firmtrail_closed_connections",
            "Connections that were refused, that gave way to newer ones (displaced), or that "
            "were closed because no request came in time (late).",
            ["reason"],
            registry=self._own,
        )

    def _sum(self, name: str, help_text: str) -> Gauge:
        return Gauge(name, help_text, multiprocess_mode="livesum", registry=self._own)

    def observer(self, method: str, route: str) -> Observe:
        """Return what counts the requests of one route: called with status and seconds."""
        observers: dict[int, Callable[[float], None]] = {}

        def observe(status: int, seconds: float) -> None:
            if status not in observers:
                child = self._requests.labels(method, route, str(status))
                observers[status] = child.observe
            observers[status](seconds)

        return observe

    def tell_rebuild(self, position: int, events: int, running: int) -> None:
        """Count a step of a rebuild: what `projections.builder` calls."""
        self._rebuild_position.set(position)
        self._rebuild_events.inc(events)
        self._rebuilds.set(running)

    def text(self, present: Present) -> bytes:
        """Return all of them in Prometheus's text format, with what the scrape found."""
        shown = CollectorRegistry()
        shown.register(_Scraped(present))
        return self._counted() + generate_latest(shown)

    def _counted(self) -> bytes:
        if self._folder is None:
            return generate_latest(self._own)
        shared = CollectorRegistry()
        MultiProcessCollector(shared, path=str(self._folder))  # type: ignore[no-untyped-call] # theirs
        return generate_latest(shared)
