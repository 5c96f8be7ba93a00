"""Installs an update with Debian's swupdate, which loads the one URL of a device."""

import subprocess
from pathlib import Path

from tests.databases import migrate_now
from tests.end_to_end.command import in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import ENVIRONMENT
from tests.end_to_end.swu import HARDWARE, Signer

SECRET = "s" * 40
ACME = ("--project", "acme")


def load(url: str, signer: Signer, folder: Path, *, secret: str) -> int:
    """Runs swupdate's loader until it has installed, or has failed."""
    key, mode = ("-k", str(signer.certificate)), ("-M", "-m", "-H", HARDWARE)
    done = subprocess.run(
        ["/usr/bin/swupdate", *key, *mode, "-d", f"-u {url} -a d1:{secret} -r 1"],
        env={**ENVIRONMENT, "TMPDIR": str(folder)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.stdout.count(b"SWUPDATE successful")


def test_swupdate_installs_what_its_device_should_run(serve: Serve, tmp_path: Path) -> None:
    database, signer = f"sqlite:///{tmp_path}/a.db", Signer(tmp_path)
    migrate_now(database)
    target, image, payload = tmp_path / "installed", tmp_path / "fw.swu", bytes(range(256)) * 400
    image.write_bytes(signer.image("1.1.0", payload, target))
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
    url = f"{serve(database).url}/api/v1/projects/acme/devices/d1/update/artifact?running=1.0.0"
    assert load(url, signer, tmp_path, secret="wrong") == 0
    assert not target.exists()
    assert load(url, signer, tmp_path, secret=SECRET) > 0
    assert target.read_bytes() == payload
