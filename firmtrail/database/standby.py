"""Answers reads from a standby of PostgreSQL, and never with less than was committed before.

A read takes these steps: it asks the primary up to which place of its WAL commits are durable,
waits until the standby has replayed that place, and then reads there. So an answer contains every
event whose receipt anybody had when the read began, whichever server gave the receipt, and every
other row that was committed by then. If the standby needs too long, fails or is away, the primary
answers. So a standby can make an answer late by at most `WAIT_S` and the time of a statement, and
never makes it fail.

A place in the WAL is compared, and not the size of a log, because an answer also contains rows that
no event covers: an erased e-mail address must not come back from a standby.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from time import monotonic

import structlog

from firmtrail.database.coalesce import Coalescer
from firmtrail.database.database import (
    Database,
    NotAllowed,
    Reader,
    ReadSource,
    Row,
    Statement,
    Unavailable,
)
from firmtrail.database.stubs import EntriesAway

WAIT_S = 0.5
"""Limits how long a read waits for the standby, before the primary answers."""
POLL_S = 0.004
OBSERVE_S = 0.5
"""Sets how often the lag is measured."""
MARKS_MAX = 1_000

_START = "CAST('0/0' AS pg_lsn)"

_COMMITTED = f"""\
SELECT
    0,
    CAST(CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END - {_START} AS bigint)
"""

_REPLAYED = f"""\
SELECT
    0,
    CAST(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END - {_START} AS bigint)
"""

_IDENTITY = Statement("""\
SELECT CAST(control.system_identifier AS text), CAST(pg_database.oid AS text)
FROM pg_control_system() AS control
CROSS JOIN pg_database
WHERE pg_database.datname = current_database()""")

_log = structlog.get_logger("firmtrail.standby")


class StandbyFailed(Unavailable):
    """The standby failed inside a moment. The same read again is answered by the primary."""


class NotItsStandby(Exception):
    """The database that is to answer reads is not a standby of the primary."""


async def check(primary: Database, standby: Database) -> None:
    """Raises `NotItsStandby` if the standby does not copy the primary's database, takes writes, or
    can't be compared. Raises `Unavailable` if one of them does not answer."""
    with _comparable():
        if await primary.read(_IDENTITY) != await standby.read(_IDENTITY):
            raise NotItsStandby("it is not a physical copy of the database that --database names")
        replayed = await _place(standby, _REPLAYED)
        if replayed is None:
            raise NotItsStandby("it takes writes itself, so it does not follow the database")
        committed = await _place(primary, _COMMITTED)
        if committed is not None and replayed > committed:
            raise NotItsStandby("it has replayed more than the database of --database wrote")


@contextlib.contextmanager
def _comparable() -> Iterator[None]:
    """Raises `NotItsStandby` where a server refuses a function that the comparison needs."""
    try:
        yield
    except NotAllowed as error:
        raise NotItsStandby(
            f"the two can't be compared ({error}): the role needs EXECUTE on pg_control_system(), "
            "pg_current_wal_flush_lsn() and pg_last_wal_replay_lsn()"
        ) from error


async def lag_bytes(primary: Database, standby: Database) -> int:
    """Returns how many bytes of the primary's WAL the standby has not replayed yet."""
    committed = await _place(primary, _COMMITTED)
    return max(0, (committed or 0) - (await _place(standby, _REPLAYED) or 0))


async def _place(db: Database, text: str) -> int | None:
    [[_, place]] = await db.read(Statement(text))
    return place if place is None else int(place)


