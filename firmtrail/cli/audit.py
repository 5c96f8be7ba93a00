"""`firmtrail audit verify | replay | export`: audits logs, on the server's machine or another one.

Nothing here writes to the database. Exit code 0: no fault was found. 1: something is wrong, and the
output says where. 2: the audit could not run.
"""

import functools
from pathlib import Path
from urllib.parse import urlsplit

import click

from firmtrail import config
from firmtrail.audit import notes
from firmtrail.audit.finding import Findings
from firmtrail.cli import audit_database, audit_show, audit_tlog, credentials, loop, output
from firmtrail.cli.numbers import Whole
from firmtrail.cli.settings import LOCATION

_file = click.Path(dir_okay=False, path_type=Path)
_folder = click.Path(file_okay=False, path_type=Path)
_project = click.option("--project", help="A project of the database, with all its logs.")
_log = click.option("--log", "number", type=Whole(1), help="Only this log of the project.")
_url = click.option("--url", help="A log: https://HOST/api/v1/projects/P/log, or …/logs/1.")
_token = functools.partial(
    credentials.token_options,
    envvar="FIRMTRAIL_TOKEN",
    help="An API token for --url. The URL may contain one instead.",
)
_key = click.option("--key", help="The log's verifier key: a line, or a file of such lines.")


@click.group()
def audit() -> None:
    """Verify, replay and export logs."""


@audit.command()
@click.argument("location", metavar="[DIR]", type=LOCATION, required=False)
@_project
@_log
@_url
@_token
@_key
@click.option(
    "--from", "since", type=_file, help="The file of checkpoints that an earlier audit saved."
)
@click.option("--save", type=_file, help="Save the checkpoints of the verified logs to this file.")
@output.json_option
@click.pass_obj
@click.pass_context
def verify(
    ctx: click.Context,
    database: config.DatabaseUrl,
    /,
    *,
    location: config.StorageLocation | None,
    project: str | None,
    number: int | None,
    url: str | None,
    token: str | None,
    key: str | None,
    since: Path | None,
    save: Path | None,
    json: bool,
) -> None:
    """Verify a log of a database, of a URL or of a copy (DIR) against its signed checkpoints.

    DIR is what `audit export` or `serve --archive` wrote: for an archive, the folder of a project
    in it, or s3://BUCKET/PREFIX/PROJECT.

    Every entry is hashed, and the tree and its root are computed again from the hashes. They must
    be what the checkpoint signs, and everything else that is stored about the log must agree with
    its entries. With --from, the log must continue the log that the earlier audit saw.
    """
    _check_one_of(project, url, location)
    findings = Findings()
    if project is not None:
        scope = audit_database.AuditScope(database, project, number)
        work = audit_database.verify(scope, key, since, findings)
    elif location is not None:
        work = audit_tlog.verify_copy(location, key, since, findings)
    else:
        assert url is not None
        _warn_of_credential(ctx, url)
        work = audit_tlog.verify_url(url, token, (key, since), findings)
    audited = loop.run(work)
    if save is not None and not findings.count:
        notes.write(save, [each.note for each in audited if each.note])
    audit_show.show(ctx, audited, findings, json=json)


@audit.command()
@click.option("--project", required=True, help="A project of the database, with all its logs.")
@_log
@output.json_option
@click.pass_obj
@click.pass_context
def replay(
    ctx: click.Context,
    database: config.DatabaseUrl,
    /,
    *,
    project: str,
    number: int | None,
    json: bool,
) -> None:
    """Build a project's views again from its logs, and compare every row of every view.

    The views are built in a scratch database in the folder for temporary files, which needs about
    as much space as the views.
    """
    findings = Findings()
    scope = audit_database.AuditScope(database, project, number)
    audited = loop.run(audit_database.replay(scope, findings))
    audit_show.show(ctx, audited, findings, json=json)


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
    database: config.DatabaseUrl,
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
    """Copy a log into DIR, in a form that any web server can serve: checkpoint, tiles, entries,
    key.

    Everything is verified before it is written. A second export into the same DIR adds the new
    entries; if the log does not continue the exported one, DIR stays as it is. For a project, DIR
    contains its newest log, and DIR/logs all of its logs; with --log, DIR contains that log.
    """
    _check_one_of(project, url)
    findings = Findings()
    if project is not None:
        scope = audit_database.AuditScope(database, project, number)
        audited = loop.run(audit_database.export(scope, key, folder, findings))
    else:
        if url is None or key is None:
            raise click.UsageError(
                "--url needs --key: the log's verifier key, from somebody you trust."
            )
        _warn_of_credential(ctx, url)
        audited = loop.run(audit_tlog.export_url(url, token, (key, folder), findings))
    audit_show.show(ctx, audited, findings, json=json)


def _warn_of_credential(ctx: click.Context, url: str) -> None:
    if urlsplit(url).password:
        credentials.warn_of_argument(ctx, "url", "--token-file or the variable FIRMTRAIL_TOKEN")


def _check_one_of(*named: object) -> None:
    if sum(each is not None for each in named) != 1:
        raise click.UsageError("Name the log to audit: exactly one of --project, --url and DIR.")
