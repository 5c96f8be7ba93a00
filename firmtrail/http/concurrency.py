"""Limits how many long requests are open at one time, in one process.

No project and no person can use up a limit alone. A person who may create projects can have many of
them, so a person is also limited over all projects together.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from firmtrail.http.callers import Caller
from firmtrail.http.errors import ServiceUnavailable, TooManyRequests

RETRY_AFTER_S = 10

REPLAYS_MAX = 100
"""Limits the readers of logs: each may hold a page, one to two MiB."""
WAITS_MAX = 5_000
WAITS_OF_DEVICE_MAX = 2
"""Two, because a device may come back before the server knows that its old connection is gone."""
WAITS_OF_PEOPLE_MAX = 200
WAITS_OF_PERSON_MAX = 50
RECEIVERS_MAX = 40
RECEIVERS_OF_PROJECT_MAX = 4
UPLOADS_MAX = 16
"""Limits the uploads of artifacts: each takes some 15 MiB of memory."""

type Owner = tuple[object, ...]


class ConcurrencyLimit:
    """Counts open requests, in all and for each owner. Without `per_owner_max`, one owner may have
    a quarter of all."""

    def __init__(self, requests_max: int, per_owner_max: int | None = None) -> None:
        self._requests_max = requests_max
        self._per_owner_max = per_owner_max or max(1, requests_max // 4)
        self._open = 0
        self._open_of: Counter[Owner] = Counter()

    @property
    def open(self) -> int:
        """Returns the number of open requests."""
        return self._open

    @contextmanager
    def try_enter(self, *owner: object) -> Iterator[bool]:
        """Counts a request until the block ends, and yields True, if no limit is reached. Yields
        False otherwise. The caller then answers without waiting."""
        if self._open_of[owner] >= self._per_owner_max or self._open >= self._requests_max:
            yield False
            return
        with self._counted(owner):
            yield True

    @contextmanager
    def enter(self, caller: Caller) -> Iterator[None]:
        """Counts a request of this caller until the block ends. Raises `TooManyRequests` for a
        limit of the caller's project or person, `ServiceUnavailable` for that of the process."""
        owners = ("project", caller.project), ("person", caller.actor_id)
        for kind, name in owners:
            if name is not None and self._open_of[kind, name] >= self._per_owner_max:
                detail = f"This {kind} has too many of these requests open."
                raise TooManyRequests(RETRY_AFTER_S, detail)
        if self._open >= self._requests_max:
            raise ServiceUnavailable("Too many of these requests are open.", RETRY_AFTER_S)
        with self._counted(*owners):
            yield

    @contextmanager
    def _counted(self, *owners: Owner) -> Iterator[None]:
        self._count(owners, 1)
        try:
            yield
        finally:
            self._count(owners, -1)

    def _count(self, owners: tuple[Owner, ...], step: int) -> None:
        self._open += step
        for owner in owners:
            self._open_of[owner] += step
            if not self._open_of[owner]:
                del self._open_of[owner]


class Limits:
    """Bounds each kind of request that takes long. `streams_max` bounds those that follow a log."""

    def __init__(self, streams_max: int) -> None:
        self.streams = ConcurrencyLimit(streams_max)
        self.replays = ConcurrencyLimit(REPLAYS_MAX)
        """Limits the requests that read a log."""
        self.device_waits = ConcurrencyLimit(WAITS_MAX, WAITS_OF_DEVICE_MAX)
        """Limits the devices that wait for a new answer."""
        self.people_waits = ConcurrencyLimit(WAITS_OF_PEOPLE_MAX, WAITS_OF_PERSON_MAX)
        """Limits the people that wait for a device's answer."""
        self.receivers = ConcurrencyLimit(RECEIVERS_MAX, RECEIVERS_OF_PROJECT_MAX)
        """Limits the requests that wait for a receiver, or for the look-up of its host."""
        self.uploads = ConcurrencyLimit(UPLOADS_MAX)
        """Limits the requests that add an artifact."""
