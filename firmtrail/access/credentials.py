"""Makes credentials and ids, and decides in what form a credential is stored.

An issued credential has 256 random bits and a prefix that secret scanners recognise. Only its
SHA-256 is stored, so checking it costs one look-up by digest. A shorter text without such a prefix
may be weak: it is stored as a bcrypt hash (hashing.py) and compared with the hash of the device or
user that it is presented for.
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
    """Returns a new secret for a device."""
    return DEVICE_PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def new_token() -> str:
    """Returns the text of a new login or API token."""
    return TOKEN_PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def new_session() -> str:
    """Returns the text of a new session's cookie, or of a link that begins one."""
    return secrets.token_urlsafe(RANDOM_BYTES)


def new_id(prefix: Literal["u", "t", "k", "r", "q", "a", "w"]) -> str:
    """Returns a new id: u for users, t for tokens and logins, k for device secrets, r for rollouts,
    q for asks, a for announced artifacts, w for webhooks. Ids of people, credentials, artifacts and
    webhooks are random, so they do not show when they were made."""
    made = uuid_utils.uuid7().hex if prefix in {"r", "q"} else uuid4().hex
    return f"{prefix}_{made}"


def is_strong(text: str) -> bool:
    """Returns whether a text is looked up by its digest, and not compared with a bcrypt hash."""
    return len(text) >= STRONG_CHARACTERS_MIN or text.startswith((DEVICE_PREFIX, TOKEN_PREFIX))


def digest(text: str) -> str:
    """Returns the form in which a strong credential is stored."""
    return sha256(text.encode(errors="surrogateescape")).hexdigest()
