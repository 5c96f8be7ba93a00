"""Options that more than one command takes, and how their texts are read."""

from pathlib import Path
from typing import Any, override

import click

from firmtrail import config


class PlaceType(click.ParamType[config.Place]):
    """A path or s3://BUCKET/PREFIX."""

    name = "place"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> config.Place:
        try:
            return config.place(value)
        except config.BadSetting as error:
            self.fail(str(error), param, ctx)


artifacts_option = click.option(
    "--artifacts",
    type=PlaceType(),
    envvar="FIRMTRAIL_SERVE_ARTIFACTS",
    help="Where artifacts lie: a folder or s3://BUCKET/PREFIX. Without it, in FILE.artifacts "
    "next to an embedded database.",
)
"""A command that serves in its own process takes the server's variable too."""


def one_place(file: Path | None, place: config.Place | None) -> config.Place | None:
    """The place of checkpoints that --checkpoints-file or --checkpoints names."""
    if file is not None and place is not None and file != place:
        raise click.UsageError("--checkpoints and --checkpoints-file name two places: give one.")
    return place or file
