"""Counts the work of one process for Prometheus: commits, queues, waiting requests, followers.

What happens in each commit is counted there. The state of queues is read now and then, so that it
costs a request nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from firmtrail.followers.following import Following

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_EVENTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


class WorkState(NamedTuple):
    """Holds the state of a process's queues at one moment."""

    waiting_commands: int
    bcrypt_waiting: int
    rejected: Mapping[str, int]
    """The attempts with a wrong credential since the process started, by their outcome."""
    open_requests: Mapping[str, int]
    """The requests that take long, by their kind."""
    connections: int
    """The connections to the database."""
    busy_connections: int
    followings: Sequence[Following[Any]]
    standby_lag_s: float | None
    """None if the server has no standby."""
    answered: Mapping[str, int]
    """The answers since the process started, by the database that was read."""


class WorkMetrics:
    """Counts commits as they end, and takes over the state of the queues."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._rejected_before: dict[str, int] = {}
        self._answered_before: dict[str, int] = {}
        self._add_commits()
        self._rejected = Counter(
            "firmtrail_rejected_attempts",
            "Number of attempts with a credential that was wrong, or that came past a limit and "
            "was not looked at (limited).",
            ["outcome"],
            registry=registry,
        )
        self._add_queues()
        self._add_standby()

    def _add_commits(self) -> None:
        self._commits = Histogram(
            "firmtrail_commit_duration_seconds",
            "Duration of commits to the logs, from their begin to their return.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "firmtrail_commit_events",
            "Number of events that a commit appends; 0 if all its reports were known.",
            buckets=_EVENTS,
            registry=self._registry,
        )
        self._appended = Counter(
            "firmtrail_events_appended",
            "Number of events that were appended to the logs, by type.",
            ["type"],
            registry=self._registry,
        )
        self._failed = Counter(
            "firmtrail_failed_commits",
            "Number of commits that the database did not make: it was away, full, locked or "
            "read-only. A log that takes no appends is not counted. Nothing of these commits was "
            "answered as recorded.",
            registry=self._registry,
        )

    def _add_standby(self) -> None:
        self._standby_lag = Gauge(
            "firmtrail_standby_lag_seconds",
            "Seconds for which the database has had commits that the standby of --read-database "
            "has not replayed; 0 without such a standby.",
            multiprocess_mode="livemax",
            registry=self._registry,
        )
        self._answered = Counter(
            "firmtrail_standby_reads",
            "Number of answers that could come from the standby of --read-database, by the "
            "database that was read.",
            ["database"],
            registry=self._registry,
        )

    def _add_queues(self) -> None:
        self._waiting = self._gauge(
            "firmtrail_waiting_commands", "Number of reports and commands that are not answered."
        )
        self._bcrypt = self._gauge(
            "firmtrail_bcrypt_waiting", "Number of passwords and weak secrets that wait for a hash."
        )
        self._open = self._gauge(
            "firmtrail_open_requests", "Number of requests that take long, by kind.", ["kind"]
        )
        self._connections = self._gauge(
            "firmtrail_database_connections", "Number of open connections to the database."
        )
        self._busy = self._gauge(
            "firmtrail_database_connections_busy", "Number of these connections that are in use."
        )
        self._success = Gauge(
            "firmtrail_follower_success_timestamp_seconds",
            "Time at which a follower of the logs last ended a round without an error. The "
            "publisher has published all checkpoints then; a round of webhooks only starts to "
            "send.",
            ["follower"],
            multiprocess_mode="livemax",
            registry=self._registry,
        )

    def _gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(name, text, labels, multiprocess_mode="livesum", registry=self._registry)

    def committed(self, types: Mapping[str, int], seconds: float) -> None:
        """Counts a commit that has returned, and the events of each type in it."""
        self._commits.observe(seconds)
        self._batches.observe(sum(types.values()))
        for name, count in types.items():
            self._appended.labels(name).inc(count)

    def failed(self) -> None:
        """Counts a commit that the database did not make."""
        self._failed.inc()

    def observe(self, state: WorkState) -> None:
        """Takes over the state of the queues."""
        self._waiting.set(state.waiting_commands)
        self._bcrypt.set(state.bcrypt_waiting)
        self._connections.set(state.connections)
        self._busy.set(state.busy_connections)
        for kind, count in state.open_requests.items():
            self._open.labels(kind).set(count)
        for outcome, count in state.rejected.items():
            self._rejected.labels(outcome).inc(count - self._rejected_before.get(outcome, 0))
            self._rejected_before[outcome] = count
        self._standby_lag.set(state.standby_lag_s or 0)
        for name, count in state.answered.items():
            self._answered.labels(name).inc(count - self._answered_before.get(name, 0))
            self._answered_before[name] = count
        for each in state.followings:
            if each.succeeded_at_s is not None:
                self._success.labels(each.follower.name).set(each.succeeded_at_s)
