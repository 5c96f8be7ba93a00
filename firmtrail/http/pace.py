"""Shares the event loop: long work pauses between its pieces.

One request must not keep the others waiting, whatever it holds. Work on many items checks after
each item whether its piece is over, and if so lets everything else run first.
"""

import asyncio
from time import perf_counter

PIECE_S = 0.01
"""Limits how long one piece of work occupies the event loop; its last item may exceed it."""


class Pace:
    """Divides one long task into pieces."""

    __slots__ = ("_ends_at",)

    def __init__(self) -> None:
        self._ends_at = perf_counter() + PIECE_S

    def is_due(self) -> bool:
        """Returns whether the work should pause before it continues."""
        return perf_counter() >= self._ends_at

    async def pause(self) -> None:
        """Lets everything run that is ready, and then begins the next piece."""
        await asyncio.sleep(0)
        self._ends_at = perf_counter() + PIECE_S
