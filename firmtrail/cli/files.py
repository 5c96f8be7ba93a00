"""Reads the files that options of commands name: plans, and settings of a project."""

from pathlib import Path
from typing import Any

import click
import msgspec

STRUCTURE_BYTES_MAX = 64 * 1024

existing = click.Path(exists=True, dir_okay=False, path_type=Path)
"""The type of an option that names a file."""


def structure(path: Path) -> Any:
    """Returns what a file says in JSON or YAML. Raises `UsageError` if it is neither, or too long.
    The server checks the content."""
    if path.stat().st_size > STRUCTURE_BYTES_MAX:
        raise click.UsageError(f"{path} is longer than {STRUCTURE_BYTES_MAX // 1024} KiB.")
    is_json = path.suffix == ".json"
    decode = msgspec.json.decode if is_json else msgspec.yaml.decode
    try:
        return decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        kind = "JSON" if is_json else "YAML"
        raise click.UsageError(f"{path} is not {kind}: {error}") from error
