"""Gives a repeated request the answer of the first one: Idempotency-Keys of users.

The first answer is kept for `KEPT_MS`, in the very transaction that recorded its events: a request
that failed has kept nothing, and a request that was answered is never done again. A refusal by a
rule is an answer too, and is kept before it is given. Secrets and tokens are never kept, so they
are null when the answer is given again.

An answer and the digest of its request are personal data if they name a person or contain a free
text. `forget_text` and `forget_person` empty both in the transaction that erases; the key stays
taken, so that the request is not done again.
"""

import asyncio
import contextlib
from typing import Any, NamedTuple, Protocol

import msgspec

from firmtrail.database.database import Database, Row, Statement, Unavailable
from firmtrail.events.times import DAY_MS
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand, Recorder
from firmtrail.rules.device import Refused

KEPT_MS = 7 * DAY_MS
PURGED_ROWS = 100
PURGE_EVERY_S = 600
SHOWN_ONCE = frozenset({"secret", "token"})
KEY_REUSED = "key_reused"
REFUSED_FROM = 400
ERASED = "erased"
"""Replaces the fingerprint of an answer that was erased."""

TEXT_MEMBERS = ("detail", "notes", "reason", "state_reason")
"""The members of answers that contain free text."""


_WAS_ERASED = (
    "The answer that was given for this Idempotency-Key was erased since, and the request is not "
    "done again. Use a new key."
)


class IdempotencyKey(NamedTuple):
    """Names a user's key and its request: `fingerprint` is a digest of method, path and body."""

    actor_id: str
    key: str
    fingerprint: str
    about: str | None = None
    """The person whose address the request names, if that person is a user already."""


class CommandAnswer(NamedTuple):
    """Holds an HTTP status and a body: a struct, or the kept JSON of one. A status from 400 on is a
    refusal that is kept: a command refuses by raising `Refused`."""

    status: int
    body: Any


class KeptRefusal(msgspec.Struct, frozen=True):
    """Holds the members of a rule's refusal that are kept, next to its status."""

    code: str
    detail: str
    member: str


class StatementRunner(Protocol):
    """Runs statements: a transaction, or a commit in it."""

    async def run(self, *statements: Statement) -> list[list[Row]]: ...


_LOCK = """\
INSERT INTO idempotency_keys (actor_id, key, fingerprint, status, answer, expires_at_ms)
VALUES ($1, $2, '', 0, '', 0)
ON CONFLICT (actor_id, key) DO UPDATE
SET status = idempotency_keys.status"""
"""A second request with the same key waits for the first one's transaction, then reads its answer.
A row that only locks the key and keeps no answer has expired from the beginning."""

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
"""replace() is the one function that finds a text on both back ends."""

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
    """Returns a command whose result is the body of an answer with this status."""

    async def answer(commit: Commit) -> CommandAnswer:
        return CommandAnswer(status, await command(commit))

    return answer


async def once(
    recorder: Recorder, log_id: int, key: IdempotencyKey | None, command: LogCommand[CommandAnswer]
) -> CommandAnswer:
    """Runs `command` in a commit of its own, or answers a repeated request without doing it again.

    Raises `Refused` as the command does or did, and with `key_reused` for another request under the
    same key. A refusal undoes its commit, so it is kept in the next commit: a process that ends
    between the two has given no answer.
    """
    if key is None:
        return await recorder.act(log_id, command)
    try:
        answer = await recorder.act(log_id, _unless_answered(key, command))
    except Refused as refused:
        if refused.code == KEY_REUSED:
            raise
        answer = await recorder.act(log_id, _unless_answered(key, _refusing(refused)))
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


def _refusing(refused: Refused) -> LogCommand[CommandAnswer]:
    async def refuse(_commit: Commit) -> CommandAnswer:
        return refusal(refused)

    return refuse


def refusal(refused: Refused) -> CommandAnswer:
    """Returns a rule's refusal as an answer to keep."""
    return CommandAnswer(refused.status, KeptRefusal(refused.code, refused.detail, refused.member))


def allowed(answer: CommandAnswer) -> CommandAnswer:
    """Returns the answer. Raises `Refused` if it is a rule's refusal."""
    if answer.status >= REFUSED_FROM:
        kept = msgspec.convert(answer.body, KeptRefusal, from_attributes=True)
        raise Refused(kept.code, kept.detail, answer.status, member=kept.member)
    return answer


async def kept(db: Database, key: IdempotencyKey | None) -> CommandAnswer | None:
    """Returns the answer stored for this key, if any. It reads only, and lets a caller skip costly
    work before `once`. Raises `Refused` as `once` does.
    """
    if key is None:
        return None
    known = _known(await db.read(_recalling(key)), key)
    return None if known is None else allowed(known)


async def recall(tx: StatementRunner, key: IdempotencyKey) -> CommandAnswer | None:
    """Locks the key until the transaction ends, and returns the answer stored for it, if any;
    `allowed` shows whether that is a refusal."""
    [_, rows] = await tx.run(Statement(_LOCK, (key.actor_id, key.key)), _recalling(key))
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
    """Keeps the answer, without the members that are shown once, and deletes some expired ones.
    `recorded` is the log and the positions (start, stop) of the events of the same transaction."""
    body = msgspec.json.encode(_without_secrets(msgspec.to_builtins(answer.body))).decode()
    await tx.run(
        Statement(_KEEP, (*key, answer.status, body, *recorded, KEPT_MS)),
        Statement(_PURGE, (PURGED_ROWS,)),
    )


def forget_text(project: str, log_id: int, position: int, text: str) -> Statement:
    """Empties every kept answer of the request that recorded this text, or that shows it."""
    shown = [f'"{name}":{msgspec.json.encode(text).decode()}' for name in TEXT_MEMBERS]
    return Statement(_FORGET_TEXT, (log_id, position, project, *shown))


def forget_person(actor_id: str) -> list[Statement]:
    """Deletes the person's own keys, and empties every answer that names the person."""
    return [
        Statement(_FORGET_KEYS_OF, (actor_id,)),
        Statement(_FORGET_PERSON, (actor_id, f'"{actor_id}"')),
    ]


async def purge(db: Database) -> None:
    """Deletes expired answers in short transactions; takes no lock if there are none."""
    while await db.read(Statement(_EXPIRED)):
        async with db.transaction() as tx:
            await tx.run(Statement(_PURGE, (PURGED_ROWS,)))


async def keep_purging(db: Database) -> None:
    """Purges until it is cancelled, even if no key is used; a database that is away delays it."""
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
