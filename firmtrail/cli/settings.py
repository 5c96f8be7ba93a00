"""Options that more than one command takes, and how their texts are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, override

import click

from firmtrail import config


class Setting[T](click.ParamType[T]):
    """An option whose text a function of config.py reads; a default is not read."""

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


PLACE = Setting("place", config.place)
"""A path or s3://BUCKET/PREFIX."""
NETWORKS = Setting("cidr,…", config.networks)


artifacts_option = click.option(
    "--artifacts",
    type=PLACE,
    envvar="FIRMTRAIL_SERVE_ARTIFACTS",
    help="Where artifacts lie: a folder or s3://BUCKET/PREFIX. Without it, in FILE.artifacts "
    "next to an embedded database.",
)
"""A command that serves in its own process takes the server's variable too."""


def one_place(file: Path | None, place: config.Place | None) -> config.Place | None:
    """Return the place of checkpoints that --checkpoints-file or --checkpoints names."""
    if file is not None and place is not None and file != place:
        raise click.UsageError("--checkpoints and --checkpoints-file name two places: give one.")
    return place or file
