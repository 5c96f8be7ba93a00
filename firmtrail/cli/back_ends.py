"""Finds what can be done with the database that --database names.

A new kind of database needs settings like those of config.Cluster, a driver in `database/`, a file
of SQL that makes its schema, a module like cluster.py, and a row in `_BACK_ENDS`. Plain facts about
a kind of database (whether it has roles, where its socket is) are attributes of its settings.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from firmtrail import config
from firmtrail.cli.checks import Check
from firmtrail.cli.embedded import EmbeddedBackEnd
from firmtrail.database.database import Database
from firmtrail.database.migrating import Migrating


class Shared(Protocol):
    """Opens one database in each of several processes that are forked from the first one."""

    def opened(self) -> AbstractAsyncContextManager[Database]:
        """Connects. Raises as `BackEnd.opened` does."""

    def keep_running(self) -> None:
        """Starts again what the processes need and has ended; the first process calls it all the
        time."""


class BackEnd(Protocol):
    """Opens, copies and checks one database."""

    def missing_file(self) -> Path | None:
        """Returns the path of a database file that does not exist; None if there is one to open."""

    def opened(self, *, apart: Sequence[str] = ()) -> AbstractAsyncContextManager[Database]:
        """Connects, and locks a file for writing until the end. `apart` is as in `SQLite.open`.
        Raises `CouldNotRun` with a reason, `Locked` or `Unavailable`."""

    def shared(self, apart: Sequence[str]) -> AbstractContextManager[Shared]:
        """Locks a file until the end, and provides what opens the database in each process of a
        server. Raises as `opened` does."""

    def opened_to_read(self) -> AbstractAsyncContextManager[Database]:
        """Connects next to any process that has the database open. Raises `CouldNotRun`,
        `Unavailable`."""

    def migrating(self) -> Migrating:
        """Returns how a migration changes the database."""

    def copy(self, target: Path) -> None:
        """Writes the database at one moment to a new file. Raises `CouldNotRun`, `Unavailable`."""

    async def checks_before_opening(self) -> list[Check]:
        """Returns what `firmtrail doctor` checks around the database."""

    async def checks_of(self, db: Database) -> list[Check]:
        """Returns what `firmtrail doctor` checks in this kind of database only."""


def _cluster(database: config.Cluster) -> BackEnd:
    from firmtrail.cli.cluster import ClusterBackEnd  # noqa: PLC0415 (a file needs no driver)

    return ClusterBackEnd(database)


_BACK_ENDS: dict[type[config.DatabaseUrl], Callable[[Any], BackEnd]] = {
    config.Embedded: EmbeddedBackEnd,
    config.Cluster: _cluster,
}


def back_end(database: config.DatabaseUrl) -> BackEnd:
    return _BACK_ENDS[type(database)](database)
