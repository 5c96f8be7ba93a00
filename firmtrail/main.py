"""Defines the command `firmtrail`: its subcommands and the options before them.

Options come from the command line, or else from the environment (FIRMTRAIL_…); nothing else in the
package reads them. A command's module is imported when the command runs, so help is quick.
"""

import errno
from pathlib import Path
from typing import Any, get_args, override

import click

from firmtrail import __version__, config, environment
from firmtrail.cli import credentials, variables
from firmtrail.cli.settings import LOCATION, DatabaseUrlType, one_location
from firmtrail.database import collector
from firmtrail.database.database import NotAllowed, Unavailable
from firmtrail.exits import CouldNotRun, Interrupted

COMMANDS = {  # name -> where it is defined, and what it does
    "serve": ("serve:serve", "Serve the API."),
    "migrate": ("migrate:migrate", "Migrate the database to this version's schema."),
    "doctor": ("doctor:doctor", "Check what the service depends on."),
    "rebuild": ("rebuild:rebuild", "Build views again from the log, while the old ones are used."),
    "project": ("projects:project", "Add, list, show and move projects."),
    "user": ("members:user", "Add, list and remove members, set passwords, erase people."),
    "token": ("tokens:token", "Create, list and revoke API tokens."),
    "login": ("tokens:login", "List and end logins."),
    "logout": ("tokens:logout", "End the login of --token."),
    "console": ("console:console", "Open the console in a browser, signed in."),
    "log": (
        "log:log",
        "Make a project whose log takes no appends writable again; trim its access record.",
    ),
    "archive": ("archive:archive", "Prune from the database what the archive has."),
    "backup": ("backup:backup", "Copy the database, also while servers run."),
    "audit": ("audit:audit", "Verify, replay and export logs."),
    "device": ("device_orders:device", "Register, list, show and change devices."),
    "versions": ("versions:versions", "Count the devices that run each version."),
    "release": ("releases:release", "Add, list and withdraw versions for devices."),
    "rollout": ("rollout_plans:rollout", "Send devices to a release, step by step."),
    "rollback": ("rollouts:rollback", "Send devices back from a bad version."),
    "halt": ("halts:halt", "Stop all offers in a project."),
    "resume": ("halts:resume", "End a project's halt."),
    "ask": ("asks:ask", "Ask a device which version it runs."),
    "webhook": ("webhooks:webhook", "Send events to receivers."),
    "asks": ("asks:asks", "List the questions to a device."),
    "simulate": (
        "simulate:simulate",
        "Simulate a fleet against a server, and check what it recorded.",
    ),
}


def _reason(error: OSError | Unavailable) -> str:
    """Returns what the system refused, and for which file."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}."
    return str(error) or type(error).__name__


class Commands(click.Group):
    """Finds commands in COMMANDS, and turns errors of the environment into exit code 2."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(collector.imported(f"firmtrail.cli.{module}"), name)
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
        except KeyboardInterrupt as error:
            raise Interrupted from error
        except (OSError, Unavailable) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            raise CouldNotRun(_reason(error)) from error
        except NotAllowed as error:
            raise CouldNotRun(
                f"The role of --database may not do that ({error}). Give the role that serves, or "
                "the owner of the tables: that of auditors is enough for `firmtrail audit` only."
            ) from error


@click.group(
    cls=Commands,
    context_settings={"auto_envvar_prefix": "FIRMTRAIL", "show_default": True},
    epilog="Every option is also an environment variable: FIRMTRAIL_DATABASE, "
    "FIRMTRAIL_SERVE_PORT, … Exit codes: 0 done, 1 found something wrong, 2 could not run, "
    "130 interrupted.",
)
@click.option(
    "--database",
    type=DatabaseUrlType(),
    default="sqlite:///firmtrail.db",
    show_envvar=True,
    help="sqlite:///FILE (embedded, one server) or postgresql://USER@HOST/DATABASE.",
)
@click.option(
    "--pooler",
    type=click.Choice(get_args(config.Pooling.__value__)),
    default="session",
    show_envvar=True,
    help="Set this to transaction if a pooler in front of Postgres (PgBouncer) pools transactions.",
)
@click.option(
    "--signing-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    show_envvar=True,
    help="The Ed25519 key that signs checkpoints, as PEM. For an embedded database FILE.key, which "
    "`firmtrail serve` creates.",
)
@click.option(
    "--checkpoints-file",
    type=click.Path(dir_okay=False, path_type=Path),
    show_envvar=True,
    help="The file of the last published checkpoints, which all servers share. For an embedded "
    "database FILE.checkpoints.",
)
@click.option(
    "--checkpoints",
    type=LOCATION,
    show_envvar=True,
    help="The same as --checkpoints-file; it also accepts s3://BUCKET/PREFIX.",
)
@click.option(
    "--archive",
    type=LOCATION,
    envvar=["FIRMTRAIL_ARCHIVE", "FIRMTRAIL_SERVE_ARCHIVE"],
    show_envvar=True,
    help="The folder or s3://BUCKET/PREFIX that `firmtrail serve --archive` writes. Entries that "
    "were pruned from the database are read there.",
)
@click.version_option(__version__, prog_name="firmtrail")
@click.pass_context
def main(
    ctx: click.Context,
    /,
    *,
    database: config.DatabaseUrl,
    pooler: config.Pooling,
    signing_key_file: Path | None,
    checkpoints_file: Path | None,
    checkpoints: config.StorageLocation | None,
    archive: config.StorageLocation | None,
) -> None:
    """Record what every device of a fleet runs, ran and should run, and prove it."""
    variables.warn(
        ctx, COMMANDS, [name for name in environment.of_process() if name.startswith("FIRMTRAIL_")]
    )
    if database.has_password:
        credentials.warn_of_argument(
            ctx, "database", "the variable FIRMTRAIL_DATABASE or PGPASSFILE"
        )
    location = one_location(checkpoints_file, checkpoints)
    signed = config.signed(database.pooled(pooler), signing_key_file, location)
    ctx.obj = config.archived(signed, archive)
