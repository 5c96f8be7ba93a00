"""Decides which log lines only repeat one that was written within the last minute.

A condition such as a database that is away, a full disk or a refused log fails every request. One
line a minute says as much as a thousand a second, and does not fill the disk. Callers name the
condition by a key. Each process decides by its own lines alone.
"""

import time
from collections.abc import Callable, Hashable

EVERY_S = 60
KEYS_MAX = 200
"""The number of conditions that are distinguished at one time; further ones count as one."""

_OTHERS = object()


class Repeats:
    """Remembers the conditions that were logged within the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[Hashable, tuple[float, int]] = {}
        """key -> when its last line was written, and how many were left out since"""

    def due(self, *key: Hashable) -> int | None:
        """Returns the number of lines that were left out since the last line of this condition.
        None means that a line was written less than a minute ago, so this one is left out too."""
        now_s = self._clock()
        known: Hashable = key
        if key not in self._since and len(self._since) >= KEYS_MAX:
            self._forget(now_s)
            known = key if len(self._since) < KEYS_MAX else _OTHERS
        written_at_s, left_out = self._since.get(known, (now_s - EVERY_S, 0))
        if now_s - written_at_s < EVERY_S:
            self._since[known] = written_at_s, left_out + 1
            return None
        self._since[known] = now_s, 0
        return left_out

    def _forget(self, now_s: float) -> None:
        """Forgets the conditions that are over, with the counts of their lines left out."""
        self._since = {
            key: (at_s, left_out)
            for key, (at_s, left_out) in self._since.items()
            if now_s - at_s < EVERY_S
        }
