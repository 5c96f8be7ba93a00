"""Defines options that more than one command takes, and reads their texts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, override

import click

from firmtrail import config
from firmtrail.cli import credentials


class Setting[T](click.ParamType[T]):
    """Converts an option's text with a function of config.py; a default is not converted."""

    def __init__(self, name: str, read: Callable[[str], T]) -> None:
        self.name = name
        self._read = read

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        if not isinstance(value, str):
            return cast("T", value)
        try:
            return self._read(value)
        except config.BadSetting as error:
            self.fail(str(error), param, ctx)


class DatabaseUrlType(click.ParamType[config.DatabaseUrl]):
    """Converts the URL of a database."""

    name = "url"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> config.DatabaseUrl:
        try:
            return config.database(value)
        except config.BadSetting as error:
            if "://" in str(value) or not value:
                shown = re.sub(r"(//[^:/@]*):[^@]*@", r"\1@", value).partition("?")[0]
                self.fail(f"{shown!r} can't be used: {error}.", param, ctx)
            self.fail(f"{value!r} is not a URL: for a file, write sqlite:///{value}", param, ctx)


LOCATION = Setting("location", config.storage_location)
"""A path or s3://BUCKET/PREFIX."""
NETWORKS = Setting("cidr,…", config.networks)
PROTOCOLS = Setting("name,…", config.protocols)


READ_DATABASE = Setting("url", config.read_database)

read_database_option = click.option(
    "--read-database",
    type=READ_DATABASE,
    envvar="FIRMTRAIL_SERVE_READ_DATABASE",
    help="A streaming standby of the Postgres that --database names. It answers reads of the log, "
    "lists and pages, once it has everything that was committed before; otherwise the database "
    "does.",
)


artifacts_option = click.option(
    "--artifacts",
    type=LOCATION,
    envvar="FIRMTRAIL_SERVE_ARTIFACTS",
    help="Where artifacts are stored: a folder or s3://BUCKET/PREFIX. Without it, in "
    "FILE.artifacts next to an embedded database.",
)
"""A command that serves in its own process reads the server's variable too."""

archive_option = click.option(
    "--archive",
    type=LOCATION,
    envvar="FIRMTRAIL_SERVE_ARCHIVE",
    help="Copy the logs to this folder or s3://BUCKET/PREFIX, from which third parties can read "
    "and audit them. Free texts are left out.",
)

read_archive_option = click.option(
    "--archive",
    type=LOCATION,
    envvar="FIRMTRAIL_SERVE_ARCHIVE",
    help="The archive of the servers, a folder or s3://BUCKET/PREFIX: check that it can be "
    "written, and that the newest pruned entries can be read there.",
)


def check_read_database(serving: config.Serving) -> None:
    """Raises `UsageError` for a standby of a file. Warns of a password on the command line."""
    if serving.read_database is None:
        return
    if serving.database.has_one_writer:
        raise click.UsageError("--read-database is a standby of a Postgres: a file has none.")
    if serving.read_database.has_password:
        credentials.warn_of_argument(
            click.get_current_context(),
            "read_database",
            "the variable FIRMTRAIL_SERVE_READ_DATABASE or PGPASSFILE",
        )


def one_location(
    file: Path | None, location: config.StorageLocation | None
) -> config.StorageLocation | None:
    """Returns the location of checkpoints that --checkpoints-file or --checkpoints names."""
    if file is not None and location is not None and file != location:
        raise click.UsageError(
            "--checkpoints and --checkpoints-file name two locations: give only one of them."
        )
    return location or file
