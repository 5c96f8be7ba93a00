"""The command `firmtrail`: which commands there are, and where their settings come from.

Options come from the command line, else from the environment (FIRMTRAIL_…); nothing else in the
package reads it. A command's module is imported when it is run, so help is quick.
"""

import errno
import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, override

import click

from firmtrail import __version__, config
from firmtrail.eventstore.database import Unavailable

COMMANDS = {  # name -> where it is defined, and what it does
    "serve": ("serve:serve", "Serve the API."),
    "migrate": ("migrate:migrate", "Bring the database to this version's schema."),
    "doctor": ("doctor:doctor", "Check what the service stands on."),
    "rebuild": ("rebuild:rebuild", "Build views anew from the log, while the old ones serve."),
    "project": ("access:project", "Add projects."),
    "user": ("access:user", "Add members, set passwords, erase people."),
    "log": ("log:log", "Go on where a log was lost."),
    "token": ("access:token", "Create API tokens."),
    "backup": ("backup:backup", "Copy the database, while servers run."),
    "audit": ("audit:audit", "Verify, replay and export logs."),
    "device": ("device_reads:device", "Register devices, one or a file of them; show one."),
    "rollout": ("rollouts:rollout", "Send devices to a release, step by step."),
    "rollback": ("rollouts:rollback", "Send devices back from a bad version."),
    "ask": ("rollouts:ask", "Ask a device which version it runs."),
    "release": ("releases:release", "Add, list and withdraw versions for devices."),
    "simulate": ("simulate:simulate", "Play a fleet against a server, and check what it recorded."),
}


class CouldNotRun(click.ClickException):
    """The command ends with the message and exit code 2."""

    exit_code = 2


class Commands(click.Group):
    """Finds commands by COMMANDS, and turns what the environment refuses into exit code 2."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(f"firmtrail.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (OSError, Unavailable) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            raise CouldNotRun(str(error) or type(error).__name__) from error


def share_metrics(folder: str) -> None:
    """Let all processes of a server count together, in files in this folder.

    prometheus_client looks at the environment when it is imported: call this before.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder


def environment(**more: str) -> dict[str, str]:
    """What a program that we start gets: ours, and `more`."""
    return os.environ | more


class DatabaseUrl(click.ParamType[config.Database]):
    name = "url"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> config.Database:
        try:
            return config.database(value)
        except config.BadSetting as error:
            self.fail(str(error), param, ctx)


@click.group(
    cls=Commands,
    context_settings={"auto_envvar_prefix": "FIRMTRAIL", "show_default": True},
    epilog="Every option is also an environment variable: FIRMTRAIL_DATABASE, "
    "FIRMTRAIL_SERVE_PORT, … Exit codes: 0 done, 1 found wrong, 2 could not run.",
)
@click.option(
    "--database",
    type=DatabaseUrl(),
    default="sqlite:///firmtrail.db",
    show_envvar=True,
    help="sqlite:///FILE (embedded, one server) or postgresql://USER@HOST/DATABASE.",
)
@click.option(
    "--pooler",
    type=click.Choice(["session", "transaction"]),
    default="session",
    show_envvar=True,
    help="What a pooler in front of Postgres (PgBouncer) pools; session also without one.",
)
@click.option(
    "--signing-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    show_envvar=True,
    help="The Ed25519 key that signs checkpoints, as PEM; embedded: FILE.key, made by serve.",
)
@click.option(
    "--checkpoints-file",
    type=click.Path(dir_okay=False, path_type=Path),
    show_envvar=True,
    help="The last published checkpoints, shared by all servers; embedded: FILE.checkpoints.",
)
@click.version_option(__version__, prog_name="firmtrail")
@click.pass_context
def main(
    ctx: click.Context,
    /,
    *,
    database: config.Database,
    pooler: Literal["session", "transaction"],
    signing_key_file: Path | None,
    checkpoints_file: Path | None,
) -> None:
    """Record what every device of a fleet runs, ran and should run, and prove it."""
    if isinstance(database, config.Cluster):
        database = replace(database, pooler=pooler)
    ctx.obj = config.signed(database, signing_key_file, checkpoints_file)
