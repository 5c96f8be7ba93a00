"""Writes items in batches, one batch at a time: items that arrive during a write share the next."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence


class BatchWriter[Item]:
    """Passes the waiting items to `write`, at most `items_max` in one call, in their order."""

    def __init__(self, write: Callable[[Sequence[Item]], Awaitable[None]], items_max: int) -> None:
        self.waiting: list[tuple[Item, asyncio.Future[None]]] = []
        self._write = write
        self._items_max = items_max
        self._writing: asyncio.Task[None] | None = None

    async def add(self, item: Item) -> None:
        """Returns when the item is written; raises the error of its batch."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((item, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await written

    async def _write_all(self) -> None:
        try:
            while self.waiting:
                batch = self.waiting[: self._items_max]
                del self.waiting[: self._items_max]
                await self._write_batch(batch)
        finally:
            self._writing = None

    async def _write_batch(self, batch: Sequence[tuple[Item, asyncio.Future[None]]]) -> None:
        error: BaseException | None = None
        try:
            await self._write([item for item, _ in batch])
        except BaseException as raised:  # noqa: BLE001 (every waiting caller gets it)
            error = raised
        for _, written in batch:
            if written.done():  # its caller was cancelled; the item is written all the same
                continue
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)
        if isinstance(error, asyncio.CancelledError):
            raise error