class Standby:
    """Picks the database for each read of one process; `run` measures the lag until it is
    cancelled."""

    def __init__(self, primary: Database, standby: Database) -> None:
        self.primary = primary
        self.standby = standby
        self.answered: dict[str, int] = {"standby": 0, "primary": 0}
        """Counts the reads by the database that was picked for them."""
        self._committed = Coalescer[tuple[()]](primary, lambda _: Statement(_COMMITTED))
        self._replayed = Coalescer[tuple[()]](standby, lambda _: Statement(_REPLAYED))
        self._reached = -1
        """The place that the standby is known to have replayed."""
        self._is_verified = False
        self._is_used = False
        self._refused: str | None = None
        """Why it is no standby of the primary, as last logged."""
        self._marks: deque[tuple[float, int]] = deque()
        """When the primary was at which place; without those that the standby has replayed."""

    @property
    def lag_s(self) -> float:
        """Returns for how long the primary has had something that the standby had not replayed when
        it was last asked."""
        return monotonic() - self._marks[0][0] if self._marks else 0.0

    def reading(self) -> "StandbyReading":
        """Returns the source of one answer, which is picked when it is first read."""
        return StandbyReading(self)

    async def picked(self) -> ReadSource:
        """Returns the standby once it has everything that was committed when this was called, or
        the primary if that takes too long."""
        is_standby = self._is_used and await self._catches_up()
        self.answered["standby" if is_standby else "primary"] += 1
        return self.standby if is_standby else self.primary

    def failed(self, reason: str) -> None:
        """Sends reads to the primary until the standby is found to follow it again."""
        if self._is_used:
            _log.warning("the primary answers reads instead of the standby", reason=reason)
        self._is_used = self._is_verified = False

    def _refuse(self, reason: str) -> None:
        """Sends reads to the primary, and logs once why the standby can't answer them."""
        if reason != self._refused:
            _log.error("the standby can't answer reads", reason=reason)
        self._refused = reason
        self._is_used = self._is_verified = False

    async def run(self) -> None:
        """Measures the lag, and decides whether the standby is used, until it is cancelled."""
        while True:
            with contextlib.suppress(Unavailable):  # without a primary there is nothing to follow
                try:
                    await self._mark()
                    await self._observe()
                except NotItsStandby as error:
                    self._refuse(str(error))
            await asyncio.sleep(OBSERVE_S)

    async def _mark(self) -> None:
        """Notes how far the primary is."""
        committed = await _asked(self._committed)
        if committed is not None:
            self._marks.append((monotonic(), committed))

    async def _observe(self) -> None:
        """Asks the standby how far it is."""
        try:
            async with asyncio.timeout(2 * WAIT_S):
                if not self._is_verified:
                    await check(self.primary, self.standby)
                    self._is_verified = True
                await self._look()
        except (Unavailable, TimeoutError) as error:
            self.failed(str(error) or "it does not answer")
        else:
            self._drop_marks()
            self._use(is_current=self.lag_s < WAIT_S)

    def _use(self, *, is_current: bool) -> None:
        if is_current and not self._is_used:
            _log.info("the standby answers reads")
        if not is_current and self._is_used:
            _log.warning("the primary answers reads", standby_lag_s=round(self.lag_s, 1))
        self._is_used = is_current
        if is_current:
            self._refused = None

    async def _catches_up(self) -> bool:
        try:
            committed = await _asked(self._committed)
            if committed is None:  # the primary has become a standby; a read of it says so
                return False
            await self._follow_to(committed)
        except NotItsStandby as error:
            self._refuse(str(error))
        return self._is_used

    async def _follow_to(self, committed: int) -> None:
        """Waits until the standby has replayed this place, or is no longer used."""
        try:
            async with asyncio.timeout(WAIT_S):
                while self._reached < committed:
                    await self._look()
                    if self._reached < committed:
                        await asyncio.sleep(POLL_S)
        except TimeoutError:
            self._use(is_current=False)
        except Unavailable as error:
            self.failed(str(error))

    async def _look(self) -> None:
        replayed = await _asked(self._replayed)
        if replayed is None:
            raise Unavailable("it takes writes itself, so it no longer follows the primary")
        self._reached = replayed

    def _drop_marks(self) -> None:
        while self._marks and self._marks[0][1] <= self._reached:
            self._marks.popleft()
        if len(self._marks) > MARKS_MAX:  # after minutes, every second mark says enough
            self._marks = deque(list(self._marks)[::2])


async def _asked(place: Coalescer[tuple[()]]) -> int | None:
    with _comparable():
        [[found]] = await place.get(())
    return found if found is None else int(found)


class StandbyReading:
    """Reads what one answer needs, from the standby until it fails, then from the primary.

    The primary has everything that a standby has, so a later read never shows less."""

    def __init__(self, standby: Standby) -> None:
        self._standby = standby
        self._source: ReadSource | None = None

    async def read(self, statement: Statement) -> list[Row]:
        source = await self._picked()
        try:
            return await source.read(statement)
        except Unavailable as error:
            if source is self._standby.primary or isinstance(error, EntriesAway):
                raise
            self._fall_back(error)
        return await self._standby.primary.read(statement)

    def moment(self) -> AbstractAsyncContextManager[Reader]:
        """Returns a reader that raises `StandbyFailed` if the standby fails inside the block."""
        return self._opened(lambda source: source.moment())

    def snapshot(self) -> AbstractAsyncContextManager[Reader]:
        """Returns a reader that raises `StandbyFailed` if the standby fails inside the block."""
        return self._opened(lambda source: source.snapshot())

    @contextlib.asynccontextmanager
    async def _opened(
        self, open_reader: Callable[[ReadSource], AbstractAsyncContextManager[Reader]]
    ) -> AsyncIterator[Reader]:
        primary = self._standby.primary
        async with contextlib.AsyncExitStack() as stack:
            source = await self._picked()
            try:
                reader = await stack.enter_async_context(open_reader(source))
            except Unavailable as error:
                if source is primary:
                    raise
                self._fall_back(error)
                source, reader = primary, await stack.enter_async_context(open_reader(primary))
            yield reader if source is primary else _StandbyReader(reader, self._fall_back)

    async def _picked(self) -> ReadSource:
        if self._source is None:
            self._source = await self._standby.picked()
        return self._source

    def _fall_back(self, error: Unavailable) -> None:
        """Reads the primary from now on, since the standby failed."""
        self._source = self._standby.primary
        self._standby.failed(str(error))


class _StandbyReader:
    """Reads one moment of the standby. Only its own reads raise `StandbyFailed`: another failure in
    the block of a caller, such as that of a write to the primary, repeats nothing."""

    def __init__(self, reader: Reader, failed: Callable[[Unavailable], None]) -> None:
        self._reader = reader
        self._failed = failed

    async def read(self, statement: Statement) -> list[Row]:
        try:
            return await self._reader.read(statement)
        except EntriesAway:
            raise
        except Unavailable as error:
            self._failed(error)
            raise StandbyFailed(str(error), error.retry_after_s) from error
