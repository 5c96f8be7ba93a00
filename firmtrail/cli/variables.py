"""Finds misspelt environment variables: names that begin with FIRMTRAIL_ and that no option
reads."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

PREFIX = "FIRMTRAIL"

_FOREIGN = re.compile(r"FIRMTRAIL_(TEST_.*|PORT|PORT_\d.*|SERVICE_.*)")
"""Variables of Firmtrail's tests, and those that Kubernetes sets for a service named firmtrail."""


def warn(ctx: click.Context, commands: Mapping[str, Any], names: Sequence[str]) -> None:
    """Warns of every name that no option reads, and suggests the closest name that one does read.
    Modules of commands are imported only if a name could belong to them."""
    group = ctx.command
    own = set(_of_options(group, PREFIX))
    unknown = [name for name in names if name not in own and not _FOREIGN.fullmatch(name)]
    for name in unknown:
        if name not in _of_commands(ctx, _possible(commands, name)):
            known = sorted(own | _of_commands(ctx, list(commands)))
            closest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            hint = f" Did you mean {closest[0]}?" if closest else ""
            text = f"Warning: no option reads the variable {name}, so it is ignored.{hint}"
            click.echo(text, err=True)


def _possible(commands: Mapping[str, Any], name: str) -> list[str]:
    """Returns the commands that a variable can belong to; some share variables with short names."""
    first = name.removeprefix(f"{PREFIX}_").partition("_")[0].lower()
    return [first] if first in commands else ["device", "audit", "serve"]


def _of_commands(ctx: click.Context, names: Sequence[str]) -> set[str]:
    group = ctx.command
    assert isinstance(group, click.Group)
    found: set[str] = set()
    for name in names:
        command = group.get_command(ctx, name)
        assert command is not None
        found.update(_of_command(ctx, command, f"{PREFIX}_{_upper(name)}"))
    return found


def _of_command(ctx: click.Context, command: click.Command, prefix: str) -> Iterator[str]:
    yield from _of_options(command, prefix)
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _of_command(ctx, inner, f"{prefix}_{_upper(name)}")


def _of_options(command: click.Command, prefix: str) -> Iterator[str]:
    for each in command.params:
        if isinstance(each, click.Option):
            yield f"{prefix}_{_upper(each.name or '')}"
            yield from [each.envvar] if isinstance(each.envvar, str) else each.envvar or ()


def _upper(name: str) -> str:
    return name.replace("-", "_").upper()
