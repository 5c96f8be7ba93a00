"""Replaces the texts of old entries of devices by stubs, once the archive was seen to have them.

A log is pruned from its beginning, in steps of at most `STEP_BUNDLES` bundles. A step reads the
bundles from the archive and the same entries from the database. Only if they are the same to the
byte, and have the hash that the tree has, one transaction replaces the texts and notes how far the
log is pruned. So a crash leaves a log that is pruned up to the end of a step, and the next run
continues there.

Entries of other streams stay, because rules and pages read them: rollouts, releases, settings,
people. The newest `KEPT_ENTRIES` of a log stay, because a rebuild ends in a transaction, which may
not wait for an archive.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import batched
from typing import NamedTuple

from firmtrail.archive import layout, pruned
from firmtrail.archive.pruned import PrunableLog, Replacement, StoredEntry
from firmtrail.archive.stores import ArchiveRefused, ArchiveStore
from firmtrail.audit import source as tlog
from firmtrail.audit.source import CHECKPOINT
from firmtrail.database import stubs
from firmtrail.database.database import Database, Unavailable
from firmtrail.eventstore import merkle, sizes, tree
from firmtrail.eventstore.log import head
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.eventstore.pruned import is_prunable, pruned_size
from firmtrail.publishing.checkpoint import BadNote, parse

STEP_BUNDLES = 16
KEPT_ENTRIES = 65_536
FILES_S = 60.0
"""How long the archive may take to give the checkpoint of a log, or the bundles of a step."""


class PruneScope(NamedTuple):
    """Names the entries to prune."""

    location: str
    """The name of the archive in the database."""
    before_ms: int
    """Entries that were recorded at this time or later stay."""
    project: str = ""
    """Only the logs of this project; all logs for an empty name."""


class PrunedStep(NamedTuple):
    """Counts what one step replaced, or would replace."""

    log: str
    size: int
    """How far the log is pruned then."""
    stop: int
    """How far it will be when the command ends."""
    entries: int
    bytes: int


class _Sides(NamedTuple):
    """Holds one log with the database and the archive that have it."""

    db: Database
    store: ArchiveStore
    log: PrunableLog

    @property
    def folder(self) -> str:
        return layout.folder_of(self.log.name)


async def prune(
    db: Database, store: ArchiveStore, scope: PruneScope, *, is_dry: bool
) -> AsyncGenerator[PrunedStep]:
    """Yields after each step; a dry run reads and compares the same, and writes nothing. The
    connection must be allowed to prune (`Database.allow_pruning`).

    Raises `ArchiveRefused` if the archive does not have what the database has, `Unavailable` or
    `OSError` if one of them can't be reached, and `NotAllowed` if the role may not prune.
    """
    after = 0
    while page := await pruned.logs(db, scope.location, scope.project, after=after):
        for log in page:
            async for step in _prune_log(_Sides(db, store, log), scope.before_ms, is_dry=is_dry):
                yield step
        after = page[-1].log_id


async def _prune_log(sides: _Sides, before_ms: int, *, is_dry: bool) -> AsyncGenerator[PrunedStep]:
    log = sides.log
    old = await sizes.within(sides.db, log.log_id, log.size, before_ms - 1)
    stop = min(old, log.archived, log.size - KEPT_ENTRIES) // TILE_WIDTH * TILE_WIDTH
    if stop <= log.pruned:
        return
    await _check_checkpoint(sides, stop)
    for start in range(log.pruned, stop, STEP_BUNDLES * TILE_WIDTH):
        span = range(start, min(stop, start + STEP_BUNDLES * TILE_WIDTH))
        stored = await _entries_of_both(sides, span)
        found = [each for each in stored if is_prunable(each.stream)]
        new = Replacement(
            span,
            [stubs.of(log.log_id, each.position, each.entry) for each in found],
            sum(len(each.entry.encode()) for each in found),
        )
        if not is_dry:
            await _replace(sides, new)
        yield PrunedStep(str(log.name), span.stop, stop, len(new.stubs), new.saved_bytes)


async def _entries_of_both(sides: _Sides, span: range) -> list[StoredEntry]:
    """Returns the entries of a span, which the archive has too. Raises `ArchiveRefused`; or
    `Unavailable` if another process has pruned the span meanwhile."""
    log_id = sides.log.log_id
    stored = await pruned.entries(sides.db, log_id, span.start, span.stop)
    try:
        await _compare(sides, span, stored)
    except ArchiveRefused:
        if await pruned_size(sides.db, log_id) > span.start:
            raise _another_prunes(sides.log) from None
        raise
    return stored


async def _check_checkpoint(sides: _Sides, stop: int) -> None:
    """Raises `ArchiveRefused` unless the archive's checkpoint covers what is pruned, and is one of
    the log in this database."""
    log = sides.log
    [note] = await _files(sides, [CHECKPOINT])
    size = (await head(sides.db, log.log_id)).size  # the log grows: the note is not newer
    try:
        there = parse((note or b"").decode(errors="replace"))
    except BadNote as error:
        raise ArchiveRefused(f"the archive has no checkpoint of log {log.name}: {error}") from error
    if not stop <= there.size <= size:
        raise ArchiveRefused(
            f"the archive's checkpoint of log {log.name} covers {there.size} entries; the database "
            f"has {size}, of which at least {stop} must be in the archive"
        )
    if there.root != await tree.root(sides.db, log.log_id, there.size):
        raise ArchiveRefused(
            f"the archive's checkpoint of log {log.name} is not one of the log in this database"
        )


async def _compare(sides: _Sides, span: range, stored: Sequence[StoredEntry]) -> None:
    """Raises `ArchiveRefused` unless the archive has the bundles of the span, and the tree has the
    hashes of their entries."""
    log = sides.log
    if [each.position for each in stored] != list(span):
        raise ArchiveRefused(f"log {log.name} lacks entries from position {span.start} on")
    numbers = range(span.start // TILE_WIDTH, span.stop // TILE_WIDTH)
    paths = [tlog.bundle_path(number, TILE_WIDTH) for number in numbers]
    files = await _files(sides, paths)
    roots = await tree.bundle_roots(sides.db, log.log_id, numbers)
    parts = batched(stored, TILE_WIDTH)
    for path, file, root, part in zip(paths, files, roots, parts, strict=True):
        name = f"{sides.store}/{sides.folder}/{path}"
        entries = [each.entry.encode() for each in part]
        if file != tlog.join_bundle(entries):
            raise ArchiveRefused(f"{name} is not what the database has")
        leaves = merkle.extend((), 0, map(merkle.leaf_hash, entries))
        if merkle.root(leaves.frontier) != root:
            raise ArchiveRefused(f"{name} does not have the hash that the tree has")


async def _files(sides: _Sides, paths: Sequence[str]) -> list[bytes | None]:
    """Returns files of the log in the archive, None for each that is missing. Raises `Unavailable`
    if they do not arrive in time."""
    reads = [sides.store.get(f"{sides.folder}/{path}") for path in paths]
    try:
        async with asyncio.timeout(FILES_S):
            return await asyncio.gather(*reads)
    except TimeoutError as error:
        raise Unavailable(
            f"The archive {sides.store} did not answer within {FILES_S:.0f} s"
        ) from error


async def _replace(sides: _Sides, new: Replacement) -> None:
    async with sides.db.transaction() as tx:
        if not await pruned.replace(tx, sides.log.log_id, new):
            raise _another_prunes(sides.log)


def _another_prunes(log: PrunableLog) -> Unavailable:
    return Unavailable(f"Another process prunes the log {log.name}: let it end")
