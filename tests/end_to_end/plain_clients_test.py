"""Installs an update with Debian's swupdate, which loads the one URL of a device."""

import asyncio
import subprocess
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.databases import migrate_now
from tests.end_to_end.command import in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.network import Network
from tests.end_to_end.processes import ENVIRONMENT
from tests.end_to_end.swu import HARDWARE, Signer

SECRET = "s" * 40
ACME = ("--project", "acme")
PATH = "/api/v1/projects/acme/devices/d1/update/artifact?running=1.0.0"
PAYLOAD = bytes(range(256)) * 1_000


class Pinned(NamedTuple):
    """Holds a server, and a device that should run another version."""

    url: str
    folder: Path
    signer: Signer

    @property
    def installed(self) -> Path:
        """Returns the file that an install writes."""
        return self.folder / "installed"

    def load(self, url: str, *, secret: str = SECRET, retries: int = 1) -> int:
        """Runs swupdate's loader until it has installed, or has failed."""
        key, mode = ("-k", str(self.signer.certificate)), ("-M", "-m", "-H", HARDWARE)
        options = f"-u {url}{PATH} -a d1:{secret} -r {retries}"
        done = subprocess.run(
            ["/usr/bin/swupdate", *key, *mode, "-d", options],
            env={**ENVIRONMENT, "TMPDIR": str(self.folder)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.stdout.count(b"SWUPDATE successful")


@pytest.fixture
def pinned(serve: Serve, tmp_path: Path) -> Pinned:
    database, signer = f"sqlite:///{tmp_path}/a.db", Signer(tmp_path)
    migrate_now(database)
    image = tmp_path / "fw.swu"
    image.write_bytes(signer.image("1.1.0", PAYLOAD, tmp_path / "installed"))
    (tmp_path / "notes.txt").write_text("What is new")
    files = ("--artifact", str(image), "--artifact", str(tmp_path / "notes.txt"))
    for command in (
        ("project", "add", "acme"),
        ("device", "add", "d1", *ACME, "--model", "m", "--secret", SECRET),
        ("release", "add", "1.1.0", *ACME, "--model", "m", *files),
        ("device", "pin", "d1", "1.1.0", *ACME),
    ):
        done = in_process(database, *command)
        assert done.exit_code == 0, done.said
    return Pinned(serve(database).url, tmp_path, signer)


def test_swupdate_installs_what_its_device_should_run(pinned: Pinned) -> None:
    assert pinned.load(pinned.url, secret="wrong") == 0
    assert not pinned.installed.exists()
    assert pinned.load(pinned.url) > 0
    assert pinned.installed.read_bytes() == PAYLOAD


async def test_swupdate_continues_a_download_that_breaks_off(pinned: Pinned) -> None:
    async with Network(urlsplit(pinned.url).port or 0).open() as network:
        network.cut_after_bytes = len(PAYLOAD) // 2
        assert await asyncio.to_thread(pinned.load, network.url, retries=5) > 0
        assert network.cuts == 1
    assert pinned.installed.read_bytes() == PAYLOAD
