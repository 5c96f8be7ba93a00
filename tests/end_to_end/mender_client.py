"""Runs Debian's mender-client as a device of its own: in a mount namespace, with its own folders in
place of those that the client has fixed names for.

A download that broke off is resumed after a minute, which no setting shortens. `impatient` copies
the client with another value in the one place that holds this minute (mender's `client.go`,
`ExponentialBackoffSmallestUnit`, which the client's own tests lower too). If the variable
`FIRMTRAIL_TEST_MENDER_MINUTE` is set, the client is used as it is.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.end_to_end.processes import ENVIRONMENT

CLIENT, TOOL, PUBLISHER = "mender", "mender-artifact", "mender-cli"
MOUNTS = {"etc": "/etc/mender", "share": "/usr/share/mender"}
INTERVAL_S = 1

MINUTE_NS, SHORT_NS = 60 * 10**9, 2 * 10**9

_MODULE = """\
#!/bin/sh
# Installs the file of the artifact, or fails or restarts the device as the file says.
case "$1" in
    NeedsArtifactReboot)
        if grep -q reboots "$2"/files/*; then echo Yes; else echo No; fi ;;
    ArtifactReboot) kill -9 $PPID; sleep 60 ;;
    SupportsRollback) echo Yes ;;
    ArtifactInstall)
        if grep -q broken "$2"/files/*; then echo "the image is broken" >&2; exit 1; fi
        cp "$2"/files/* {installed} ;;
esac
exit 0
"""


def artifact(folder: Path, name: str, payload: bytes) -> Path:
    """Writes an artifact of this name for devices of type m."""
    file, written = folder / f"{name}.payload", folder / f"{name}.mender"
    file.write_bytes(payload)
    command = [TOOL, "write", "module-image", "-T", "file", "-n", name, "-t", "m"]
    subprocess.run([*command, "-o", written, "-f", file], check=True, capture_output=True)
    return written


def publisher(url: str, home: Path, *arguments: str) -> str:
    """Runs mender-cli against a server, and returns what it prints. It keeps its login at home."""
    command = [PUBLISHER, "--server", url, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**ENVIRONMENT, "HOME": str(home)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def impatient(folder: Path) -> str:
    """Returns the path of a client that waits two seconds where the client waits a minute."""
    if os.environ.get("FIRMTRAIL_TEST_MENDER_MINUTE"):
        return CLIENT
    found = shutil.which(CLIENT)
    assert found is not None, f"{CLIENT} is not installed"
    program = bytearray(Path(found).read_bytes())
    minute = program.rindex(struct.pack("<q", MINUTE_NS))  # the data follows the code
    assert minute % 8 == 0, "the minute is no variable"
    struct.pack_into("<q", program, minute, SHORT_NS)
    copy = folder / "impatient"
    copy.write_bytes(program)
    copy.chmod(0o755)
    return str(copy)


class MenderClient:
    """Holds the folders of one device."""

    def __init__(self, folder: Path, name: str, tenant: str, program: str = CLIENT) -> None:
        self._program = program
        self._folder, self._name, self._tenant = folder, name, tenant
        self.installed = folder / "installed"
        self.log = folder / "client.log"
        self.settings: dict[str, Any] = {}
        self._data = folder / "data"
        for each in ("etc", "share", "data"):
            (folder / each).mkdir(parents=True)
        modules = folder / "share/modules/v3"
        for script in (modules, folder / "share/identity", folder / "share/inventory"):
            script.mkdir(parents=True)
        self._script("share/modules/v3/file", _MODULE.format(installed=self.installed))
        self._script("share/identity/mender-device-identity", f"#!/bin/sh\necho mac={name}\n")
        (folder / "etc/artifact_info").write_text("artifact_name=m-1.0.0\n")
        (self._data / "device_type").write_text("device_type=m\n")

    def _script(self, name: str, text: str) -> None:
        path = self._folder / name
        path.write_text(text)
        path.chmod(0o755)

    def says(self, text: str) -> bool:
        """Returns whether the client has printed a text."""
        return self.log.exists() and text in self.log.read_text(errors="replace")

    def is_storing(self) -> bool:
        """Returns whether the client has read the headers of an artifact and stores its file."""
        return any(self._data.glob("modules/v3/payloads/*/tree/files"))

    @contextmanager
    def running(self, url: str) -> Iterator[subprocess.Popen[bytes]]:
        """Runs the client against a server while the block runs; yields its process."""
        settings = {
            "ServerURL": url,
            "TenantToken": self._tenant,
            "DeviceTypeFile": str(self._data / "device_type"),
            **self.settings,
            "UpdatePollIntervalSeconds": INTERVAL_S,
            "InventoryPollIntervalSeconds": INTERVAL_S,
            "RetryPollIntervalSeconds": INTERVAL_S,
        }
        (self._folder / "etc/mender.conf").write_bytes(msgspec.json.encode(settings))
        binds = " && ".join(
            f"mount --bind {self._folder / name} {target}" for name, target in MOUNTS.items()
        )
        command = f"{binds} && exec {self._program} --data {self._data} daemon"
        with self.log.open("ab") as log:
            client = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", command],  # noqa: S607 (the test's machine)
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield client
        finally:
            client.terminate()
            client.wait(10)
