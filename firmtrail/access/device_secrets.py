"""Which secrets does a device have? All SQL that changes `device_secrets`.

A row is a secret that is valid until `expires_at_ms`, or for ever; a dead one has no row. A strong
secret's row has its digest, so one look-up finds it, and devices may share it. A weak one's has
`WEAK` in its place and a bcrypt hash: a device has at most one.
"""

import asyncio
from collections.abc import Sequence
from itertools import batched
from typing import NamedTuple

from firmtrail.access import credentials
from firmtrail.access.hashing import THREADS, Hasher, Lane
from firmtrail.database.database import Given, Statement

WEAK = "weak"


class NewSecret(NamedTuple):
    """A secret as it is kept."""

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

_EXPIRE = """\
UPDATE device_secrets
SET expires_at_ms = $3
WHERE project = $1 AND device = $2 AND (expires_at_ms IS NULL OR expires_at_ms > $3)"""


async def seal(
    hasher: Hasher, secrets: Sequence[tuple[str, str]], lane: Lane = "operators"
) -> list[NewSecret]:
    """Bring (device, secret) pairs into the form in which they are kept; each gets its id.

    A weak secret costs 50 ms of a processor, so this happens before a transaction begins.
    """
    sealed: list[NewSecret] = []
    for some in batched(secrets, THREADS):
        sealed += await asyncio.gather(*(_seal(hasher, pair, lane) for pair in some))
    return sealed


def insert_secrets(project: str, rows: Sequence[NewSecret], now_ms: int) -> Statement:
    """Add secrets, which never expire; the weak secret of a device replaces the one it had."""
    # No row twice: Postgres refuses to update the same one again.
    distinct = {(row.device, row.digest): row for row in rows}
    columns = "device text, secret_id text, digest text, bcrypt text"
    return Statement(_INSERT, (project, now_ms), Given(columns, list(distinct.values())))


def revoke_secrets(project: str, device: str, keep_until_ms: int | None = None) -> Statement:
    """Kill every secret that the device has: at once, or at a time (never later than it was to)."""
    if keep_until_ms is None:
        return Statement(_REVOKE, (project, device))
    return Statement(_EXPIRE, (project, device, keep_until_ms))


def revoke_project(project: str) -> Statement:
    """Kill every secret of a project's devices: its new log does not know them."""
    return Statement(_REVOKE_PROJECT, (project,))


async def _seal(hasher: Hasher, named: tuple[str, str], lane: Lane) -> NewSecret:
    device, text = named
    secret_id = credentials.new_id("k")
    if credentials.is_strong(text):
        return NewSecret(device, secret_id, credentials.digest(text))
    return NewSecret(device, secret_id, WEAK, await hasher.hash("device", text, lane))
