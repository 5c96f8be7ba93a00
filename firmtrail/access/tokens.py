"""Which tokens are there? All SQL that changes `tokens`.

A login's token has no project: it acts with the member's role wherever its holder is one. An API
token has a project and a role, and never may more than its holder. A revoked token keeps its row,
so that its id in the log can be told; an erased user's tokens have none.
"""

from typing import NamedTuple

from firmtrail.access import credentials
from firmtrail.access.roles import Role
from firmtrail.eventstore.database import Database, Statement


class Token(NamedTuple):
    """An API token as its holder may see it; the text itself is nowhere."""

    token_id: str
    name: str
    project: str
    role: Role
    created_at_ms: int
    expires_at_ms: int | None


class Scope(NamedTuple):
    """Where a token is good, and up to which role; both None for a login's."""

    project: str | None
    role: Role | None


class Rights(NamedTuple):
    """What a token may in a project, both roles to be had: see `roles.effective`."""

    member_role: Role
    token_role: Role | None


_INSERT = """\
INSERT INTO tokens (
    digest, token_id, actor_id, project, role, name, created_at_ms, expires_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"""

_INSERT_LOGIN = """\
INSERT INTO tokens (digest, token_id, actor_id, name, created_at_ms, expires_at_ms)
VALUES ($1, $2, $3, 'login', $4, $5)"""

_REVOKE = """\
UPDATE tokens
SET revoked_at_ms = $3
WHERE project = $1 AND token_id = $2 AND revoked_at_ms IS NULL
RETURNING token_id"""

_REVOKE_ALL = """\
UPDATE tokens
SET revoked_at_ms = $3
WHERE project = $1 AND actor_id = $2 AND revoked_at_ms IS NULL
RETURNING token_id"""

_FORGET = "DELETE FROM tokens WHERE actor_id = $1"

_FORGET_LOGINS = "DELETE FROM tokens WHERE actor_id = $1 AND project IS NULL"

_FORGET_EXPIRED_LOGINS = f"{_FORGET_LOGINS} AND expires_at_ms <= $2"

_OF_ACTOR = """\
FROM tokens
WHERE actor_id = $1 AND revoked_at_ms IS NULL AND project = coalesce(CAST($2 AS text), project)"""

_PAGE = f"""\
SELECT token_id, name, project, role, created_at_ms, expires_at_ms
{_OF_ACTOR} AND token_id > $3
ORDER BY token_id
LIMIT $4"""

_ONE = f"""\
SELECT token_id, name, project, role, created_at_ms, expires_at_ms
{_OF_ACTOR} AND token_id = $3"""

_COUNT = f"SELECT count(*) {_OF_ACTOR}"

_SCOPE = "SELECT project, role FROM tokens WHERE token_id = $1"

_RIGHTS = """\
SELECT members.role, tokens.role
FROM tokens
JOIN members ON members.actor_id = tokens.actor_id
WHERE tokens.token_id = $1
    AND members.project = $2
    AND members.role IS NOT NULL
    AND coalesce(tokens.project, $2) = $2"""


def insert(token: Token, actor_id: str, text: str) -> Statement:
    """Keep an API token of this user by its digest."""
    return Statement(
        _INSERT,
        (
            credentials.digest(text),
            token.token_id,
            actor_id,
            token.project,
            token.role,
            token.name,
            token.created_at_ms,
            token.expires_at_ms,
        ),
    )


def insert_login(actor_id: str, text: str, now_ms: int, expires_at_ms: int) -> Statement:
    """Keep a login's token by its digest."""
    token_id = credentials.new_id("t")
    args = (credentials.digest(text), token_id, actor_id, now_ms, expires_at_ms)
    return Statement(_INSERT_LOGIN, args)


def revoke(project: str, token_id: str, now_ms: int) -> Statement:
    """Kill a token; gives a row if it lived."""
    return Statement(_REVOKE, (project, token_id, now_ms))


def revoke_all(project: str, actor_id: str, now_ms: int) -> Statement:
    """Kill a user's tokens of a project; gives their ids."""
    return Statement(_REVOKE_ALL, (project, actor_id, now_ms))


def forget(actor_id: str) -> Statement:
    """Delete all of a user's tokens, logins too."""
    return Statement(_FORGET, (actor_id,))


def forget_logins(actor_id: str) -> Statement:
    """End a user's logins."""
    return Statement(_FORGET_LOGINS, (actor_id,))


def forget_expired_logins(actor_id: str, now_ms: int) -> Statement:
    """Delete what is left of a user's past logins."""
    return Statement(_FORGET_EXPIRED_LOGINS, (actor_id, now_ms))


async def page(
    db: Database, actor_id: str, project: str | None, *, after: str = "", limit: int
) -> list[Token]:
    """Return a user's living API tokens, oldest first; of one project, or with None of all."""
    rows = await db.read(Statement(_PAGE, (actor_id, project, after, limit)))
    return [Token(*row) for row in rows]


async def count(db: Database, actor_id: str, project: str | None) -> int:
    """Return how many `page` gives in all."""
    [[tokens]] = await db.read(Statement(_COUNT, (actor_id, project)))
    return int(tokens)


async def one(db: Database, actor_id: str, project: str | None, token_id: str) -> Token | None:
    """Return one of those that `page` gives."""
    rows = await db.read(Statement(_ONE, (actor_id, project, token_id)))
    return Token(*rows[0]) if rows else None


async def scope(db: Database, token_id: str) -> Scope:
    """Return where a token is good."""
    [row] = await db.read(Statement(_SCOPE, (token_id,)))
    return Scope(*row)


async def rights(db: Database, token_id: str, project: str) -> Rights | None:
    """Return what a token may in a project; None if it is not for it, or its holder no member."""
    rows = await db.read(Statement(_RIGHTS, (token_id, project)))
    return Rights(*rows[0]) if rows else None
