"""Answers a request that was answered before: Idempotency-Keys of users.

The first answer is kept for 7 days in the very transaction that recorded its events: a request
that failed has kept nothing, a request that was answered is never done again. A rule's no is an
answer too, and kept before it is given. Secrets and tokens are kept nowhere, so they are null when
the answer is given again.

An answer and the digest of its request are personal data where they name a person or hold a free
text. `forget_text` and `forget_person` empty both in the transaction that erases; the key stays
taken, so that the request is not done again.
"""

import asyncio
import contextlib
from typing import Any, NamedTuple, Protocol

import msgspec

from firmtrail.database.database import Database, Row, Statement, Unavailable
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand, Recorder
from firmtrail.rules.device import Refused

KEPT_MS = 7 * 24 * 3600 * 1000
PURGED_ROWS = 100
PURGE_EVERY_S = 600
SHOWN_ONCE = frozenset({"secret", "token"})
KEY_REUSED = "key_reused"
REFUSED_FROM = 400
ERASED = "erased"
"""In the place of a fingerprint: what was kept is erased."""

TEXT_MEMBERS = ("detail", "notes", "reason", "state_reason")
"""The members of answers that hold free text."""


_WAS_ERASED = (
    "The answer that was given for this Idempotency-Key has been erased since, and the request is "
    "not done again. Take a new key."
)


class IdempotencyKey(NamedTuple):
    """Whose key, and for which request: `fingerprint` is a digest of its method, path and body."""

    actor_id: str
    key: str
    fingerprint: str
    about: str | None = None
    """The person whose address the request names, if that is a user's already."""


class CommandAnswer(NamedTuple):
    """An HTTP status and what is shown: a struct, or what it was when it was kept.

    A command's own is below 400: it says no by raising `Refused`, of which `refusal` makes one.
    """

    status: int
    body: Any


class KeptRefusal(msgspec.Struct, frozen=True):
    """What is kept of a rule's refusal, with its status."""

    code: str
    detail: str
    member: str


class StatementRunner(Protocol):
    """A transaction, or a commit in it."""

    async def run(self, *statements: Statement) -> list[list[Row]]: ...


_HOLD = """\
INSERT INTO idempotency_keys (actor_id, key, fingerprint, status, answer, expires_at_ms)
VALUES ($1, $2, '', 0, '', 0)
ON CONFLICT (actor_id, key) DO UPDATE
SET status = idempotency_keys.status"""
"""Who comes second under a key waits for the end of the first one's transaction, and then reads
what it kept. A row that holds and keeps nothing has expired from its beginning."""

_RECALL = """\
SELECT fingerprint, status, answer
FROM idempotency_keys
WHERE actor_id = $1 AND key = $2 AND expires_at_ms > now_ms()"""

_KEEP = """\
INSERT INTO idempotency_keys (
    actor_id, key, fingerprint, about, status, answer, log_id, position, stop, expires_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now_ms() + $10)
ON CONFLICT (actor_id, key) DO UPDATE
SET fingerprint = excluded.fingerprint,
    about = excluded.about,
    status = excluded.status,
    answer = excluded.answer,
    log_id = excluded.log_id,
    position = excluded.position,
    stop = excluded.stop,
    expires_at_ms = excluded.expires_at_ms"""

_SHOWN = " OR ".join(f"replace(answer, ${n}, '') <> answer" for n in range(4, 8))

_FORGET_TEXT = f"""\
UPDATE idempotency_keys
SET fingerprint = '{ERASED}', status = 0, answer = 'null', about = NULL
WHERE (log_id = $1 AND position <= $2 AND stop > $2)
    OR ((log_id IS NULL
            OR log_id IN (SELECT log_heads.log_id FROM log_heads WHERE log_heads.project = $3))
        AND ({_SHOWN}))"""
"""replace() finds a text on both back ends, which have no other function for it in common."""

_FORGET_KEYS_OF = "DELETE FROM idempotency_keys WHERE actor_id = $1"

_FORGET_PERSON = f"""\
UPDATE idempotency_keys
SET fingerprint = '{ERASED}', status = 0, answer = 'null', about = NULL
WHERE about = $1 OR replace(answer, $2, '') <> answer"""

_PURGE = """\
DELETE FROM idempotency_keys
WHERE (actor_id, key) IN (
    SELECT actor_id, key
    FROM idempotency_keys
    WHERE expires_at_ms <= (SELECT now_ms())
    ORDER BY expires_at_ms
    LIMIT $1)
RETURNING key"""

_EXPIRED = """\
SELECT key
FROM idempotency_keys
WHERE expires_at_ms <= (SELECT now_ms())
ORDER BY expires_at_ms
LIMIT 1"""


def answering[T](status: int, command: LogCommand[T]) -> LogCommand[CommandAnswer]:
    """Return a command whose result is the body of an answer with this status."""

    async def answer(commit: Commit) -> CommandAnswer:
        return CommandAnswer(status, await command(commit))

    return answer


