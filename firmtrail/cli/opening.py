"""Finds out why a database can't be opened, before its library says it in its own words."""

import os
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from firmtrail import config
from firmtrail.eventstore.database import Unavailable

_DRIVERS_WORDS = re.compile(r"^\w+(Error|Exception): |\[Errno -?\d+\] ")
"""The name of an error's class, and its number: what a person does not need."""


def unwritable(path: Path) -> str:
    """Say why this process can't write the database file; "" where it can."""
    path = path.absolute()
    folder = path.parent
    if not folder.is_dir():
        return (
            f"The folder {folder} of the database does not exist: create it, or name another "
            "database with --database."
        )
    if path.is_dir():
        return f"{path} is a folder, and no database: name a file with --database."
    if path.exists() and not os.access(path, os.W_OK):
        return (
            f"This user can't write to the database {path}: run the command as the file's owner, "
            "or change its mode."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        return (
            f"This user can't write to the folder {folder}, where the database's lock and log "
            "belong: change its mode, or name another database with --database."
        )
    return ""


def away(database: config.Cluster, error: Unavailable) -> str:
    """Say which Postgres can't be used; the password is left out."""
    parts = urlsplit(database.url)
    hosts = parse_qs(parts.query).get("host", [])
    where = f"{database} of host {hosts[0]}" if hosts else str(database)
    said = _DRIVERS_WORDS.sub("", str(error)).rstrip(".")
    return (
        f"The database {where} can't be used ({said}): check that Postgres runs there, and that "
        "--database names the right host, database and user."
    )
