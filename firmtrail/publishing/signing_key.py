"""Reads and creates the file of the key that signs checkpoints: PEM (PKCS #8), Ed25519.

An installation has one key, in the form of `openssl genpkey -algorithm ed25519`. The key is secret
and can't be made again: without it no log can be continued. So a file is never replaced.
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
    """The file contains no Ed25519 key that can be read."""


def read(path: Path) -> Ed25519PrivateKey:
    """Returns the key of a file. Raises `BadKey`, or OSError where there is no file, or where it
    belongs to another user."""
    files.check_trusted(path)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise BadKey(f"{path} is not a private key in PEM without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey(f"{path} is a private key, but not an Ed25519 key")
    return key


def create(path: Path) -> None:
    """Creates a new key in a file that only its owner can read. An existing file stays. The file
    appears whole or not at all: a crash leaves no part of a key."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with files.temporary_file(path, pem) as temporary, contextlib.suppress(FileExistsError):
        os.link(temporary, path)
