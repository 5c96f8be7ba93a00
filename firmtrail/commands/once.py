"""Was this request already answered? Idempotency-Keys of users.

The first answer is kept for 7 days in the very transaction that recorded its events: a request
that failed has kept nothing, a request that was answered is never done again. Secrets and tokens
are kept nowhere, so they are null when the answer is given again.
"""

from typing import Any, NamedTuple, Protocol

import msgspec

from firmtrail.commit import Commit
from firmtrail.device import Refused
from firmtrail.eventstore.database import Row, Statement
from firmtrail.record import Command

KEPT_MS = 7 * 24 * 3600 * 1000
PURGED_ROWS = 100
SHOWN_ONCE = frozenset({"secret", "token"})


class IdempotencyKey(NamedTuple):
    """Whose key, and for which request: `fingerprint` is a digest of its method, path and body."""

    actor_id: str
    key: str
    fingerprint: str


class Answer(NamedTuple):
    """An HTTP status and what is shown: a struct, or what it was when it was kept."""

    status: int
    body: Any


class Runner(Protocol):
    """A transaction, or a commit in it."""

    async def run(self, *statements: Statement) -> list[list[Row]]: ...


_RECALL = """\
SELECT fingerprint, status, answer
FROM idempotency_keys
WHERE actor_id = $1 AND key = $2 AND expires_at_ms > now_ms()"""

_KEEP = """\
INSERT INTO idempotency_keys (actor_id, key, fingerprint, status, answer, expires_at_ms)
VALUES ($1, $2, $3, $4, $5, now_ms() + $6)
ON CONFLICT (actor_id, key) DO UPDATE
SET fingerprint = excluded.fingerprint,
    status = excluded.status,
    answer = excluded.answer,
    expires_at_ms = excluded.expires_at_ms"""

_PURGE = """\
DELETE FROM idempotency_keys
WHERE (actor_id, key) IN (
    SELECT actor_id, key
    FROM idempotency_keys
    WHERE expires_at_ms <= (SELECT now_ms())
    ORDER BY expires_at_ms
    LIMIT $1)"""


def answering[T](status: int, command: Command[T]) -> Command[Answer]:
    """Return a command whose result is the body of an answer with this status."""

    async def answer(commit: Commit) -> Answer:
        return Answer(status, await command(commit))

    return answer


def once(key: IdempotencyKey | None, command: Command[Answer]) -> Command[Answer]:
    """Return a command that answers a repeated request without doing it again.

    Raises `Refused("key_reused")` for another request under the same key.
    """
    if key is None:
        return command

    async def unless_answered(commit: Commit) -> Answer:
        known = await recall(commit, key)
        if known is not None:
            return known
        answer = await command(commit)
        await keep(commit, key, answer)
        return answer

    return unless_answered


async def recall(tx: Runner, key: IdempotencyKey) -> Answer | None:
    """Return the answer kept under the key, if there is one."""
    [rows] = await tx.run(Statement(_RECALL, (key.actor_id, key.key)))
    if not rows:
        return None
    [[fingerprint, status, answer]] = rows
    if fingerprint != key.fingerprint:
        raise Refused("key_reused", "This Idempotency-Key was used for another request.")
    return Answer(status, msgspec.json.decode(answer))


async def keep(tx: Runner, key: IdempotencyKey, answer: Answer) -> None:
    """Keep the answer, without what is shown once, and drop some that have expired."""
    body = msgspec.json.encode(_without_secrets(msgspec.to_builtins(answer.body))).decode()
    await tx.run(
        Statement(_KEEP, (*key, answer.status, body, KEPT_MS)), Statement(_PURGE, (PURGED_ROWS,))
    )


def _without_secrets(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    if isinstance(value, dict):
        return {
            name: None if name in SHOWN_ONCE else _without_secrets(member)
            for name, member in value.items()
        }
    return value
