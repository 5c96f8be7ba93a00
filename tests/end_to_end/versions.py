"""Holds two versions of this repository, for checks of an upgrade."""

import io
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.processes import ENVIRONMENT

HERE = Path(__file__).parents[2]
VERSIONS = "firmtrail/schema/migrations/versions"


@dataclass(frozen=True)
class Version:
    """Holds a version of the repository, in a folder."""

    name: str
    source: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.source,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )

    def firmtrail(self, database: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "firmtrail", "--database", database, *arguments)

    def done(self, database: str, *arguments: str) -> str:
        """Runs a command that must succeed; returns its output."""
        ran = self.firmtrail(database, *arguments)
        assert ran.returncode == 0, f"{self.name}: {arguments}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def revisions(self) -> str:
        """Returns the revisions of its views, as text."""
        program = "from firmtrail.projections import fold; print(sorted(fold.REVISIONS.items()))"
        return self.run("-c", program).stdout


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """The version before, as it was committed."""
    commit = os.environ.get("FIRMTRAIL_TEST_OLD") or _before_newest_migration()
    shown = subprocess.run(
        ["git", "archive", "--format=tar", commit],  # noqa: S607 (from the user's path)
        cwd=HERE,
        capture_output=True,
        check=False,
    )
    if shown.returncode != 0:
        pytest.fail(
            f"The commit {commit} is not here: {shown.stderr.decode().strip()}. This check needs "
            "the whole history (git fetch --unshallow), or another commit in OLD.",
            pytrace=False,
        )
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(shown.stdout)) as tar:
        tar.extractall(folder, filter="data")
    version = Version(f"old ({commit[:9]})", folder)
    found = version.run("-c", "import firmtrail; print(firmtrail.__file__)")
    assert found.stdout.startswith(str(folder)), found
    return version


def _before_newest_migration() -> str:
    """Returns the commit before the one that added the newest migration."""
    newest = max((HERE / VERSIONS).glob("[0-9]*.py")).name
    added = subprocess.run(
        [
            *("git", "log", "--diff-filter=A", "--format=%H", "--", f"{VERSIONS}/{newest}"),
        ],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    if not added.stdout:
        pytest.fail(
            f"The history has no commit that added {newest}: this check needs the whole history "
            "(git fetch --unshallow), or a commit in OLD.",
            pytrace=False,
        )
    return f"{added.stdout.split()[-1]}^"


@pytest.fixture(scope="module")
def new() -> Version:
    return Version("new", HERE)
