"""`firmtrail audit verify | replay | export`: an auditor's commands, near a server or far from it.
Nothing here writes to the database.

Exit code 0: all is well. 1: something is wrong, and the output says where. 2: it could not look.
"""

import functools
from pathlib import Path
from urllib.parse import urlsplit

import click

from firmtrail import config
from firmtrail.audit import notes
from firmtrail.audit.finding import Findings
from firmtrail.cli import audit_database, audit_show, audit_tlog, given, loop, output
from firmtrail.cli.numbers import Whole

_file = click.Path(dir_okay=False, path_type=Path)
_folder = click.Path(file_okay=False, path_type=Path)
_project = click.option("--project", help="A project of the database, with all its logs.")
_log = click.option("--log", "number", type=Whole(1), help="This log of the project alone.")
_url = click.option("--url", help="A log: https://HOST/api/v1/projects/P/log, or …/logs/1.")
_token = functools.partial(
    given.token,
    envvar="FIRMTRAIL_TOKEN",
    help="An API token for --url; a URL may carry one itself.",
)
_key = click.option("--key", help="The log's verifier key: its line, or a file of such lines.")


@click.group()
def audit() -> None:
    """Verify, replay and export logs."""


@audit.command()
@click.argument("folder", metavar="[DIR]", type=_folder, required=False)
@_project
@_log
@_url
@_token
@_key
@click.option(
    "--from", "since", type=_file, help="Checkpoints of an earlier audit, to continue from."
)
@click.option("--save", type=_file, help="Keep the checkpoints of what was verified here.")
@output.json_option
@click.pass_obj
@click.pass_context
def verify(
    ctx: click.Context,
    database: config.Database,
    /,
    *,
    folder: Path | None,
    project: str | None,
    number: int | None,
    url: str | None,
    token: str | None,
    key: str | None,
    since: Path | None,
    save: Path | None,
    json: bool,
) -> None:
    """Check a log of a database, of a URL or of an export (DIR) against what was signed of it.

    Every entry is hashed, and the tree and its root are computed again from the hashes. They must
    be what the checkpoint signs, and whatever else is kept of the log must agree with its entries.
    With --from, the log must be a continuation of what that audit saw.
    """
    _check_one_of(project, url, folder)
    findings = Findings()
    if project is not None:
        wanted = audit_database.Wanted(database, project, number)
        work = audit_database.verify(wanted, key, since, findings)
    elif folder is not None:
        work = audit_tlog.verify_folder(folder, key, since, findings)
    else:
        assert url is not None
        _warn_of_credential(ctx, url)
        work = audit_tlog.verify_url(url, token, (key, since), findings)
    looked = loop.run(work)
    if save is not None and not findings.count:
        notes.write(save, [each.note for each in looked if each.note])
    audit_show.show(ctx, looked, findings, json=json)


@audit.command()
@click.option("--project", required=True, help="A project of the database, with all its logs.")
@_log
@output.json_option
@click.pass_obj
@click.pass_context
def replay(
    ctx: click.Context,
    database: config.Database,
    /,
    *,
    project: str,
    number: int | None,
    json: bool,
) -> None:
    """Fold a project's logs from their beginning, and compare every row of every view.

    In a scratch database, in the folder for temporary files; it needs about the space that the
    views have.
    """
    findings = Findings()
    wanted = audit_database.Wanted(database, project, number)
    looked = loop.run(audit_database.replay(wanted, findings))
    audit_show.show(ctx, looked, findings, json=json)


@audit.command()
@click.argument("folder", metavar="DIR", type=_folder)
@_project
@_log
@_url
@_token
@_key
@output.json_option
@click.pass_obj
@click.pass_context
def export(
    ctx: click.Context,
    database: config.Database,
    /,
    *,
    folder: Path,
    project: str | None,
    number: int | None,
    url: str | None,
    token: str | None,
    key: str | None,
    json: bool,
) -> None:
    """Make DIR a copy of a log that any web server serves: checkpoint, tiles, entries, key.

    Everything is verified before it is written. A second export into the same DIR fetches what was
    added, and leaves DIR as it is where the log is no continuation of it. Of a project, DIR is the
    newest log, and DIR/logs holds all; with --log, DIR is that log.
    """
    _check_one_of(project, url)
    findings = Findings()
    if project is not None:
        wanted = audit_database.Wanted(database, project, number)
        looked = loop.run(audit_database.export(wanted, key, folder, findings))
    else:
        if url is None or key is None:
            raise click.UsageError(
                "--url needs --key: the log's verifier key, from somebody whom you trust."
            )
        _warn_of_credential(ctx, url)
        looked = loop.run(audit_tlog.export_url(url, token, (key, folder), findings))
    audit_show.show(ctx, looked, findings, json=json)


def _warn_of_credential(ctx: click.Context, url: str) -> None:
    if urlsplit(url).password:
        given.warn_of_argument(ctx, "url", "--token-file or the variable FIRMTRAIL_TOKEN")


def _check_one_of(*named: object) -> None:
    if sum(each is not None for each in named) != 1:
        raise click.UsageError("Name what to look at: exactly one of --project, --url and DIR.")
