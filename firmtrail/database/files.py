"""Reads, writes and locks small files safely in folders where other users may have put something.

After a crash a file is the old one or the new one, never a part. A folder that other users may
write to can contain a link under any of our names. So no link is followed for a file of ours, and
no file is truncated before it is known to be ours.
"""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PRIVATE = 0o600
PRIVATE_FOLDER = 0o700


class NotOurs(OSError):
    """The file or folder is a link, belongs to another user, or can be written to by others."""


@contextlib.contextmanager
def temporary_file(path: Path, content: bytes) -> Iterator[Path]:
    """Creates a temporary file next to `path` with this content, synced, readable by its owner
    only. The block moves or links it to `path`; after that the folder is synced too."""
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def replace(path: Path, content: bytes) -> None:
    """Replaces the file by one with this content. If it raises OSError, the old file stays."""
    with temporary_file(path, content) as temporary:
        temporary.replace(path)


def open_lock_file(path: Path) -> IO[bytes]:
    """Opens a file that exists only to be locked, and creates it where there is none. Raises
    `NotOurs` for a link or a file of another user, whose content stays as it is."""
    file = os.fdopen(_open(path, os.O_RDWR | os.O_CREAT), "r+b")
    try:
        check_owner(path, os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def private_folder(path: Path) -> None:
    """Creates a folder for its owner only, or checks that the existing one is such a folder. Raises
    `NotOurs` for a link, a folder of another user, or one that others may write to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=PRIVATE_FOLDER)
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise NotOurs(f"{path} is a symbolic link. Name the folder that it points to instead")
    if not stat.S_ISDIR(found.st_mode):
        raise NotOurs(f"{path} is not a folder. Move it away")
    check_owner(path, found)
    if is_writable_by_others(found):
        raise NotOurs(
            f"{path} can be written to by other users (mode {stat.S_IMODE(found.st_mode):04o}). "
            f"Remove that permission: chmod go-w {path}"
        )


def check_trusted(path: Path) -> None:
    """Raises `NotOurs` for a file or link that another user has put there. A link of our own, of
    root or of the folder's owner is followed: keys are often mounted by links."""
    with contextlib.suppress(FileNotFoundError):
        check_owner(path, path.lstat())


def check_not_link(path: Path) -> None:
    """Raises `NotOurs` for a link."""
    if path.is_symlink():
        raise NotOurs(f"{path} is a symbolic link, which is not followed here. Remove it")


def check_owner(path: Path, found: os.stat_result) -> None:
    """Raises `NotOurs` for a file of any other user than ourselves, root and the folder's owner,
    who can replace the folder's content anyway."""
    if found.st_uid not in {os.geteuid(), 0, path.absolute().parent.stat().st_uid}:
        raise NotOurs(
            f"{path} belongs to another user (uid {found.st_uid}). Remove it, or make it yours"
        )


def is_writable_by_others(found: os.stat_result) -> bool:
    """Returns whether the file mode lets other users write."""
    return bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def check_writable(folder: Path) -> None:
    """Raises OSError where no file can be created in the folder."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"no file can be created in {folder}: {error.strerror}") from error


def sync(path: Path) -> None:
    """Syncs a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotOurs(
                f"{path} is a symbolic link, which is not followed here. Remove it"
            ) from error
        raise
