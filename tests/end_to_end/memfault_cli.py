"""Runs memfault-cli and curl, as they are installed."""

import subprocess
import sys
from pathlib import Path

from tests.end_to_end.processes import ENVIRONMENT

MEMFAULT = Path(sys.executable).parent / "memfault"
UPLOAD = ("upload-ota-payload", "--hardware-version", "m", "--software-type", "main")
DEPLOY = ("deploy-release", "--cohort", "default", "--release-version")


class Cli:
    """Runs memfault-cli and curl against one server."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def run(self, *arguments: str, token: str = "") -> tuple[int, str]:
        given = ("--org", "acme", "--project", "acme", "--org-token", token or self.token)
        done = subprocess.run(
            [MEMFAULT, "--url", self.url, *given, *arguments],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def publish(self, file: Path, version: str) -> tuple[int, str]:
        return self.run(*UPLOAD, "--software-version", version, str(file))


def curl(*arguments: str) -> str:
    command = ["/usr/bin/curl", "--silent", "--show-error", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout
