"""A log as a directory: checkpoint, tiles, entry bundles and key, which any web server serves.

What is written was verified: every tile is computed from the entries, and the checkpoint is put in
place last, when its root is theirs. So the directory is a whole log at every moment, and after a
crash: that of the checkpoint in it. An export into the same directory goes on from there, and
leaves the checkpoint alone where the log is no continuation of what the directory holds.
"""

import os
from pathlib import Path

from firmtrail.audit import source as read
from firmtrail.audit.finding import Findings
from firmtrail.audit.source import CHECKPOINT, KEY, Published
from firmtrail.audit.verify import Advance, Step, Way, is_later, steps

LOGS = "logs"
"""A project's logs, by their numbers, in its directory: as in the paths of the service."""
NEWEST = "newest"
"""A link to the newest of them, through which the directory itself is read."""


async def export(
    published: Published, way: Way, folder: Path, *, findings: Findings, advance: Advance
) -> None:
    """Add to `folder` what it lacks of the log; on a finding its checkpoint stays the old one."""
    if not is_later(way, findings):
        return
    async for step in steps(way, findings):
        if findings.count:
            return
        _write_step(folder, step)
        advance(len(step.entries))
    if not findings.count:
        _publish(folder, published)


def log_folders(folder: Path) -> list[Path]:
    """The logs in a directory: itself, or a project's by their numbers."""
    logs = folder / LOGS
    if not logs.is_dir():
        return [folder]
    return sorted((each for each in logs.iterdir() if each.name.isdecimal()), key=_number)


def _number(folder: Path) -> int:
    return int(folder.name)


def log_folder(folder: Path, number: int) -> Path:
    """Where a project's log of this number lies in a directory."""
    return folder / LOGS / str(number)


def show_newest(folder: Path, number: int) -> None:
    """Make the directory itself a tlog: that of the project's newest log, which it is as a whole
    from one moment to the next."""
    _link(folder / NEWEST, Path(LOGS, str(number)))
    for name in (KEY, "tile", CHECKPOINT):
        _link(folder / name, Path(NEWEST, name))


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink() or path.readlink() != target:
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        new.replace(path)


def _write_step(folder: Path, step: Step) -> None:
    bundle = read.bundle_path(step.number, len(step.entries))
    _write(folder / bundle, read.join_bundle(step.entries))
    for tile in step.tiles:
        _write(folder / read.path(tile.place), tile.hashes)


def _publish(folder: Path, published: Published) -> None:
    """Everything that the checkpoint stands on is on the disk before it is."""
    _write(folder / KEY, published.key.encode())
    os.sync()
    _write(folder / CHECKPOINT, published.note.encode())
    os.sync()


def _write(path: Path, content: bytes) -> None:
    """A reader finds the old file or the new one, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.replace(path)
