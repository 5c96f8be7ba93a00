"""Runs Debian's SWUpdate as a device: signed images, the daemon, and a network that breaks off."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path


def found(program: str) -> str:
    """Returns the path of a program that .ci/run installs."""
    path = shutil.which(program)
    assert path is not None, f"{program} is not installed"
    return path


HARDWARE = "test:1.0"


@dataclass(frozen=True)
class Signer:
    """Makes images that the daemon accepts, signed with a key that is thrown away."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    def make_key(self) -> None:
        made = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30")
        named = ("-subj", "/CN=throw-away", "-addext", "extendedKeyUsage=emailProtection")
        self._openssl(*made, *named, "-keyout", "key.pem", "-out", self.certificate.name)

    def image(self, version: str, payload: bytes, target: Path) -> bytes:
        """Returns an image that writes `payload` to `target`."""
        digest = sha256(payload).hexdigest()
        file = f'filename = "payload"; path = "{target}"; sha256 = "{digest}";'
        description = f"""software = {{
  version = "{version}";
  hardware-compatibility: [ "1.0" ];
  files: ({{ {file} }});
}}
"""
        (self.folder / "sw-description").write_text(description)
        kept = ("-outform", "DER", "-nosmimecap", "-binary", "-out", "signature")
        signer = ("-signer", self.certificate.name, "-inkey", "key.pem")
        self._openssl("cms", "-sign", "-in", "sw-description", *signer, *kept)
        signature = (self.folder / "signature").read_bytes()
        parts = {
            "sw-description": description.encode(),
            "sw-description.sig": signature,
            "payload": payload,
        }
        members = [_member(name, content) for name, content in parts.items()]
        return b"".join([*members, _member("TRAILER!!!", b"")])

    def _openssl(self, *arguments: str) -> None:
        command = (found("openssl"), *arguments)
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)


def _member(name: str, content: bytes) -> bytes:
    """Returns a member of a cpio archive in the format "newc" with checksums (cpio(5))."""
    numbers = (1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, sum(content))
    fields = "".join(f"{number & 0xFFFFFFFF:08X}" for number in numbers)
    head = f"070702{fields}{name}\0".encode()
    return b"".join(part + b"\0" * (-len(part) % 4) for part in (head, content))


@dataclass(frozen=True)
class Swupdate:
    """Describes a device, whose daemon runs while `running` is entered."""

    folder: Path
    certificate: Path
    url: str
    name: str
    secret: str
    tenant: str = "acme"

    @contextlib.asynccontextmanager
    async def running(self, *options: str) -> AsyncIterator[Path]:
        """Runs the daemon; yields the file of what it says."""
        log = self.folder / f"{self.name}.log"
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
        with log.open("ab") as said:
            process = await asyncio.create_subprocess_exec(
                *command,
                "-u",
                suricatta,
                env={"PATH": os.environ["PATH"], "TMPDIR": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        try:
            yield log
        finally:
            with contextlib.suppress(ProcessLookupError):  # as a device loses its power
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


class Network:
    """Carries connections to a server, whose port may change; it can break off one answer."""

    def __init__(self) -> None:
        self.port_behind: int | None = None
        """The port of the server; None: nobody answers."""
        self.cut_after_bytes: int | None = None
        """Breaks off the next answer that is longer than this, once."""
        self.cuts = 0
        self.url = ""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Network"]:
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if self.port_behind is not None:
                there, back = await asyncio.open_connection("127.0.0.1", self.port_behind)
                ways = {
                    asyncio.create_task(self._pump(reader, back)),
                    asyncio.create_task(self._pump(there, writer, may_cut=True)),
                }
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                back.transport.abort()
        writer.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, may_cut: bool = False
    ) -> None:
        carried = 0
        with contextlib.suppress(ConnectionError):
            while data := await source.read(4096):
                sink.write(data)
                await sink.drain()
                carried += len(data)
                if may_cut and self.cut_after_bytes is not None and carried > self.cut_after_bytes:
                    self.cut_after_bytes, self.cuts = None, self.cuts + 1
                    return
