"""Combines single-row reads that arrive together into one query.

A read waits at most for the query before it. A query serves only keys that were requested before it
began, so it sees everything that was committed before `get` was called.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain, islice

from firmtrail.database.database import Database, Row, Statement, Value

KEYS_MAX = 500

type Waiter = asyncio.Future[list[Row]]
"""One caller of `get`. It is done before its answer if it was cancelled."""


class Coalescer[Key: tuple[Value, ...]]:
    """Answers each key with its rows from a shared query.

    `statement_for(keys)` reads the keys as `given`, whose first column is `n`, the key's index in
    the list. Each row of the result begins with that `n`, which `get` omits.
    """

    def __init__(self, db: Database, statement_for: Callable[[Sequence[Key]], Statement]) -> None:
        self._db = db
        self._statement_for = statement_for
        self._waiting: defaultdict[Key, list[Waiter]] = defaultdict(list)
        self._running: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> list[Row]:
        """Returns the rows for `key`; raises what the shared query raised."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiting[key].append(waiter)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await waiter

    async def _run(self) -> None:
        try:
            while self._waiting:
                taken = dict(islice(self._waiting.items(), KEYS_MAX))
                for key in taken:
                    del self._waiting[key]
                await self._answer(taken)
        finally:
            self._running = None

    async def _answer(self, taken: dict[Key, list[Waiter]]) -> None:
        try:
            rows = await self._db.read(self._statement_for(list(taken)))
        except BaseException as error:  # noqa: BLE001 (every waiter receives it)
            for waiter in chain.from_iterable(taken.values()):
                if not waiter.done():
                    waiter.set_exception(error)
            return
        by_key: defaultdict[int, list[Row]] = defaultdict(list)
        for n, *row in rows:
            by_key[n].append(row)
        for n, waiters in enumerate(taken.values()):
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(by_key[n])
