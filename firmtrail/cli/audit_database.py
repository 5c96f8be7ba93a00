"""How a project's logs of a database are verified, replayed and exported."""

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
from firmtrail.cli import audit_open, audit_show, audit_tlog
from firmtrail.cli.audit_show import Bars, Looked
from firmtrail.database.database import Database
from firmtrail.exits import CouldNotRun
from firmtrail.publishing import published
from firmtrail.publishing.checkpoint import key_line, verify_note
from firmtrail.schema import migrations

SIZE_MAX = (1 << 63) - 1


class Wanted(NamedTuple):
    """What of a database is looked at."""

    database: config.Database
    project: str
    number: int | None
    """One log; None: all of the project's."""


async def verify(
    wanted: Wanted, key: str | None, since: Path | None, findings: Findings
) -> list[Looked]:
    trusted = await audit_open.trusted(wanted.database, key, since)
    looked = []
    async with audit_open.reading(wanted.database) as db:
        found = await _logs(db, wanted, findings)
        await project.find_missing_logs(db, found, trusted, findings)
        trusted = trusted._replace(continuations=await continued.check(found, findings))
        with audit_show.bars() as bars:
            for log in _chosen(found, wanted):
                looked += await _looked(log, findings, _verified(log, trusted, findings, bars))
        if wanted.number is None:
            name = f"{await migrations.instance(db)}/{wanted.project}"
            await access_record.verify(name, wanted.project, found, findings)
    return looked


async def _looked(log: AuditedLog, findings: Findings, look: Awaitable[Looked]) -> list[Looked]:
    """The log, with how much was found; none where its head makes no sense."""
    before = findings.count
    try:
        looked = await look
    except rows.Unsound as error:
        findings.add(log.name, "log_heads", str(error))
        return []
    return [looked._replace(found=findings.count - before)]


async def _verified(log: AuditedLog, trusted: Trusted, findings: Findings, bars: Bars) -> Looked:
    total = (await rows.head(log.db, log.log_id)).size
    edge = await project.verify(log, trusted, findings, bars(log.name, total))
    note = await _last_note(log, edge.size)
    return Looked(log.name, edge.size, edge.root().hex(), 0, note)


async def _replayed(log: AuditedLog, findings: Findings, bars: Bars) -> Looked:
    total = (await rows.head(log.db, log.log_id)).size
    size = await replaying.replay(log, findings, bars(log.name, total))
    return Looked(log.name, size, None, 0)


async def _logs(db: Database, wanted: Wanted, findings: Findings) -> list[AuditedLog]:
    instance = await migrations.instance(db)
    found = await logs.of_project(db, instance, wanted.project, findings)
    if not found and not findings.count:
        raise CouldNotRun(
            f"There is no project {wanted.project}: `firmtrail project list` lists those that "
            "there are."
        )
    return found


def _chosen(found: list[AuditedLog], wanted: Wanted) -> list[AuditedLog]:
    chosen = [log for log in found if wanted.number in {None, log.number}]
    if not chosen and wanted.number is not None:
        raise CouldNotRun(
            f"Project {wanted.project} has no log {wanted.number}: without --log, all of its logs "
            "are looked at."
        )
    return chosen


async def _last_note(log: AuditedLog, size: int = SIZE_MAX - 1) -> str | None:
    """The last checkpoint that the database has of a log, up to this size."""
    page = await published.page(log.db, log.log_id, below=size + 1, limit=1)
    return page[0].note if page else None


async def replay(wanted: Wanted, findings: Findings) -> list[Looked]:
    looked = []
    async with audit_open.reading(wanted.database) as db:
        found = await _logs(db, wanted, findings)
        await continued.check(found, findings)
        if findings.count:  # what is to be folded is not certain
            return []
        with audit_show.bars() as bars:
            for log in _chosen(found, wanted):
                looked += await _looked(log, findings, _replayed(log, findings, bars))
        if wanted.number is None:
            name = f"{await migrations.instance(db)}/{wanted.project}"
            await access.replay(name, wanted.project, found, findings)
    return looked


async def export(wanted: Wanted, key: str | None, folder: Path, findings: Findings) -> list[Looked]:
    """All of the project's logs below `folder`, which is the newest of them; or the one wanted."""
    keys = audit_open.keys(wanted.database, key)
    looked = []
    async with audit_open.reading(wanted.database) as db:
        chosen = _chosen(await _logs(db, wanted, findings), wanted)
        with audit_show.bars() as bars:
            for log in chosen:
                verifier, note = keys(log.name), await _last_note(log)
                if verifier is None:
                    raise CouldNotRun(
                        f"The key of {log.name} is not known: give its verifier key with --key."
                    )
                if note is None:
                    raise CouldNotRun(
                        f"No checkpoint of {log.name} is published yet: a server with a signing "
                        "key publishes one within a second."
                    )
                what = SignedNote(note, key_line(verifier), verify_note(note, verifier))
                source = DatabaseSource(db, log.log_id, note=note, key=what.key)
                into = folder if wanted.number else log_folder(folder, log.number)
                looked.append(await audit_tlog.export_into(into, source, what, findings, bars=bars))
    if not wanted.number and chosen and not findings.count:
        show_newest(folder, chosen[-1].number)
    return looked
