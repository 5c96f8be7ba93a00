"""Where does the key come from that signs checkpoints? A PEM file (PKCS #8), Ed25519.

One key for an installation, in the form of `openssl genpkey -algorithm ed25519`. The key is secret
and can't be made anew: who loses it can't go on with its logs, so a file is never replaced.
"""

import contextlib
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from firmtrail.database import files


class BadKey(Exception):
    """The file holds no Ed25519 key that can be read."""


def read(path: Path) -> Ed25519PrivateKey:
    """Returns the key of a file. Raises `BadKey`, or OSError where there is none or somebody
    else's."""
    files.check_trusted(path)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise BadKey(f"{path} is no private key without a password, in PEM: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey(f"{path} is a key of another kind than Ed25519")
    return key


def create(path: Path) -> None:
    """A new key in a file that only its owner reads; an existing file stays.

    It appears whole or not at all: a crash leaves no half of a key.
    """
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with files.written(path, pem) as temporary, contextlib.suppress(FileExistsError):
        os.link(temporary, path)
