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

type Value = int | str | None
type Row = Sequence[Any]
"""A row of a result: each value an int, a str or None, as its column says."""


class Given(NamedTuple):
    """Rows handed to a statement, which reads them as the relation `given`.

    `columns` names and types them as SQL does: "device text, place bigint". The statement may be
    run for some of the rows after the others, so each row of its result comes from one of them,
    and an ORDER BY puts in order what comes from the same one.
    An INSERT from it ends its SELECT with `WHERE TRUE` (SQLite can't parse ON CONFLICT otherwise).
    A table is joined to it by `given CROSS JOIN table WHERE …`: SQLite knows nothing of the rows'
    number, and takes a CROSS JOIN as the order to go in.
    """

    columns: str
    rows: Sequence[Sequence[Value]]


class Statement(NamedTuple):
    """One SQL text with what it is run on."""

    text: str
    args: tuple[Value, ...] = ()
    given: Given | None = None


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
    """The database can't serve this now; nothing was written. Try again in `retry_after_s`."""

    def __init__(self, reason: str, retry_after_s: int = 2) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Contended(Unavailable):
    """Others locked for too long what this needs. The database itself was there and said so."""


class AppendRefused(Unavailable):
    """The database refused a row at the end of a log: another one is in its place, or a guard of
    the log is."""

    def __init__(self, reason: str, retry_after_s: int = 60) -> None:
        super().__init__(reason, retry_after_s)

    @classmethod
    def because(cls, said: str) -> "AppendRefused":
        """With what the database said, and what to do."""
        return cls(
            f"the log takes no appends, because the database refused a row at its end: {said}. "
            "Run `firmtrail audit verify`, and see docs/operations.md, Rows ahead of the head."
        )


APPENDED = ("events", "subtrees", "texts")
"""The tables whose rows an append adds at the end of a log."""


class ReadOnly(Unavailable):
    """The database takes no writes: it is a standby, or its transactions are read-only."""


class OutcomeUnknown(Unavailable):
    """The connection broke inside COMMIT: it may have happened. Ask again with the same ids."""


class NoSuchTable(Exception):
    """The text names a table that the schema doesn't have: it was never migrated."""


class Transaction(Protocol):
    """One open write transaction."""

    async def run(self, *statements: Statement) -> list[list[Row]]:
        """Run them in order, in one hop where the back end can; the rows of each."""


async def played[Result](tx: Transaction, script: Script[Result]) -> Result:
    """Plays a script in this transaction, and returns its result."""
    steps = Steps(script)
    for statements in steps:
        steps.rows = await tx.run(*statements) if statements else []
    return steps.result


class Reader(Protocol):
    """What answers SELECTs."""

    async def read(self, statement: Statement) -> list[Row]:
        """Run one SELECT; of a `Database`, outside any transaction."""


class Database(Reader, Protocol):
    """A pool of connections to one database, open until `close`."""

    plays_in_turn: bool
    """Whether scripts are played one after another, each waiting for the one before and locking
    nothing: then it is worth sending one ahead, and a long one keeps all others waiting."""

    def moment(self) -> AbstractAsyncContextManager[Reader]:
        """Returns a reader of the database as it is at one moment, until the block is left: for an
        answer that takes several statements.

        The block is short, and reads by nothing else: it has one of few connections, and requests
        that each wait for a second one would wait for ever.
        """

    async def is_read_only(self) -> bool:
        """Returns whether nothing can be written now, though the database answers."""

    def snapshot(self) -> AbstractAsyncContextManager[Reader]:
        """Returns a reader of the database as it is, while others write, until the block is left.

        The log of a database's past can't be cut meanwhile (SQLite's WAL, Postgres's dead rows):
        for commands that read something whole, and never for a request.
        """

    async def play[Result](self, make: Callable[..., Script[Result]], *args: object) -> Result:
        """Play the script `make(*args)` in a write transaction of its own, and commit when it
        returns. Both, the result and what is raised may have to cross to another process (pickle).

        In one hop where the back end can: on a busy event loop each way back waits for a turn,
        and the log's head is held all the while.
        """

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a write transaction; commits on leaving the block, rolls back on an error."""

    async def scrub(self) -> bool:
        """Take what was deleted and committed out of every file that the back end keeps next to its
        tables. False: a snapshot that somebody reads still needs it, so it goes with a later write.

        SQLite's write-ahead log holds old pages until it is begun again. Postgres has no such file
        in the service's reach: its vacuum takes dead rows away, and its WAL is recycled.
        """

    async def close(self) -> None:
        """Close every connection; running statements end first."""
