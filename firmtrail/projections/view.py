"""What a view says of itself, for the code that builds, compares or deletes views."""

from typing import NamedTuple, Protocol


class Table(NamedTuple):
    """A table of a view. Its columns begin with log_id and generation."""

    name: str
    key: tuple[str, ...]
    """The columns that identify a row in one generation: the primary key continues with them."""


class View(Protocol):
    """A module of `projections` that is a view; its functions are its own."""

    NAME: str
    REVISION: int
    """The form of its rows. A change of what the fold writes raises it."""
    TABLES: tuple[Table, ...]


def generation_of(view: str, log_id: str = "$1") -> str:
    """Returns the SQL of a view's live generation, so that a statement reads no other's rows.

    It is a scalar subquery. PostgreSQL before 18 may take a joined `views` after the view's own
    table, and then walks a log's whole index for each row that it wants.
    """
    return f"(SELECT generation FROM views WHERE log_id = {log_id} AND name = '{view}')"
