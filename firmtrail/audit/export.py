"""Writes a log to a directory that any web server can serve: checkpoint, tiles, bundles and key.

Everything is verified before it is written: each tile is computed from the entries. The checkpoint
is written last, and only if its root is that of the entries. So the directory is a whole log at
every moment and after a crash: the log of the checkpoint in it. An export into the same directory
continues from there; it keeps the old checkpoint if the log does not continue the exported one.
"""

import os
from pathlib import Path

from firmtrail.audit import source as read
from firmtrail.audit.finding import Findings
from firmtrail.audit.source import CHECKPOINT, KEY, SignedNote
from firmtrail.audit.verify import (
    AdvanceProgress,
    HashedBundle,
    ServedLog,
    hashed_bundles,
    is_later,
)

LOGS = "logs"
"""Names the folder of a project's logs, by their numbers, as in the paths of the service."""
NEWEST = "newest"
"""Names the link to the newest of them. The files of the directory itself are read through it."""


async def export(
    published: SignedNote,
    log: ServedLog,
    folder: Path,
    *,
    findings: Findings,
    advance: AdvanceProgress,
) -> None:
    """Adds the missing part of the log to `folder`; on a finding the old checkpoint stays."""
    if not is_later(log, findings):
        return
    async for bundle in hashed_bundles(log, findings):
        if findings.count:
            return
        _write_bundle(folder, bundle)
        advance(len(bundle.entries))
    if not findings.count:
        _publish(folder, published)


def log_folders(folder: Path) -> list[Path]:
    """Returns the logs in a directory: those of a project by their numbers, or the directory."""
    logs = folder / LOGS
    if not logs.is_dir():
        return [folder]
    numbered = (each for each in logs.iterdir() if each.name.isdecimal())
    return sorted(numbered, key=lambda each: int(each.name))


def log_folder(folder: Path, number: int) -> Path:
    """Returns the folder of a project's log of this number in a directory."""
    return folder / LOGS / str(number)


def show_newest(folder: Path, number: int) -> None:
    """Makes the directory itself a tlog: the project's newest log. It changes in one step."""
    _link(folder / NEWEST, Path(LOGS, str(number)))
    for name in (KEY, "tile", CHECKPOINT):
        _link(folder / name, Path(NEWEST, name))


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink() or path.readlink() != target:
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        new.replace(path)


def _write_bundle(folder: Path, bundle: HashedBundle) -> None:
    path = read.bundle_path(bundle.number, len(bundle.entries))
    _write(folder / path, read.join_bundle(bundle.entries))
    for tile in bundle.tiles:
        _write(folder / read.path(tile.id), tile.hashes)


def _publish(folder: Path, published: SignedNote) -> None:
    """Writes the checkpoint after the entries, tiles and key that it covers are on the disk."""
    _write(folder / KEY, published.key.encode())
    os.sync()
    _write(folder / CHECKPOINT, published.note.encode())
    os.sync()


def _write(path: Path, content: bytes) -> None:
    """Replaces a file: a reader finds the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.replace(path)
