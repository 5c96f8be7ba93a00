"""Begins, lists and ends logins: tokens of a person that belong to no project.

A login acts with its holder's role wherever they are a member. A session of a browser is a login,
too (sessions.py).
"""

from typing import NamedTuple

from firmtrail.access import credentials, sessions
from firmtrail.database.database import Reader, Statement
from firmtrail.events.times import DAY_MS

LOGIN_MS = DAY_MS
"""The lifetime of a login."""


class LoginSession(NamedTuple):
    """Describes a login to its holder."""

    token_id: str
    created_at_ms: int
    expires_at_ms: int
    used_at_ms: int | None
    """The last use of a browser's session; None: the login is a token of the API."""


_INSERT_LOGIN = """\
INSERT INTO tokens (digest, token_id, actor_id, name, created_at_ms, expires_at_ms)
VALUES ($1, $2, $3, 'login', $4, $5)"""

_END_LOGIN = """\
DELETE FROM tokens
WHERE token_id = $1 AND actor_id = $2 AND project IS NULL
RETURNING token_id"""

_END_LOGIN_OF_MEMBER = """\
DELETE FROM tokens
WHERE token_id = $1
    AND project IS NULL
    AND actor_id IN (
        SELECT members.actor_id
        FROM members
        WHERE members.project = $2 AND members.role IS NOT NULL)
RETURNING token_id"""

_FORGET_LOGINS = "DELETE FROM tokens WHERE actor_id = $1 AND project IS NULL"

_FORGET_EXPIRED_LOGINS = f"""\
{_FORGET_LOGINS} AND (expires_at_ms <= $2 OR used_at_ms <= $2 - {sessions.IDLE_MS})"""

_LOGINS = f"""\
SELECT token_id, created_at_ms, expires_at_ms, used_at_ms
FROM tokens
WHERE actor_id = $1
    AND project IS NULL
    AND expires_at_ms > $2
    AND (used_at_ms IS NULL OR used_at_ms > $2 - {sessions.IDLE_MS})
    AND token_id > $3
ORDER BY token_id
LIMIT $4"""


def insert_login(actor_id: str, text: str, now_ms: int, expires_at_ms: int) -> Statement:
    """Stores a login's token by its digest."""
    token_id = credentials.new_id("t")
    args = (credentials.digest(text), token_id, actor_id, now_ms, expires_at_ms)
    return Statement(_INSERT_LOGIN, args)


def end_login(actor_id: str, token_id: str) -> Statement:
    """Ends one login of a user; gives a row if there was one."""
    return Statement(_END_LOGIN, (token_id, actor_id))


def end_login_of_member(project: str, token_id: str) -> Statement:
    """Ends a login of one of the project's members; gives a row if there was one."""
    return Statement(_END_LOGIN_OF_MEMBER, (token_id, project))


def forget_logins(actor_id: str) -> Statement:
    """Ends all logins of a user."""
    return Statement(_FORGET_LOGINS, (actor_id,))


def begin_login(actor_id: str, text: str, now_ms: int) -> list[Statement]:
    """Stores a new login's token, which is valid for `LOGIN_MS`, and deletes expired ones."""
    expires_at_ms = now_ms + LOGIN_MS
    return [
        forget_expired_logins(actor_id, now_ms),
        insert_login(actor_id, text, now_ms, expires_at_ms),
    ]


def forget_expired_logins(actor_id: str, now_ms: int) -> Statement:
    """Deletes the rows of a user's expired logins."""
    return Statement(_FORGET_EXPIRED_LOGINS, (actor_id, now_ms))


async def living(
    db: Reader, actor_id: str, now_ms: int, *, after: str = "", limit: int
) -> list[LoginSession]:
    """Returns a user's living logins, ordered by id."""
    rows = await db.read(Statement(_LOGINS, (actor_id, now_ms, after, limit)))
    return [LoginSession(*row) for row in rows]
