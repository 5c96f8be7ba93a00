"""Checkpoints and their signatures are those of C2SP, byte for byte, and all others are refused."""

import json
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmtrail.publishing import checkpoint
from firmtrail.publishing.checkpoint import BadNote, Checkpoint

VECTORS = json.loads((Path(__file__).parent / "data" / "tlog-vectors.json").read_text())
NAME = "fleetlog.example/log1"
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["seed"]))
VERIFIER = checkpoint.verifier(NAME, KEY.public_key())
NOTES = {0: VECTORS["checkpoint_0"], 3: VECTORS["checkpoint_3"]}
OTHER = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)


def head(size: int) -> Checkpoint:
    return Checkpoint(NAME, size, bytes.fromhex(VECTORS["root"][str(size)]))


def signature_of(note: str) -> str:
    return note.rpartition("\n\n")[2]


@pytest.mark.parametrize("size", NOTES)
def test_a_signed_checkpoint_equals_its_test_vector(size: int) -> None:
    assert checkpoint.sign(head(size), KEY) == NOTES[size]
    assert checkpoint.verify_note(NOTES[size], VERIFIER) == head(size)


def test_a_key_line_equals_its_test_vector() -> None:
    assert checkpoint.key_line(VERIFIER) == VECTORS["vkey"]
    assert VERIFIER.key_id.hex() == VECTORS["key_id"]
    assert checkpoint.key_line(checkpoint.read_key_line(f"{VECTORS['vkey']}\n")) == VECTORS["vkey"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        NAME,
        f"{NAME}+ee4ba82e",
        VECTORS["vkey"].replace("ee4ba82e", "ee4ba82f"),
        VECTORS["vkey"].replace("log1", "log2"),
        VECTORS["vkey"].replace("log1", "log 1"),
        VECTORS["vkey"].replace("+AQ", "+Ag"),
        VECTORS["vkey"][:-4],
        VECTORS["vkey"] + "é",
    ],
)
def test_a_text_that_is_not_a_key_line_is_refused(line: str) -> None:
    with pytest.raises(BadNote):
        checkpoint.read_key_line(line)


def test_signatures_of_others_are_ignored() -> None:
    other = signature_of(checkpoint.sign(head(3), OTHER))
    witness = signature_of(checkpoint.sign(head(3)._replace(origin="witness"), OTHER))
    lines = f"{witness}{other}" * 8
    assert checkpoint.verify_note(NOTES[3] + lines, VERIFIER) == head(3)


def test_a_note_with_a_false_signature_of_the_key_is_refused() -> None:
    false = bytearray(b64decode(NOTES[3].split()[-1]))
    false[-1] ^= 1
    line = f"\u2014 {NAME} {b64encode(false).decode()}\n"
    with pytest.raises(BadNote, match="false"):
        checkpoint.verify_note(NOTES[3] + line, VERIFIER)


def test_a_note_that_the_key_did_not_sign_is_refused() -> None:
    for note in (
        checkpoint.sign(head(3), OTHER),
        checkpoint.sign(head(3)._replace(origin="other"), KEY),
    ):
        with pytest.raises(BadNote, match="did not sign"):
            checkpoint.verify_note(note, VERIFIER)


def test_a_checkpoint_must_have_the_origin_that_signs_it() -> None:
    text = f"other\n3\n{b64encode(head(3).root).decode()}\n"
    signature = b64encode(VERIFIER.key_id + KEY.sign(text.encode())).decode()
    with pytest.raises(BadNote, match="it is a checkpoint of other"):
        checkpoint.verify_note(f"{text}\n\u2014 {NAME} {signature}\n", VERIFIER)


@pytest.mark.parametrize("at", range(len(NOTES[3].encode())))
def test_a_note_with_any_byte_changed_is_refused(at: int) -> None:
    note = NOTES[3].encode()
    for flipped in range(1, 256):
        changed = note[at] ^ flipped
        broken = (note[:at] + bytes([changed]) + note[at + 1 :]).decode(errors="replace")
        with pytest.raises(BadNote):
            checkpoint.verify_note(broken, VERIFIER)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        NOTES[3].removesuffix("\n"),
        NOTES[3].replace("\n\n", "\n"),
        NOTES[3].replace("\n3\n", "\n03\n"),
        NOTES[3].replace("\n3\n", "\n-3\n"),
        NOTES[3].replace("\n3\n", "\r\n3\n"),
        NOTES[3].replace("rra8/", "rra8"),
        NOTES[3].replace("bnc=\n", "bnc=\n\n"),
        NOTES[3] + "not a signature\n",
        NOTES[3] + "\u2014 a+b AAAAAAAA\n",
        NOTES[3] + "\u2014 name AAAA\n",
        NOTES[3] + f"\u2014 name {'A' * 8}\n" * checkpoint.SIGNATURES_MAX,
    ],
)
def test_a_note_that_is_not_a_checkpoint_is_refused(note: str) -> None:
    with pytest.raises(BadNote):
        checkpoint.parse(note)


def test_a_proof_text_consists_of_the_path_and_the_checkpoint() -> None:
    path = [bytes.fromhex(each) for each in VECTORS["inclusion"]["2/3"]]
    assert checkpoint.proof_text(2, path, NOTES[3]) == (
        f"c2sp.org/tlog-proof@v1\nindex 2\n{b64encode(path[0]).decode()}\n\n{NOTES[3]}"
    )
    assert checkpoint.proof_text(0, [], NOTES[3]) == (
        f"c2sp.org/tlog-proof@v1\nindex 0\n\n{NOTES[3]}"
    )
