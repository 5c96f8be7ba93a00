"""How small files are read, written and locked where others may have put something else.

What is written is the old file or the new one after a crash, never a part. A folder that other
users may write to can hold a link under any of our names: no link is followed for a file of ours,
and nothing is cut off before it is known to be ours.
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
    """A file or folder is a link, belongs to somebody else, or is open to others."""


@contextlib.contextmanager
def written(path: Path, content: bytes) -> Iterator[Path]:
    """A temporary file next to `path` with this content, on the disk, for its owner alone.

    The block moves or links it to `path`; then the folder is brought to the disk too.
    """
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
    """Put this content in the file's place. Raises OSError, and the old content is there."""
    with written(path, content) as temporary:
        temporary.replace(path)


def opened_lock(path: Path) -> IO[bytes]:
    """Open a file that is only there to be locked, creating it where there is none.

    Raises `NotOurs` for a link, or for a file of another user; its content stays as it is.
    """
    file = os.fdopen(_open(path, os.O_RDWR | os.O_CREAT), "r+b")
    try:
        check_owner(path, os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def private_folder(path: Path) -> None:
    """Create a folder for its owner alone, or check that it is one.

    Raises `NotOurs` for a link, a folder of another user, or one that others may write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=PRIVATE_FOLDER)
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise NotOurs(f"{path} is a symbolic link. Name the folder that it points to instead")
    if not stat.S_ISDIR(found.st_mode):
        raise NotOurs(f"{path} is no folder. Move it away")
    check_owner(path, found)
    if is_open(found):
        raise NotOurs(
            f"{path} may be written to by other users (mode {stat.S_IMODE(found.st_mode):04o}). "
            f"Close it: chmod go-w {path}"
        )


def check_trusted(path: Path) -> None:
    """Raises `NotOurs` for a file, or a link to one, that somebody else has put there.

    A link of our own, of root or of the folder's owner is followed: keys are often mounted so.
    """
    with contextlib.suppress(FileNotFoundError):
        check_owner(path, path.lstat())


def check_no_link(path: Path) -> None:
    """Raises `NotOurs` for a link."""
    if path.is_symlink():
        raise NotOurs(f"{path} is a symbolic link, and is not followed. Remove it")


def check_owner(path: Path, found: os.stat_result) -> None:
    """Raises `NotOurs` for what belongs to a user that can't replace the folder's content anyway:
    neither we, nor root, nor the folder's owner."""
    if found.st_uid not in {os.geteuid(), 0, path.absolute().parent.stat().st_uid}:
        raise NotOurs(f"{path} belongs to another user (uid {found.st_uid}). Remove it or take it")


def is_open(found: os.stat_result) -> bool:
    """Returns whether other users may write to it."""
    return bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def check_writable(folder: Path) -> None:
    """Raises OSError where no file can be created in the folder."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"no file can be created in {folder}: {error.strerror}") from error


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
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
            raise NotOurs(f"{path} is a symbolic link, and is not followed. Remove it") from error
        raise
