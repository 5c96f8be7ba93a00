"""Checks that every command opens the same file, whatever characters are in its path."""

from pathlib import Path

import pytest

from tests.end_to_end.command import firmtrail, in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import TEMPORARY

NAMES = ["a%20b.db", "a b.db", "q?x=1.db", "a%2Fb.db", "a#b.db", "a%b.db", "a&b+c.db", "ü;é:%00.db"]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_opens_the_same_file(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    database = f"sqlite:///{folder / name}"
    for command in (
        ("migrate",),
        ("migrate",),
        ("project", "add", "acme"),
        ("user", "add", "boss@example.org", "--project", "acme", "--role", "admin"),
        ("doctor",),
        ("backup", str(folder / f"copy of {name}")),
        ("audit", "replay", "--project", "acme"),
    ):
        done = in_process(database, *command)
        assert done.exit_code == 0, (command, done.out, done.said)
    stems = {path.name.removeprefix("copy of ") for path in folder.iterdir()}
    assert all(stem.startswith(name) for stem in stems), stems
    assert in_process(f"sqlite:///{folder / f'copy of {name}'}", "doctor").exit_code == 0


def test_a_server_serves_the_file_that_it_migrated(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "data %41?b"
    folder.mkdir()
    database = f"sqlite:///{folder}/x%20y?z.db"
    serve(database)
    assert firmtrail(database, "project", "add", "acme").exit_code == 0
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {folder.name, TEMPORARY}
    assert all(path.name.startswith("x%20y?z.db") for path in folder.iterdir())
