"""Reads secrets and tokens for a command: from a file, standard input or the environment.

Every user of the machine can read a command line while the command runs, so a secret that is given
as an argument works, with a warning.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

_TOKEN_FILE = click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="A file whose first line is the token; - is standard input.",
)


def token_options[Command: Callable[..., Any]](
    command: Command,
    *,
    envvar: str,
    help: str,  # noqa: A002 (as click names it)
) -> Command:
    """Adds --token and --token-file; the command gets `token`, None if neither is given."""

    @functools.wraps(command)
    def wrapped(*args: Any, token: str | None, token_file: Path | None, **options: Any) -> Any:
        ctx = click.get_current_context()
        warn_of_argument(ctx, "token", "--token-file or the variable FIRMTRAIL_TOKEN")
        if token_file is not None:
            token = _first_line(token_file, "--token-file")
        return command(*args, token=token, **options)

    add = click.option("--token", envvar=envvar, help=help)
    return add(_TOKEN_FILE(wrapped))  # type: ignore[return-value] # click calls it


def secret_options[Command: Callable[..., Any]](command: Command) -> Command:
    """Adds --secret and --secret-stdin; the command gets `secret`, None if neither is given."""

    @functools.wraps(command)
    def wrapped(*args: Any, secret: str | None, secret_stdin: bool, **options: Any) -> Any:
        warn_of_argument(click.get_current_context(), "secret", "--secret-stdin")
        if secret_stdin:
            secret = line_of_stdin("--secret-stdin")
        return command(*args, secret=secret, **options)

    argument = click.option(
        "--secret", help="A secret that the device already has. Without one, Firmtrail makes one."
    )
    stdin = click.option(
        "--secret-stdin", is_flag=True, help="Read the secret from a line of standard input."
    )
    return argument(stdin(wrapped))  # type: ignore[return-value] # click calls it


def line_of_stdin(option: str) -> str:
    """Returns the line of standard input that an option asks for."""
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise click.UsageError(f"{option}: standard input is empty.")
    return line


def warn_of_argument(ctx: click.Context, name: str, instead: str) -> None:
    """Warns if the value of this parameter is on the command line."""
    if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        option = f"--{name.replace('_', '-')}"
        click.echo(
            f"Warning: other users of this machine can read the secret in {option}: "
            f"use {instead} instead.",
            err=True,
        )


def _first_line(file: Path, option: str) -> str:
    if str(file) == "-":
        return line_of_stdin(option)
    with file.open(encoding="utf-8") as lines:
        line = lines.readline().strip()
    if not line:
        raise click.UsageError(f"{option}: {file} is empty.")
    return line
