"""Remembers the rebuilds of one process that failed, and how long an interrupted one pauses."""

from time import monotonic
from typing import NamedTuple

from firmtrail.rebuilding.generations import Build

PAUSE_S_MAX = 60
"""Limits the pause after a rebuild was interrupted: it doubles while the rebuild does not
advance."""


class _Pause(NamedTuple):
    """Says when a rebuild that was interrupted is tried again."""

    position: int
    """Where the try began that was interrupted."""
    pause_s: float
    until_s: float
    """A time of `monotonic`."""


class Setbacks:
    """Holds the failures and pauses of the logs whose last rebuild here did not succeed."""

    def __init__(self) -> None:
        self.failures: dict[int, str] = {}
        """The errors that ended rebuilds. None of them is tried again without a request."""
        self._pauses: dict[int, _Pause] = {}

    def is_left_alone(self, log_id: int) -> bool:
        """Returns whether the log's rebuild failed, or was interrupted a short time ago."""
        pause = self._pauses.get(log_id)
        return log_id in self.failures or (pause is not None and monotonic() < pause.until_s)

    def interrupted(self, build: Build, first_pause_s: float) -> None:
        """Lets a rebuild pause, twice as long as before if it did not advance since."""
        before, pause_s = self._pauses.get(build.log_id), first_pause_s
        if before is not None and before.position == build.position:
            pause_s = min(2 * before.pause_s, PAUSE_S_MAX)
        self._pauses[build.log_id] = _Pause(build.position, pause_s, monotonic() + pause_s)

    def forget(self, log_id: int) -> None:
        """Forgets all of a log whose rebuild succeeded, or is no longer needed."""
        self.failures.pop(log_id, None)
        self._pauses.pop(log_id, None)
