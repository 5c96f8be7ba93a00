"""Runs the daemon of Debian's SWUpdate, as a device does."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.swu import HARDWARE


def found(program: str) -> str:
    """Returns the path of a program that .ci/run installs."""
    path = shutil.which(program)
    assert path is not None, f"{program} is not installed"
    return path


@contextlib.asynccontextmanager
async def daemon(*command: str, folder: Path, log: Path) -> AsyncIterator[None]:
    """Runs a daemon while the block runs, and ends it as a device does that loses its power."""
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@dataclass(frozen=True)
class Swupdate:
    """Describes a device, whose daemon runs while `running` is entered."""

    folder: Path
    certificate: Path
    url: str
    name: str
    secret: str
    tenant: str = "acme"

    @property
    def log(self) -> Path:
        """Returns the file of what the daemon prints."""
        return self.folder / f"{self.name}.log"

    @contextlib.asynccontextmanager
    async def running(self, *options: str) -> AsyncIterator[None]:
        """Runs the daemon while the block runs."""
        server = ("-t", self.tenant, "-u", self.url, "-i", self.name, "-k", self.secret)
        suricatta = " ".join((*server, "-p", "1", "-w", "1", "-r", "5", *options))
        command = (
            found("swupdate"),
            "-M",
            "-m",
            "-l",
            "5",
            "-H",
            HARDWARE,
            "-k",
            str(self.certificate),
        )
        async with daemon(*command, "-u", suricatta, folder=self.folder, log=self.log):
            yield
