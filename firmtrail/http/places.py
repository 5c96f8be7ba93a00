"""Bounds requests that can take long. No project and no person takes all places of a process.

A person who may create projects can have many, so a person is bounded too, over all projects.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from firmtrail.http.callers import Caller
from firmtrail.http.errors import ServiceUnavailable, TooManyRequests

RETRY_AFTER_S = 10


WAITS_MAX = 5_000
WAITS_OF_DEVICE_MAX = 2
"""Two, because a device may come back before its old connection is known to be gone."""
WAITS_OF_PEOPLE_MAX = 200
WAITS_OF_PERSON_MAX = 50


class Waits:
    """Requests that wait for news: so many in one process, and so many for each owner.

    A request that finds no place is not refused; it is answered without waiting.
    """

    def __init__(self, waits_max: int, owner_max: int) -> None:
        self._waits_max = waits_max
        self._owner_max = owner_max
        self._all = 0
        self._taken: Counter[tuple[object, ...]] = Counter()

    @contextmanager
    def one(self, *owner: object) -> Iterator[bool]:
        """Keeps a place to the end of the block, if there is one; says whether there is."""
        if self._taken[owner] >= self._owner_max or self._all >= self._waits_max:
            yield False
            return
        self._all += 1
        self._taken[owner] += 1
        try:
            yield True
        finally:
            self._all -= 1
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]


class Places:
    """The places of one process; a project and a person get a quarter of them each at most."""

    def __init__(self, places_max: int) -> None:
        self._places_max = places_max
        self._one_max = max(1, places_max // 4)
        self._all = 0
        self._taken: Counter[tuple[str, str | None]] = Counter()

    @contextmanager
    def one(self, caller: Caller) -> Iterator[None]:
        """Keeps a place to the end of the block. Raises a problem where there is none."""
        owners = [("project", caller.project), ("person", caller.actor_id)]
        for kind, name in owners:
            if name is not None and self._taken[kind, name] >= self._one_max:
                detail = f"The {kind} has as many of these open as a {kind} may have. End one."
                raise TooManyRequests(RETRY_AFTER_S, detail)
        if self._all >= self._places_max:
            raise ServiceUnavailable("As many of these are open as there may be.", RETRY_AFTER_S)
        self._count(owners, 1)
        try:
            yield
        finally:
            self._count(owners, -1)

    def _count(self, owners: list[tuple[str, str | None]], step: int) -> None:
        self._all += step
        for owner in owners:
            self._taken[owner] += step
            if not self._taken[owner]:
                del self._taken[owner]
