"""Many single-row reads that arrive together become one query.

A read waits at most for the query before it: a query serves only the keys that were asked for
before it began, so whatever was committed before `get` was called is seen.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from firmtrail.eventstore.database import Database, Row, Statement, Value

KEYS_MAX = 500


class Coalescer[Key: tuple[Value, ...]]:
    """Answers each key with its rows of one shared query.

    `statement_for(keys)` reads the keys as `given`, whose first column is `n`, the key's place in
    the list; each row of the result begins with that `n`, which `get` leaves out.
    """

    def __init__(self, db: Database, statement_for: Callable[[Sequence[Key]], Statement]) -> None:
        self._db = db
        self._statement_for = statement_for
        self._waiting: dict[Key, asyncio.Future[list[Row]]] = {}
        self._running: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> list[Row]:
        """The rows for `key`; raises what the shared query raised."""
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await asyncio.shield(future)

    async def _run(self) -> None:
        try:
            while self._waiting:
                taken = dict(list(self._waiting.items())[:KEYS_MAX])
                for key in taken:
                    del self._waiting[key]
                await self._answer(taken)
        finally:
            self._running = None

    async def _answer(self, taken: dict[Key, asyncio.Future[list[Row]]]) -> None:
        try:
            rows = await self._db.read(self._statement_for(list(taken)))
        except BaseException as error:  # noqa: BLE001 (every waiter gets it)
            for future in taken.values():
                future.set_exception(error)
            return
        by_key: defaultdict[int, list[Row]] = defaultdict(list)
        for n, *row in rows:
            by_key[n].append(row)
        for n, future in enumerate(taken.values()):
            future.set_result(by_key[n])
