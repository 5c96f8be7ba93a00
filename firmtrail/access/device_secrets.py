"""Adds, expires and revokes the secrets of devices. Holds all SQL that changes `device_secrets`.

A row is a secret that is valid until `expires_at_ms`, or for ever; a revoked secret has no row. The
row of a strong secret holds its digest: one look-up finds it, and several devices may share it. The
row of a weak secret holds `WEAK` instead of a digest, and a bcrypt hash. A device has at most one
weak secret. The row of a device's own public key holds `KEY` and the SHA-256 of the key instead of
a digest.
"""

import asyncio
from collections.abc import Sequence
from itertools import batched
from typing import NamedTuple

from firmtrail.access import credentials
from firmtrail.access.hashing import THREADS, Hasher, Lane
from firmtrail.database.database import Given, Statement

WEAK = "weak"
KEY = "key:"


class SealedSecret(NamedTuple):
    """Holds a device's new secret in the form in which it is stored."""

    device: str
    secret_id: str
    digest: str
    bcrypt: str | None = None


_INSERT = """\
INSERT INTO device_secrets (digest, project, device, secret_id, bcrypt, created_at_ms)
SELECT given.digest, $1, given.device, given.secret_id, given.bcrypt, $2
FROM given
WHERE TRUE
ON CONFLICT (digest, project, device) DO UPDATE
SET secret_id = excluded.secret_id,
    bcrypt = excluded.bcrypt,
    created_at_ms = excluded.created_at_ms,
    expires_at_ms = NULL"""

_REVOKE = """\
DELETE FROM device_secrets
WHERE project = $1 AND device = $2"""

_REVOKE_PROJECT = "DELETE FROM device_secrets WHERE project = $1"

_KEYS = f"""\
SELECT secret_id
FROM device_secrets
WHERE project = $1 AND device = $2 AND digest LIKE '{KEY}%'"""

_EXPIRE = """\
UPDATE device_secrets
SET expires_at_ms = $3
WHERE project = $1 AND device = $2 AND (expires_at_ms IS NULL OR expires_at_ms > $3)"""


async def seal(
    hasher: Hasher, secrets: Sequence[tuple[str, str]], lane: Lane = "operators"
) -> list[SealedSecret]:
    """Returns (device, secret) pairs in the form in which they are stored, with an id. Hashing a
    weak secret takes 50 ms of processor time, so callers do this before a transaction begins."""
    sealed: list[SealedSecret] = []
    for some in batched(secrets, THREADS):
        sealed += await asyncio.gather(*(_seal(hasher, pair, lane) for pair in some))
    return sealed


def make_secret(device: str) -> tuple[str, SealedSecret]:
    """Returns a new secret, and the form in which it is stored: it is strong, so its digest is."""
    text = credentials.new_secret()
    secret_id = credentials.new_id("k")
    return text, SealedSecret(device, secret_id, credentials.digest(text))


def insert_secrets(project: str, rows: Sequence[SealedSecret], now_ms: int) -> Statement:
    """Adds secrets that never expire; a new weak secret replaces the device's old weak one."""
    # Postgres refuses to update the same row twice in one statement.
    distinct = {(row.device, row.digest): row for row in rows}
    columns = "device text, secret_id text, digest text, bcrypt text"
    return Statement(_INSERT, (project, now_ms), Given(columns, list(distinct.values())))


def revoke_secrets(project: str, device: str, keep_until_ms: int | None = None) -> Statement:
    """Revokes every secret of the device: now, or at a time unless it expires earlier."""
    if keep_until_ms is None:
        return Statement(_REVOKE, (project, device))
    return Statement(_EXPIRE, (project, device, keep_until_ms))


def keys_of(project: str, device: str) -> Statement:
    """Gives (secret_id,) of the device's own keys."""
    return Statement(_KEYS, (project, device))


def revoke_project(project: str) -> Statement:
    """Revokes every secret of a project's devices, which the project's new log does not know."""
    return Statement(_REVOKE_PROJECT, (project,))


async def _seal(hasher: Hasher, named: tuple[str, str], lane: Lane) -> SealedSecret:
    device, text = named
    secret_id = credentials.new_id("k")
    if credentials.is_strong(text):
        return SealedSecret(device, secret_id, credentials.digest(text))
    return SealedSecret(device, secret_id, WEAK, await hasher.hash("device", text, lane))
