"""Shares the event loop: long work pauses between its pieces.

One request must not keep the others waiting, whatever it holds. Work that goes over many items
asks after each whether its piece is over, and then lets everything else run first.
"""

import asyncio
from time import perf_counter

PIECE_S = 0.01
"""How long one piece of work occupies the event loop; the last item of a piece may prolong it."""


class Pace:
    """The pieces of one long piece of work."""

    __slots__ = ("_ends_at",)

    def __init__(self) -> None:
        self._ends_at = perf_counter() + PIECE_S

    def is_due(self) -> bool:
        """Whether the work should pause before it continues."""
        return perf_counter() >= self._ends_at

    async def pause(self) -> None:
        """Lets everything run that is ready, then begins the next piece."""
        await asyncio.sleep(0)
        self._ends_at = perf_counter() + PIECE_S
