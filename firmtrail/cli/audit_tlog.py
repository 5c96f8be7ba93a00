"""How logs of a URL or a directory are verified and exported: as anybody's tlog."""

from collections.abc import Sequence
from pathlib import Path

from firmtrail.audit import source as tlog
from firmtrail.audit.export import export, log_folders
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
from firmtrail.cli import audit_open, audit_show
from firmtrail.cli.audit_show import Looked
from firmtrail.exits import CouldNotRun
from firmtrail.publishing.checkpoint import BadNote, Checkpoint, read_key_line, verify_note


async def verify_folder(
    folder: Path, key: str | None, since: Path | None, findings: Findings
) -> list[Looked]:
    """Each log of an export. Without --key, by the key that lies in it."""
    sources = [DirectorySource(each) for each in log_folders(folder)]
    return await _verify(sources, key, since, findings)


async def verify_url(
    url: str, token: str | None, trusted: tuple[str | None, Path | None], findings: Findings
) -> list[Looked]:
    async with audit_open.web(token) as session:
        return await _verify([UrlSource(session, url)], *trusted, findings)


async def _verify(
    sources: Sequence[Source], key: str | None, since: Path | None, findings: Findings
) -> list[Looked]:
    keys, seen = audit_open.key_lines(key), audit_open.seen(since)
    looked = []
    with audit_show.bars() as bars:
        for source in sources:
            before, published = findings.count, await _published(source, keys, findings)
            if published is not None:
                log = ServedLog(source, published.checkpoint, _since(published, seen, findings))
                await verify(log, findings, bars(published.checkpoint.origin, log.entries))
                looked.append(_looked(published, findings.count - before))
    if seen and not any(each.log in seen for each in looked) and not findings.count:
        raise CouldNotRun(
            "The file of --from holds no checkpoint of this log: name one that --save wrote for it."
        )
    return looked


async def _published(source: Source, keys: Sequence[str], findings: Findings) -> SignedNote | None:
    """The source's checkpoint; None where it is a false one."""
    try:
        return await tlog.published(source, keys)
    except Missing as error:
        raise CouldNotRun(_no_log(source, str(error))) from error
    except BadNote as error:
        findings.add(str(source), "checkpoint", str(error))
        return None


def _no_log(source: Source, missing: str) -> str:
    if isinstance(source, DirectorySource):
        return (
            f"{source} holds no log, because it has no file {missing}: name a folder that "
            "`firmtrail audit export` wrote."
        )
    return (
        f"There is no log at {source}, because {missing} is missing there: --url names a log, such "
        "as https://HOST/api/v1/projects/PROJECT/log, and its project must be one of the token's."
    )


def _since(published: SignedNote, seen: dict[str, str], findings: Findings) -> Checkpoint | None:
    """The earlier checkpoint of this log, signed by the same key."""
    note = seen.get(published.checkpoint.origin)
    try:
        return verify_note(note, read_key_line(published.key)) if note is not None else None
    except BadNote as error:
        findings.add(published.checkpoint.origin, "the earlier checkpoint", str(error))
        return None


def _looked(published: SignedNote, found: int) -> Looked:
    origin, size, root = published.checkpoint
    return Looked(origin, size, root.hex(), found, published.note)


async def export_url(
    url: str, token: str | None, into: tuple[str, Path], findings: Findings
) -> list[Looked]:
    key, folder = into
    async with audit_open.web(token) as session:
        source = UrlSource(session, url)
        published = await _published(source, audit_open.key_lines(key), findings)
        if published is None:
            return []
        with audit_show.bars() as bars:
            return [await export_into(folder, source, published, findings, bars=bars)]


async def export_into(
    folder: Path,
    source: Source,
    published: SignedNote,
    findings: Findings,
    *,
    bars: audit_show.Bars,
) -> Looked:
    """Bring the directory of one log up to what is published."""
    before = findings.count
    since = await _exported(folder, published.key, findings)
    log = ServedLog(source, published.checkpoint, since)
    if findings.count == before:
        advance: AdvanceProgress = bars(published.checkpoint.origin, log.entries)
        await export(published, log, folder, findings=findings, advance=advance)
    return _looked(published, findings.count - before)


async def _exported(folder: Path, key: str, findings: Findings) -> Checkpoint | None:
    """What the directory holds already; None where it holds nothing."""
    directory = DirectorySource(folder)
    try:
        await directory.get(CHECKPOINT)
        return (await tlog.published(directory, [key])).checkpoint
    except Missing:
        return None
    except BadNote as error:
        findings.add(str(folder), CHECKPOINT, str(error))
        return None
