"""Writes and verifies checkpoints as signed notes.

A checkpoint is a signed tree head: origin, size and root of a log (C2SP tlog-checkpoint), in the
form of a note signed with Ed25519 (C2SP signed-note). The name of the key is the log's origin, so
an installation's one key has another key id in each of its logs. Signing is deterministic: the same
head gives the same text. Everything here is pure but for the key object. The publisher decides
whether a head may be signed.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = b"\x01"
"""The type of the signature, before the public key (C2SP signed-note)."""

KEY_ID_BYTES = 4
NOTE_BYTES_MAX = 64 * 1024
SIGNATURES_MAX = 64
"""Readers accept 16 at least (C2SP signed-note)."""

_SIGNATURE = re.compile("\u2014 ([^\\s+]+) ([A-Za-z0-9+/]+={0,2})")
_TEXT = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n(?:[^\n]+\n)*")
_NAME = re.compile(r"[^\s+]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class BadNote(Exception):
    """The text is not a checkpoint that this key signed; the message says why."""


class Checkpoint(NamedTuple):
    """Holds the head of a log's tree, and the log's origin."""

    origin: str
    size: int
    root: bytes


class Verifier(NamedTuple):
    """Holds a public key and its name, to verify signatures."""

    name: str
    key_id: bytes
    key: Ed25519PublicKey


def origin(instance: str, project: str, number: int) -> str:
    """Returns the name of a log in its checkpoints. No two logs ever have the same one."""
    return f"{instance}/{project}/{number}"


def verifier(name: str, key: Ed25519PublicKey) -> Verifier:
    return Verifier(name, _key_id(name, key), key)


def _key_id(name: str, key: Ed25519PublicKey) -> bytes:
    return sha256(name.encode() + b"\n" + ED25519 + key.public_bytes_raw()).digest()[:KEY_ID_BYTES]


def key_line(verifier: Verifier) -> str:
    """Returns the verifier key in the form that tools take: "<name>+<key id>+<key>"."""
    key = b64encode(ED25519 + verifier.key.public_bytes_raw()).decode()
    return f"{verifier.name}+{verifier.key_id.hex()}+{key}"


def read_key_line(line: str) -> Verifier:
    """Returns the verifier of a line that `key_line` wrote. Raises `BadNote` for any other text."""
    name, _, rest = line.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        kind_and_key = b64decode(encoded, validate=True)
        found = verifier(name, Ed25519PublicKey.from_public_bytes(kind_and_key[1:]))
    except ValueError as error:
        raise BadNote("this is not an Ed25519 verifier key line") from error
    if kind_and_key[:1] != ED25519 or found.key_id.hex() != key_id or not is_name(name):
        raise BadNote("the key id of the verifier key line does not belong to its name and key")
    return found


def is_name(text: str) -> bool:
    """Returns whether a key may have this name: it has no spaces and no plus signs."""
    return _NAME.fullmatch(text) is not None


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """Returns the checkpoint as a note with one signature, the log's own."""
    text = _text(checkpoint)
    key_id = _key_id(checkpoint.origin, key.public_key())
    signature = b64encode(key_id + key.sign(text.encode())).decode()
    return f"{text}\n\u2014 {checkpoint.origin} {signature}\n"


def _text(checkpoint: Checkpoint) -> str:
    root = b64encode(checkpoint.root).decode()
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n"


def verify_note(note: str, signer: Verifier) -> Checkpoint:
    """Returns the checkpoint of a note that `signer` signed; others may have signed it too. Raises
    `BadNote`. A signature of an unknown key is ignored, a bad one of this key is not."""
    text, signatures = _parts(note)
    known = [
        signature[KEY_ID_BYTES:]
        for name, signature in signatures
        if name == signer.name and signature[:KEY_ID_BYTES] == signer.key_id
    ]
    if not known:
        raise BadNote(f"{signer.name} did not sign it with this key")
    for signature in known:
        try:
            signer.key.verify(signature, text.encode())
        except InvalidSignature as error:
            raise BadNote(f"the signature of {signer.name} is false") from error
    checkpoint = parse(note)
    if checkpoint.origin != signer.name:
        raise BadNote(f"it is a checkpoint of {checkpoint.origin}, not of {signer.name}")
    return checkpoint


def parse(note: str) -> Checkpoint:
    """Returns the checkpoint of a note without verifying any signature. Raises `BadNote`."""
    text, _ = _parts(note)
    found = _TEXT.fullmatch(text)
    if found is None:
        raise BadNote("the note is not a checkpoint")
    return Checkpoint(found[1], int(found[2]), b64decode(found[3]))


def _parts(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Returns the text with its last newline, and each (name, key id and signature)."""
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n") or len(note.encode()) > NOTE_BYTES_MAX:
        raise BadNote("this is not a signed note")
    if _CONTROL.search(note):
        raise BadNote("the note contains control characters")
    signatures = lines.removesuffix("\n").split("\n")
    if len(signatures) > SIGNATURES_MAX:
        raise BadNote(f"a note has at most {SIGNATURES_MAX} signatures")
    return f"{text}\n", [_signature(line) for line in signatures]


def _signature(line: str) -> tuple[str, bytes]:
    found = _SIGNATURE.fullmatch(line)
    try:
        signature = b64decode(found[2], validate=True) if found else b""
    except Base64Error:
        signature = b""
    # The unused last bits of base64 would give one signature several texts.
    is_canonical = found is not None and b64encode(signature).decode() == found[2]
    if found is None or not is_canonical or len(signature) <= KEY_ID_BYTES:
        raise BadNote("a line after the text is not a signature")
    return found[1], signature


def proof_text(index: int, path: Sequence[bytes], note: str) -> str:
    """Returns the offline receipt of an entry: C2SP tlog-proof, with its checkpoint at the end.
    `path` is the audit path of RFC 6962 (2.1.1), the leaf's sibling first."""
    hashes = "".join(f"{b64encode(each).decode()}\n" for each in path)
    return f"c2sp.org/tlog-proof@v1\nindex {index}\n{hashes}\n{note}"