async def once(
    recorder: Recorder, log_id: int, key: IdempotencyKey | None, command: LogCommand[CommandAnswer]
) -> CommandAnswer:
    """Run `command` in a commit of its own, or answer a repeated request without doing it again.

    Raises `Refused` as the command does, and as it did; `key_reused` for another request under the
    same key. A refusal undoes its commit, so it is kept in the next: a process that ends between
    the two has answered nobody.
    """
    if key is None:
        return await recorder.act(log_id, command)
    try:
        answer = await recorder.act(log_id, _unless_answered(key, command))
    except Refused as refused:
        if refused.code == KEY_REUSED:
            raise
        answer = await recorder.act(log_id, _unless_answered(key, _saying_no(refused)))
    return allowed(answer)


def _unless_answered(
    key: IdempotencyKey, command: LogCommand[CommandAnswer]
) -> LogCommand[CommandAnswer]:
    async def unless_answered(commit: Commit) -> CommandAnswer:
        known = await recall(commit, key)
        if known is not None:
            return known
        answer = await command(commit)
        await keep(
            commit, key, answer, (commit.draft.log_id, commit.draft.head.size, commit.draft.size)
        )
        return answer

    return unless_answered


def _saying_no(refused: Refused) -> LogCommand[CommandAnswer]:
    async def say_no(_commit: Commit) -> CommandAnswer:
        return refusal(refused)

    return say_no


def refusal(refused: Refused) -> CommandAnswer:
    """A rule's no, as an answer to keep."""
    return CommandAnswer(refused.status, KeptRefusal(refused.code, refused.detail, refused.member))


def allowed(answer: CommandAnswer) -> CommandAnswer:
    """Raises `Refused` where the answer is a rule's no."""
    if answer.status >= REFUSED_FROM:
        no = msgspec.convert(answer.body, KeptRefusal, from_attributes=True)
        raise Refused(no.code, no.detail, answer.status, member=no.member)
    return answer


async def kept(db: Database, key: IdempotencyKey | None) -> CommandAnswer | None:
    """What `once` would answer again, for who has work to do before it: a read, no commit.

    Raises `Refused` as `once` does.
    """
    if key is None:
        return None
    known = _known(await db.read(_recalling(key)), key)
    return None if known is None else allowed(known)


async def recall(tx: StatementRunner, key: IdempotencyKey) -> CommandAnswer | None:
    """Hold the key until the transaction ends, and return the answer kept under it, if there is
    one; `allowed` says whether it is a no."""
    [_, rows] = await tx.run(Statement(_HOLD, (key.actor_id, key.key)), _recalling(key))
    return _known(rows, key)


def _recalling(key: IdempotencyKey) -> Statement:
    return Statement(_RECALL, (key.actor_id, key.key))


def _known(rows: list[Row], key: IdempotencyKey) -> CommandAnswer | None:
    if not rows:
        return None
    [[fingerprint, status, answer]] = rows
    if fingerprint == ERASED:
        raise Refused(KEY_REUSED, _WAS_ERASED)
    if fingerprint != key.fingerprint:
        raise Refused(KEY_REUSED, "This Idempotency-Key was used for another request.")
    return CommandAnswer(status, msgspec.json.decode(answer))


async def keep(
    tx: StatementRunner,
    key: IdempotencyKey,
    answer: CommandAnswer,
    recorded: tuple[int, int, int] | tuple[None, None, None] = (None, None, None),
) -> None:
    """Keep the answer, without what is shown once, and drop some that have expired.

    `recorded` is the log and the positions (start, stop) of the events of the same transaction.
    """
    body = msgspec.json.encode(_without_secrets(msgspec.to_builtins(answer.body))).decode()
    await tx.run(
        Statement(_KEEP, (*key, answer.status, body, *recorded, KEPT_MS)),
        Statement(_PURGE, (PURGED_ROWS,)),
    )


def forget_text(project: str, log_id: int, position: int, text: str) -> Statement:
    """Empty every kept answer of the request that recorded this text, or that shows it."""
    shown = [f'"{name}":{msgspec.json.encode(text).decode()}' for name in TEXT_MEMBERS]
    return Statement(_FORGET_TEXT, (log_id, position, project, *shown))


def forget_person(actor_id: str) -> list[Statement]:
    """Delete the person's own keys, and empty every answer that names the person."""
    return [
        Statement(_FORGET_KEYS_OF, (actor_id,)),
        Statement(_FORGET_PERSON, (actor_id, f'"{actor_id}"')),
    ]


async def purge(db: Database) -> None:
    """Delete what has expired, in short transactions; nothing waits for a lock if there is none."""
    while await db.read(Statement(_EXPIRED)):
        async with db.transaction() as tx:
            await tx.run(Statement(_PURGE, (PURGED_ROWS,)))


async def keep_purging(db: Database) -> None:
    """Purge until cancelled, also where nobody uses a key; a database that is away delays it."""
    while True:
        with contextlib.suppress(Unavailable):  # the rows stay, for the next round
            await purge(db)
        await asyncio.sleep(PURGE_EVERY_S)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    if isinstance(value, dict):
        return {
            name: None if name in SHOWN_ONCE else _without_secrets(member)
            for name, member in value.items()
        }
    return value
