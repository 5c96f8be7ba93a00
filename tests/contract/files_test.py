"""No link is followed for a file next to a database, where another user may have put one."""

import os
import stat
from pathlib import Path

import pytest

from firmtrail.database import file_lock, files
from firmtrail.database.sqlite import SQLite
from firmtrail.publishing import checkpoint_store, signing_key
from firmtrail.publishing.published_file import CheckpointFile
from tests.databases import sqlite_template

PRECIOUS = b"precious"
ANOTHER = 12345
"""The id of a user that is neither this process's nor root."""


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "victim.txt"
    path.parent.mkdir()
    path.write_bytes(PRECIOUS)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "firmtrail.db"
    path.parent.mkdir()
    path.write_bytes(sqlite_template())
    return path


@pytest.mark.parametrize("suffix", [".lock", "-wal", "-shm", "-journal"])
async def test_a_link_next_to_a_database_is_refused(file: Path, victim: Path, suffix: str) -> None:
    file.with_name(f"{file.name}{suffix}").symlink_to(victim)
    with pytest.raises(files.NotOurs, match="symbolic link"):
        await SQLite.open(file)
    assert is_whole(victim)


def is_whole(victim: Path) -> bool:
    return victim.read_bytes() == PRECIOUS


def test_locking_a_file_keeps_the_content_of_the_lock_file(file: Path) -> None:
    lock = file.with_name(f"{file.name}.lock")
    lock.write_bytes(PRECIOUS)
    with file_lock.acquire(file):
        assert file_lock.is_locked(file)
    assert lock.read_bytes() == PRECIOUS


def test_the_lock_of_checkpoints_follows_no_link(tmp_path: Path, victim: Path) -> None:
    store = tmp_path / "checkpoints"
    store.with_name("checkpoints.lock").symlink_to(victim)
    with pytest.raises(files.NotOurs):
        CheckpointFile(store).compare_and_set_now({"a": checkpoint_store.NoteChange(None, "x")})
    assert victim.read_bytes() == PRECIOUS
    assert not store.exists()


def test_a_file_of_checkpoints_that_is_a_link_is_replaced_not_followed(
    tmp_path: Path, victim: Path
) -> None:
    victim.write_bytes(b"{}")
    store = tmp_path / "checkpoints"
    store.symlink_to(victim)
    CheckpointFile(store).compare_and_set_now({"a": checkpoint_store.NoteChange(None, "x")})
    assert victim.read_bytes() == b"{}"
    assert not store.is_symlink()


def test_a_key_is_not_written_through_a_link(tmp_path: Path, victim: Path) -> None:
    key = tmp_path / "key"
    key.symlink_to(victim)
    signing_key.create(key)
    assert victim.read_bytes() == PRECIOUS
    with pytest.raises(signing_key.BadKey):
        signing_key.read(key)


def test_a_file_of_another_user_is_refused(file: Path) -> None:
    found = list(file.stat())
    found[stat.ST_UID] = ANOTHER
    with pytest.raises(files.NotOurs, match=f"uid {ANOTHER}"):
        files.check_owner(file, os.stat_result(found))


async def test_files_and_links_of_another_user_are_refused(file: Path, victim: Path) -> None:
    if os.geteuid() != 0:
        return  # only root can create a file of another user; the test above runs for every user
    for suffix in ("", ".lock"):
        path = file.with_name(f"{file.name}{suffix}")
        path.touch()
        os.chown(path, ANOTHER, ANOTHER)
        with pytest.raises(files.NotOurs, match=f"uid {ANOTHER}"):
            await SQLite.open(file)
        os.chown(path, 0, 0)
    for name, read in (
        ("key", signing_key.read),
        ("checkpoints", lambda path: CheckpointFile(path).read_now()),
    ):
        link = file.with_name(name)
        link.symlink_to(victim)
        os.chown(link, ANOTHER, ANOTHER, follow_symlinks=False)
        with pytest.raises(files.NotOurs):
            read(link)


def test_the_owner_of_the_folder_may_put_files_there(tmp_path: Path) -> None:
    """Root may run a command on the database of a service's user."""
    path = tmp_path / "firmtrail.db.lock"
    path.touch()
    if os.geteuid() == 0:
        os.chown(tmp_path, ANOTHER, ANOTHER)
        os.chown(path, ANOTHER, ANOTHER)
    file_lock.acquire(tmp_path / "firmtrail.db").close()
