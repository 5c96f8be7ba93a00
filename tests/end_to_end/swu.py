"""Makes images that Debian's swupdate installs: signed by a key that is thrown away."""

import subprocess
from hashlib import sha256
from pathlib import Path

HARDWARE = "test:1.0"
_DESCRIPTION = """\
software = {{
    version = "{version}";
    hardware-compatibility: [ "1.0" ];
    files: ( {{ filename = "payload"; path = "{target}"; sha256 = "{digest}"; }} );
}};
"""
_NEW_KEY = "req -x509 -newkey rsa:2048 -nodes -subj /CN=test -addext keyUsage=digitalSignature"
_SIGN = "cms -sign -outform DER -nosmimecap -binary"


class Signer:
    """Signs images; `certificate` is the one that swupdate gets with -k."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, folder / "key.pem"
        self.certificate = folder / "certificate.pem"
        purpose = ("-addext", "extendedKeyUsage=emailProtection")
        _openssl(*_NEW_KEY.split(), *purpose, "-keyout", self._key, "-out", self.certificate)

    def image(self, version: str, payload: bytes, target: Path) -> bytes:
        """Returns an image that writes the payload to `target`."""
        digest = sha256(payload).hexdigest()
        text = _DESCRIPTION.format(version=version, target=target, digest=digest).encode()
        described, signed = self._folder / "sw-description", self._folder / "signature"
        described.write_bytes(text)
        names = ("-in", described, "-out", signed, "-signer", self.certificate, "-inkey", self._key)
        _openssl(*_SIGN.split(), *names)
        members = {
            "sw-description": text,
            "sw-description.sig": signed.read_bytes(),
            "payload": payload,
            "TRAILER!!!": b"",
        }
        return b"".join(_member(name, data) for name, data in members.items())


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["/usr/bin/openssl", *arguments], check=True, capture_output=True)


def _member(name: str, data: bytes) -> bytes:
    """Returns a member of a cpio archive of the form "crc" (cpio(5))."""
    numbers = (1, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, sum(data))
    head = "070702" + "".join(f"{number & 0xFFFFFFFF:08x}" for number in numbers)
    return _padded(f"{head}{name}\0".encode()) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
