"""Verifies, replays and exports a project's logs in a database."""

from collections.abc import Awaitable
from pathlib import Path
from typing import NamedTuple

from firmtrail import config
from firmtrail.audit import access, access_record, continued, logs, project, rows
from firmtrail.audit import replay as replaying
from firmtrail.audit.export import log_folder, show_newest
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.audit.project import Trusted
from firmtrail.audit.source import DatabaseSource, SignedNote
from firmtrail.cli import audit_inputs, audit_show, audit_tlog
from firmtrail.cli.audit_show import AuditSummary, NewBar
from firmtrail.database.database import Database
from firmtrail.exits import CouldNotRun
from firmtrail.publishing import published
from firmtrail.publishing.checkpoint import key_line, verify_note
from firmtrail.schema import migrations

SIZE_MAX = (1 << 63) - 1


class AuditScope(NamedTuple):
    """Names the logs to audit."""

    database: config.DatabaseUrl
    project: str
    number: int | None
    """One log; None: all of the project's."""


async def verify(
    scope: AuditScope, key: str | None, since: Path | None, findings: Findings
) -> list[AuditSummary]:
    trusted = await audit_inputs.trusted(scope.database, key, since)
    audited = []
    async with audit_inputs.opened_to_read(scope.database) as db:
        found = await _logs(db, scope, findings)
        await project.find_missing_logs(db, found, trusted, findings)
        trusted = trusted._replace(continuations=await continued.check(found, findings))
        with audit_show.progress_bars() as new_bar:
            for log in _chosen(found, scope):
                audited += await _audited(log, findings, _verified(log, trusted, findings, new_bar))
        if scope.number is None:
            name = f"{await migrations.instance(db)}/{scope.project}"
            await access_record.verify(name, scope.project, found, findings)
    return audited


async def _audited(
    log: AuditedLog, findings: Findings, audit: Awaitable[AuditSummary]
) -> list[AuditSummary]:
    """Returns the audited log with its number of findings, or nothing if its head is unsound."""
    before = findings.count
    try:
        audited = await audit
    except rows.Unsound as error:
        findings.add(log.name, "log_heads", str(error))
        return []
    return [audited._replace(found=findings.count - before)]


async def _verified(
    log: AuditedLog, trusted: Trusted, findings: Findings, new_bar: NewBar
) -> AuditSummary:
    total = (await rows.head(log.db, log.log_id)).size
    edge = await project.verify(log, trusted, findings, new_bar(log.name, total))
    note = await _last_note(log, edge.size)
    return AuditSummary(log.name, edge.size, edge.root().hex(), 0, note)


async def _replayed(log: AuditedLog, findings: Findings, new_bar: NewBar) -> AuditSummary:
    total = (await rows.head(log.db, log.log_id)).size
    size = await replaying.replay(log, findings, new_bar(log.name, total))
    return AuditSummary(log.name, size, None, 0)


async def _logs(db: Database, scope: AuditScope, findings: Findings) -> list[AuditedLog]:
    instance = await migrations.instance(db)
    found = await logs.of_project(db, instance, scope.project, findings)
    if not found and not findings.count:
        raise CouldNotRun(
            f"There is no project {scope.project}: `firmtrail project list` lists the projects."
        )
    return found


def _chosen(found: list[AuditedLog], scope: AuditScope) -> list[AuditedLog]:
    chosen = [log for log in found if scope.number in {None, log.number}]
    if not chosen and scope.number is not None:
        raise CouldNotRun(
            f"Project {scope.project} has no log {scope.number}: leave --log out to audit all of "
            "its logs."
        )
    return chosen


async def _last_note(log: AuditedLog, size: int = SIZE_MAX - 1) -> str | None:
    """Returns the last checkpoint of a log in the database, up to this size."""
    page = await published.page(log.db, log.log_id, below=size + 1, limit=1)
    return page[0].note if page else None


async def replay(scope: AuditScope, findings: Findings) -> list[AuditSummary]:
    audited = []
    async with audit_inputs.opened_to_read(scope.database) as db:
        found = await _logs(db, scope, findings)
        await continued.check(found, findings)
        if findings.count:  # it is not certain which events to fold
            return []
        with audit_show.progress_bars() as new_bar:
            for log in _chosen(found, scope):
                if log.has_views:
                    audited += await _audited(log, findings, _replayed(log, findings, new_bar))
        if scope.number is None:
            name = f"{await migrations.instance(db)}/{scope.project}"
            await access.replay(name, scope.project, found, findings)
    return audited


async def export(
    scope: AuditScope, key: str | None, folder: Path, findings: Findings
) -> list[AuditSummary]:
    """Exports all of the project's logs below `folder`, which itself becomes the newest of them; or
    only the log that `scope` names."""
    keys = audit_inputs.keys(scope.database, key)
    audited = []
    async with audit_inputs.opened_to_read(scope.database) as db:
        chosen = _chosen(await _logs(db, scope, findings), scope)
        with audit_show.progress_bars() as new_bar:
            for log in chosen:
                verifier, note = keys(log), await _last_note(log)
                if verifier is None:
                    raise CouldNotRun(
                        f"The key of {log.name} is unknown: give its verifier key with --key."
                    )
                if note is None:
                    raise CouldNotRun(
                        f"No checkpoint of {log.name} is published yet: start a server with a "
                        "signing key, which publishes one within a second."
                    )
                what = SignedNote(note, key_line(verifier), verify_note(note, verifier))
                source = DatabaseSource(db, log.log_id, note=note, key=what.key)
                into = folder if scope.number else log_folder(folder, log.number)
                audited.append(
                    await audit_tlog.export_into(into, source, what, findings, new_bar=new_bar)
                )
    if not scope.number and chosen and not findings.count:
        show_newest(folder, chosen[-1].number)
    return audited
