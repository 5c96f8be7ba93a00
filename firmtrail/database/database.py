"""Declares the interface between the service and its databases: run this text with these arguments.

A `Statement` is data: an SQL text, its arguments `$1 … $n`, and at most one table of rows that the
text reads as `given`. The same text runs on both back ends. The interface guarantees:

- `Database.read` runs one statement on its own snapshot, and sees every commit that returned
  before it was called.
- `Database.transaction` is one write transaction, READ COMMITTED or stricter: everything or
  nothing, durable once the block is left without an error.
- A database that is away, locked or full raises `Unavailable`, and nothing of the transaction was
  written, or (`OutcomeUnknown`) the commit may or may not have happened.

A `Script` is a transaction as a generator. It yields statements, receives the rows of each, and
returns a result. `Database.play` runs it in one transaction, next to the connection:

    def rename(log_id: int, name: str) -> Script[bool]:
        [found] = yield [Statement(_LOCK_HEAD, (log_id,))]
        if not found:
            return False
        yield [Statement(_RENAME, (log_id, name))]
        return True

    is_renamed = await database.play(rename, log_id, "acme")

`now_ms()` is an SQL function on both back ends. It returns the log's clock in Unix milliseconds:
the clock of Postgres, or of this process.

Every stored value is an integer or a text, so rows can travel as JSON: there are no blobs and no
floats, and booleans are 0 and 1.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from firmtrail.database.entry_archive import EntryArchive

type Value = int | str | None
type Row = Sequence[Any]
"""A row of a result: each value an int, a str or None, as its column says."""


class Given(NamedTuple):
    """Rows for a statement, which reads them as the relation `given`.

    `columns` names and types them as SQL does: "device text, place bigint". A back end may run the
    statement for several parts of the rows in turn. So each row of the result must come from one
    row of `given`, and an ORDER BY orders only the results of the same row.
    An INSERT from it ends its SELECT with `WHERE TRUE` (SQLite can't parse ON CONFLICT otherwise).
    Join a table to it by `given CROSS JOIN table WHERE …`: SQLite doesn't know how many rows there
    are, and takes a CROSS JOIN as the order of the loops.
    """

    columns: str
    rows: Sequence[Sequence[Value]]


class Statement(NamedTuple):
    """Combines one SQL text with its arguments and its rows."""

    text: str
    args: tuple[Value, ...] = ()
    given: Given | None = None
    entry: int | None = None
    """The column of the result that has entries: readers and transactions put the texts of pruned
    entries into it (`stubs`). None: the rows are returned as they are stored."""


type Script[Result] = Generator[Sequence[Statement], list[list[Row]], Result]
"""A transaction as a generator. It yields statements, receives the rows of each, and returns its
result. It awaits nothing and uses nothing of the event loop, so a back end can play it in the
thread or process that has the connection."""

TURN: Sequence[Statement] = ()
"""A script yields it between two slices of long work: there is nothing to run, and whatever plays
the script may let other tasks run first."""


class Steps[Result]:
    """Iterates over the steps of a script: the one player, which works with and without `await`.

    Each step is the statements to run. The caller sets `rows` to their rows before the next step,
    and finds the script's result in `result` after the last.
    """

    rows: list[list[Row]] | None = None
    result: Result

    def __init__(self, script: Script[Result]) -> None:
        self._script = script

    def __iter__(self) -> "Steps[Result]":
        return self

    def __next__(self) -> Sequence[Statement]:
        try:
            return self._script.send(self.rows)  # type: ignore[arg-type] # None starts it
        except StopIteration as end:
            self.result = end.value
            raise


class Unavailable(Exception):
    """The database can't do this now; nothing was written. Try again in `retry_after_s`."""

    def __init__(self, reason: str, retry_after_s: int = 2) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Contended(Unavailable):
    """Other transactions kept a lock that this needs for too long. The database itself answered."""


class LogUnavailable(Unavailable):
    """The log takes no appends now, although the database works: a rule or a guard refused it."""


class AppendRefused(LogUnavailable):
    """The database refused a row at the end of a log: the position is taken, or a trigger that
    guards the log refused it."""

    def __init__(self, reason: str, retry_after_s: int = 60) -> None:
        super().__init__(reason, retry_after_s)

    @classmethod
    def because(cls, message: str) -> "AppendRefused":
        """Returns the error with the database's message, and what to do."""
        return cls(
            f"the log takes no appends, because the database refused a row at its end: {message}. "
            "Run `firmtrail audit verify`, and see docs/checkpoints.md, Rows ahead of the head."
        )


APPENDED = ("events", "identities", "subtrees", "texts")
"""The tables whose rows an append adds at the end of a log."""


class ReadOnly(Unavailable):
    """The database takes no writes: it is a standby, or its transactions are read-only."""


class OutcomeUnknown(Unavailable):
    """The connection broke inside COMMIT, which may have happened. Try again with the same ids."""


class NotAllowed(Exception):
    """The role of the connection may not run the statement."""


class NoSuchTable(Exception):
    """The statement names a table that does not exist: the database was never migrated."""


class Transaction(Protocol):
    """Runs statements in one open write transaction."""

    async def run(self, *statements: Statement) -> list[list[Row]]:
        """Runs them in order, in one round trip where the back end can; returns the rows of
        each."""


async def played[Result](tx: Transaction, script: Script[Result]) -> Result:
    steps = Steps(script)
    for statements in steps:
        steps.rows = await tx.run(*statements) if statements else []
    return steps.result


class Reader(Protocol):
    """Answers SELECTs."""

    async def read(self, statement: Statement) -> list[Row]:
        """Runs one SELECT; a `Database` runs it outside any transaction."""


class Connections(NamedTuple):
    """Counts the connections of a process to its database."""

    open: int
    busy: int


class ReadSource(Reader, Protocol):
    """Answers the reads of a request."""

    def moment(self) -> AbstractAsyncContextManager[Reader]:
        """Returns a reader that sees the database as it is at one moment, for an answer that takes
        several statements; it ends with the block.

        Keep the block short, and read by nothing else in it: it has one of few connections, and
        requests that each wait for a second one would wait for ever.
        """

    def snapshot(self) -> AbstractAsyncContextManager[Reader]:
        """Returns a reader that sees one state of the database while others write; it ends with the
        block.

        It keeps SQLite from resetting its WAL and Postgres from vacuuming dead rows: for commands
        that read something whole, and never for a request.
        """


class Database(ReadSource, Protocol):
    """Keeps a pool of connections to one database open until `close`."""

    archive: EntryArchive | None
    """Where the texts of pruned entries are read; None: this process was given no archive."""

    plays_in_turn: bool
    """Whether scripts run one after another and a waiting one locks nothing. If so, sending a
    script ahead saves time, and a long script delays all others."""

    @property
    def connections(self) -> Connections:
        """Returns how many connections are open, and how many of them are in use."""

    async def is_read_only(self) -> bool:
        """Returns whether the database answers but takes no writes now."""

    async def play[Result](self, make: Callable[..., Script[Result]], *args: object) -> Result:
        """Runs the script `make(*args)` in its own write transaction, and commits when it returns.

        `make`, its arguments, the result and any error may cross to another process (pickle). The
        script takes one round trip where the back end can: on a busy event loop each round trip
        waits for a turn, while the log's head stays locked.
        """

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Opens a write transaction; it commits at the end of the block, and rolls back on an
        error."""

    async def allow_pruning(self) -> None:
        """Lets this connection replace the texts of archived entries by stubs, if its role may.
        Without it, SQLite refuses that to every connection."""

    async def scrub(self) -> bool:
        """Removes deleted and committed content from every file that the back end keeps next to its
        tables. Returns False if an open snapshot still needs it: a later write then removes it.

        SQLite's write-ahead log contains old pages until it is begun again. Postgres has no such
        file in the service's reach: vacuum removes dead rows, and its WAL is recycled.
        """

    async def close(self) -> None:
        """Closes every connection after its running statement has ended."""
