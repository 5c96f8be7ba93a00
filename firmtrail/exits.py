"""Ends a command that could not do its work."""

import signal
from typing import IO, Any, override

import click


class CouldNotRun(click.ClickException):
    """Ends the command with the message and exit code 2."""

    exit_code = 2


class Interrupted(click.ClickException):
    """Ends a command after Ctrl-C, with the exit code of a program that SIGINT ends."""

    exit_code = 128 + signal.SIGINT

    def __init__(self) -> None:
        super().__init__("Interrupted.")

    @override
    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, err=True)
