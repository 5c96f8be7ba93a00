"""Who may begin what can take long? The places are bounded, and no project takes them all."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from firmtrail.http.errors import ServiceUnavailable, TooManyRequests

RETRY_AFTER_S = 10


class Places:
    """The places of one process; a project gets a quarter of them at most."""

    def __init__(self, places_max: int) -> None:
        self._places_max = places_max
        self._project_max = max(1, places_max // 4)
        self._taken: Counter[str] = Counter()

    @contextmanager
    def one(self, project: str) -> Iterator[None]:
        """Keep a place to the end of the block. Raises a problem where there is none."""
        if self._taken[project] >= self._project_max:
            raise TooManyRequests(
                RETRY_AFTER_S, "The project has as many of these open as it may have."
            )
        if self._taken.total() >= self._places_max:
            raise ServiceUnavailable("As many of these are open as there may be.", RETRY_AFTER_S)
        self._taken[project] += 1
        try:
            yield
        finally:
            self._taken[project] -= 1
            if not self._taken[project]:
                del self._taken[project]
