"""How do credentials and ids look, and in what form are they kept?

What we issue carries 256 random bits and a prefix that secret scanners find. Only its SHA-256 is
kept, so presenting it costs one look-up by digest. A shorter text without our prefix may be weak:
it is kept as bcrypt (hashing.py) and compared for the device or user it is presented for.
"""

import secrets
from hashlib import sha256
from typing import Literal
from uuid import uuid4

import uuid_utils

DEVICE_PREFIX = "fts_"
TOKEN_PREFIX = "ftt_"  # noqa: S105 (the prefix of tokens, not a token)
STRONG_CHARACTERS_MIN = 32
RANDOM_BYTES = 32


def new_secret() -> str:
    """A device's secret."""
    return DEVICE_PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def new_token() -> str:
    """A login or API token."""
    return TOKEN_PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def new_id(prefix: Literal["u", "t", "k", "r", "q"]) -> str:
    """Return an id that is never used twice: u for users, t for tokens and logins, k for device
    secrets, r for rollouts, q for questions.

    An id of a person or a credential is random: it does not show when it was made. Rollouts and
    questions are seen by members alone, and their ids sort by time.
    """
    made = uuid_utils.uuid7().hex if prefix in {"r", "q"} else uuid4().hex
    return f"{prefix}_{made}"


def is_strong(text: str) -> bool:
    """Whether a presented text is looked up by its digest; else it is one for bcrypt."""
    return len(text) >= STRONG_CHARACTERS_MIN or text.startswith((DEVICE_PREFIX, TOKEN_PREFIX))


def digest(text: str) -> str:
    """The form in which a strong credential is kept."""
    return sha256(text.encode(errors="surrogateescape")).hexdigest()
