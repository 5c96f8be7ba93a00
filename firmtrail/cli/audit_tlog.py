"""Verifies and exports the logs of a URL or a directory, as any C2SP tlog."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from firmtrail import config
from firmtrail.archive.layout import ArchiveSource
from firmtrail.archive.stores import BucketStore
from firmtrail.audit import continued
from firmtrail.audit import source as tlog
from firmtrail.audit.export import LOGS, export, log_folders
from firmtrail.audit.finding import Findings
from firmtrail.audit.source import (
    CHECKPOINT,
    DirectorySource,
    Missing,
    SignedNote,
    Source,
    UrlSource,
)
from firmtrail.audit.verify import AdvanceProgress, ServedLog, verify
from firmtrail.cli import audit_inputs, audit_show
from firmtrail.cli.audit_show import AuditSummary, NewBar
from firmtrail.cli.output import note
from firmtrail.exits import CouldNotRun
from firmtrail.publishing.checkpoint import (
    BadNote,
    Checkpoint,
    parse,
    read_key_line,
    verify_note,
)

_LAST_PART = re.compile(r"/(log|logs/[0-9]+)$")
"""The end of a log's address, which names the log in its project."""


async def verify_copy(
    location: config.StorageLocation, key: str | None, since: Path | None, findings: Findings
) -> list[AuditSummary]:
    """Verifies each log of an export or of an archive. Without --key, its own key is used."""
    if isinstance(location, config.BucketUrl):
        sources: Sequence[Source] = await _logs_of_bucket(BucketStore.at(location.url))
    else:
        sources = [DirectorySource(each) for each in log_folders(location)]
    return await _verify(sources, key, since, findings)


async def _logs_of_bucket(store: BucketStore) -> list[ArchiveSource]:
    """Returns the logs of a project by their numbers, or the one log that is there."""
    numbers = sorted(int(each) for each in await store.folders(LOGS) if each.isdecimal())
    return [ArchiveSource(store, f"{LOGS}/{number}") for number in numbers] or [
        ArchiveSource(store)
    ]


async def verify_url(
    url: str, token: str | None, trusted: tuple[str | None, Path | None], findings: Findings
) -> list[AuditSummary]:
    async with audit_inputs.web(token) as session:
        return await _verify([UrlSource(session, url)], *trusted, findings)


async def _verify(
    sources: Sequence[Source], key: str | None, since: Path | None, findings: Findings
) -> list[AuditSummary]:
    keys, earlier = audit_inputs.key_lines(key), audit_inputs.earlier(since)
    audited, whole = [], []
    with audit_show.progress_bars() as new_bar:
        for source in sources:
            before, published = findings.count, await _published(source, keys, findings)
            if published is not None:
                log = ServedLog(source, published.checkpoint, _since(published, earlier, findings))
                await verify(log, findings, new_bar(published.checkpoint.origin, log.entries))
                audited.append(_audited(published, findings.count - before))
                whole += [(source, audited[-1])] if log.start == 0 else []
    if not findings.count:
        names = [each.log for each in audited]
        for source, each in whole:
            await _note_continued(source, each, names)
        if earlier and not any(name in earlier for name in names):
            raise CouldNotRun(_no_earlier(earlier, names))
    return audited


async def _note_continued(source: Source, audited: AuditSummary, names: Sequence[str]) -> None:
    """Says which log this one continues, unless that is one of the verified logs, `names`."""
    event = await continued.read_first(source, audited.entries)
    if event is None:
        return
    before = f"{audited.log.rpartition('/')[0]}/{event.log}"
    if event.checkpoint is not None:
        before = parse(event.checkpoint).origin
    if before not in names:
        address, is_known = _LAST_PART.subn(f"/logs/{event.log}", str(source))
        where = f" at {address}" if is_known and isinstance(source, UrlSource) else ""
        note(f"{audited.log} continues {before}, which was not read: verify that log{where}, too.")


def _no_earlier(earlier: Iterable[str], names: Sequence[str]) -> str:
    """Explains that the file of --from has checkpoints of other logs only."""
    known = {_project(name) for name in names}
    others = ", ".join(name for name in earlier if _project(name) in known)
    if others:
        return (
            f"The file of --from has no checkpoint of this log, but of {others}, of the same "
            "project: verify that log with this file, and this log without it."
        )
    return (
        "The file of --from has no checkpoint of this log: name a file that --save wrote for "
        "this log."
    )


def _project(log: str) -> str:
    return log.rpartition("/")[0].rpartition("/")[2]


async def _published(source: Source, keys: Sequence[str], findings: Findings) -> SignedNote | None:
    """Returns the source's checkpoint; None, with a finding, if its signature is not valid."""
    try:
        return await tlog.published(source, keys)
    except Missing as error:
        raise CouldNotRun(_no_log(source, str(error))) from error
    except BadNote as error:
        findings.add(str(source), "checkpoint", str(error))
        return None


def _no_log(source: Source, missing: str) -> str:
    if isinstance(source, DirectorySource | ArchiveSource):
        return (
            f"{source} contains no log, because it has no file {missing}: name a folder that "
            "`firmtrail audit export` wrote, or a project's folder in an archive. An archive has a "
            "log from its first 256 events on."
        )
    return (
        f"There is no log at {source}, because {missing} is missing there: --url must name a log, "
        "such as https://HOST/api/v1/projects/PROJECT/log, of a project that the token is for."
    )


def _since(published: SignedNote, earlier: dict[str, str], findings: Findings) -> Checkpoint | None:
    """Returns the earlier checkpoint of this log, if the same key signed it."""
    note = earlier.get(published.checkpoint.origin)
    try:
        return verify_note(note, read_key_line(published.key)) if note is not None else None
    except BadNote as error:
        findings.add(published.checkpoint.origin, "the earlier checkpoint", str(error))
        return None


def _audited(published: SignedNote, found: int) -> AuditSummary:
    origin, size, root = published.checkpoint
    return AuditSummary(origin, size, root.hex(), found, published.note)


async def export_url(
    url: str, token: str | None, into: tuple[str, Path], findings: Findings
) -> list[AuditSummary]:
    key, folder = into
    async with audit_inputs.web(token) as session:
        source = UrlSource(session, url)
        published = await _published(source, audit_inputs.key_lines(key), findings)
        if published is None:
            return []
        with audit_show.progress_bars() as new_bar:
            return [await export_into(folder, source, published, findings, new_bar=new_bar)]


async def export_into(
    folder: Path, source: Source, published: SignedNote, findings: Findings, *, new_bar: NewBar
) -> AuditSummary:
    """Extends the directory of one log to its published checkpoint."""
    before = findings.count
    since = await _exported(folder, published.key, findings)
    log = ServedLog(source, published.checkpoint, since)
    if findings.count == before:
        advance: AdvanceProgress = new_bar(published.checkpoint.origin, log.entries)
        await export(published, log, folder, findings=findings, advance=advance)
    return _audited(published, findings.count - before)


async def _exported(folder: Path, key: str, findings: Findings) -> Checkpoint | None:
    """Returns the checkpoint of the log that the directory contains; None if it contains none."""
    directory = DirectorySource(folder)
    try:
        await directory.get(CHECKPOINT)
        return (await tlog.published(directory, [key])).checkpoint
    except Missing:
        return None
    except BadNote as error:
        findings.add(str(folder), CHECKPOINT, str(error))
        return None
