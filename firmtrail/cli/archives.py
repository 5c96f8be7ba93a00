"""Gives an opened database the archive in which entries are that were pruned from it."""

from firmtrail import config
from firmtrail.database.database import Database


def connect(db: Database, location: config.StorageLocation | None) -> None:
    """Lets the database read pruned entries at a location, if there is one. Nothing is read yet."""
    if location is None:
        return
    from firmtrail.archive.entries import ArchivedEntries  # noqa: PLC0415 (its libraries are large)
    from firmtrail.archive.stores import store_at  # noqa: PLC0415

    db.archive = ArchivedEntries(db, store_at(location))
