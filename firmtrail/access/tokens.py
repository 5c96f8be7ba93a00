"""Lists, issues and ends API tokens, and deletes those of a user. Holds all SQL that changes
`tokens`, except that of logins (logins.py) and of browsers' sessions (sessions.py).

A login's token has no project: it acts with the member's role wherever its holder is a member. An
API token has a project and a role, and may never do more than its holder. A token that an API token
issued names that token in `issued_by`: it expires no later, and revoking the issuer ends both. So
an expired or revoked token has no living descendant, and finding a token never needs its issuer. A
token that a login issued outlives the login.

A revoked token keeps its row, so that its id in the log can be explained. A login that ended and
the tokens of an erased user have no row.
"""

from collections.abc import Iterable
from typing import NamedTuple

from firmtrail.access import credentials, sessions
from firmtrail.access.roles import Role
from firmtrail.database.database import Database, Given, Reader, Row, Statement


class Token(NamedTuple):
    """Describes an API token to its holder; the text of the token is stored nowhere."""

    token_id: str
    name: str
    project: str
    role: Role
    created_at_ms: int
    expires_at_ms: int | None
    issued_by: str | None = None
    """The API token that issued it; None if a login or the operator of the service did."""
    registers: bool = False
    """Whether it registers the unknown devices that it names; stored as 0 or 1."""
    model: str | None = None
    """The model of these devices."""
    registers_max: int | None = None
    registered: int = 0
    """How many it has registered, of at most `registers_max`."""


class MemberToken(NamedTuple):
    """Describes a member's living token or login to an admin of the project."""

    token_id: str
    name: str
    role: Role | None
    """None: a login, which has its holder's role."""
    created_at_ms: int
    expires_at_ms: int | None
    issued_by: str | None
    actor_id: str
    email: str | None


class NamedToken(NamedTuple):
    """Holds the name of a token, and the address of its holder, if that has one."""

    name: str
    email: str | None


class Issuer(NamedTuple):
    """Holds the limits of the tokens that an API token issues."""

    role: Role
    expires_at_ms: int | None


class Scope(NamedTuple):
    """Holds the project of a token and the most that its role allows; None, None for a login."""

    project: str | None
    role: Role | None


class Rights(NamedTuple):
    """Holds the two roles that limit a token in a project: see `roles.effective`."""

    member_role: Role
    token_role: Role | None


_INSERT = """\
INSERT INTO tokens (
    digest, token_id, actor_id, project, role, name, created_at_ms, expires_at_ms, issued_by,
    registers, model, registers_max)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"""

_TAKE_PLACES = """\
UPDATE tokens
SET registered = registered + $3
WHERE project = $1
    AND token_id = $2
    AND registers = 1
    AND registered + $3 <= registers_max
    AND revoked_at_ms IS NULL
    AND (expires_at_ms IS NULL OR expires_at_ms > $4)
RETURNING model"""

_REVOKE = """\
UPDATE tokens
SET revoked_at_ms = $3
WHERE project = $1
    AND revoked_at_ms IS NULL
    AND token_id IN (
        WITH RECURSIVE family (token_id) AS (
            SELECT eldest.token_id
            FROM tokens AS eldest
            WHERE eldest.token_id = $2
            UNION
            SELECT child.token_id
            FROM tokens AS child
            JOIN family ON child.issued_by = family.token_id)
        SELECT family.token_id
        FROM family)
RETURNING token_id"""

_REVOKE_ALL = """\
UPDATE tokens
SET revoked_at_ms = $3
WHERE project = $1 AND actor_id = $2 AND revoked_at_ms IS NULL
RETURNING token_id"""

_FORGET = "DELETE FROM tokens WHERE actor_id = $1"

_FORGET_IN = "DELETE FROM tokens WHERE actor_id = $1 AND project = $2"

_OF_ACTOR = """\
FROM tokens
WHERE actor_id = $1 AND revoked_at_ms IS NULL AND project = coalesce(CAST($2 AS text), project)"""

_SHOWN = """\
    token_id, name, project, role, created_at_ms, expires_at_ms, issued_by,
    registers, model, registers_max, registered"""

_PAGE = f"""\
SELECT
{_SHOWN}
{_OF_ACTOR} AND token_id > $3
ORDER BY token_id
LIMIT $4"""

_ONE = f"""\
SELECT
{_SHOWN}
{_OF_ACTOR} AND token_id = $3"""

_COUNT = f"SELECT count(*) {_OF_ACTOR}"

_OF_MEMBERS = f"""\
FROM members
JOIN users ON users.actor_id = members.actor_id
JOIN tokens ON tokens.actor_id = members.actor_id
WHERE members.project = $1
    AND members.role IS NOT NULL
    AND coalesce(tokens.project, $1) = $1
    AND tokens.revoked_at_ms IS NULL
    AND (tokens.expires_at_ms IS NULL OR tokens.expires_at_ms > $2)
    AND (tokens.used_at_ms IS NULL OR tokens.used_at_ms > $2 - {sessions.IDLE_MS})"""

_PAGE_OF_MEMBERS = f"""\
SELECT
    tokens.token_id, tokens.name, tokens.role, tokens.created_at_ms, tokens.expires_at_ms,
    tokens.issued_by, tokens.actor_id, users.email
{_OF_MEMBERS} AND tokens.token_id > $3
ORDER BY tokens.token_id
LIMIT $4"""

_ONE_OF_MEMBERS = f"""\
SELECT
    tokens.token_id, tokens.name, tokens.role, tokens.created_at_ms, tokens.expires_at_ms,
    tokens.issued_by, tokens.actor_id, users.email
{_OF_MEMBERS} AND tokens.token_id = $3"""

_COUNT_OF_MEMBERS = f"SELECT count(*) {_OF_MEMBERS}"

_ISSUER = """\
SELECT role, expires_at_ms
FROM tokens
WHERE token_id = $1
    AND project = $2
    AND revoked_at_ms IS NULL
    AND (expires_at_ms IS NULL OR expires_at_ms > $3)"""

_NAMED = """\
SELECT tokens.token_id, tokens.name, users.email
FROM given
JOIN tokens ON tokens.token_id = given.token_id
LEFT JOIN users ON users.actor_id = tokens.actor_id"""

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
    """Stores an API token of this user by its digest."""
    args = (
        credentials.digest(text),
        token.token_id,
        actor_id,
        token.project,
        token.role,
        token.name,
        token.created_at_ms,
        token.expires_at_ms,
        token.issued_by,
        int(token.registers),
        token.model,
        token.registers_max,
    )
    return Statement(_INSERT, args)


def issuer(project: str, token_id: str, now_ms: int) -> Statement:
    """Gives the role and expiry of a living API token of the project, as an `Issuer`."""
    return Statement(_ISSUER, (token_id, project, now_ms))


def take_places(project: str, token_id: str, devices: int, now_ms: int) -> Statement:
    """Counts devices that the token registers; gives the model that they get. It gives no row if
    the token may not register so many more."""
    return Statement(_TAKE_PLACES, (project, token_id, devices, now_ms))


def revoke(project: str, token_id: str, now_ms: int) -> Statement:
    """Revokes a token and every living token that descends from it; gives their ids."""
    return Statement(_REVOKE, (project, token_id, now_ms))


def revoke_all(project: str, actor_id: str, now_ms: int) -> Statement:
    """Revokes a user's tokens of a project; gives their ids."""
    return Statement(_REVOKE_ALL, (project, actor_id, now_ms))


def forget(actor_id: str) -> Statement:
    """Deletes all tokens and logins of a user."""
    return Statement(_FORGET, (actor_id,))


def forget_in(project: str, actor_id: str) -> Statement:
    """Deletes all of a user's tokens of one project."""
    return Statement(_FORGET_IN, (actor_id, project))


async def page(
    db: Reader, actor_id: str, project: str | None, *, after: str = "", limit: int
) -> list[Token]:
    """Returns a user's API tokens that are not revoked, ordered by id: of `project`, or of all."""
    rows = await db.read(Statement(_PAGE, (actor_id, project, after, limit)))
    return [_token(row) for row in rows]


async def count(db: Reader, actor_id: str, project: str | None) -> int:
    """Returns how many tokens all pages of `page` have."""
    [[tokens]] = await db.read(Statement(_COUNT, (actor_id, project)))
    return int(tokens)


async def one(db: Reader, actor_id: str, project: str | None, token_id: str) -> Token | None:
    """Returns the token of this id if it is one of those that `page` returns."""
    rows = await db.read(Statement(_ONE, (actor_id, project, token_id)))
    return _token(rows[0]) if rows else None


def _token(row: Row) -> Token:
    token = Token(*row)
    return token._replace(registers=bool(token.registers))


async def page_of_members(
    db: Reader, project: str, now_ms: int, *, after: str = "", limit: int
) -> list[MemberToken]:
    """Returns the living tokens of a project and the logins of its members, ordered by id."""
    rows = await db.read(Statement(_PAGE_OF_MEMBERS, (project, now_ms, after, limit)))
    return [MemberToken(*row) for row in rows]


async def one_of_members(
    db: Reader, project: str, now_ms: int, token_id: str
) -> MemberToken | None:
    """Returns the token or login of this id if it is one of those that `page_of_members` has."""
    rows = await db.read(Statement(_ONE_OF_MEMBERS, (project, now_ms, token_id)))
    return MemberToken(*rows[0]) if rows else None


async def count_of_members(db: Reader, project: str, now_ms: int) -> int:
    """Returns how many rows all pages of `page_of_members` have."""
    [[total]] = await db.read(Statement(_COUNT_OF_MEMBERS, (project, now_ms)))
    return int(total)


async def named(db: Reader, token_ids: Iterable[str]) -> dict[str, NamedToken]:
    """Returns the names of these tokens; one whose holder was erased has none."""
    given = Given("token_id text", [(each,) for each in sorted(token_ids)])
    rows = await db.read(Statement(_NAMED, (), given))
    return {str(token_id): NamedToken(name, email) for token_id, name, email in rows}


async def scope(db: Database, token_id: str) -> Scope:
    [row] = await db.read(Statement(_SCOPE, (token_id,)))
    return Scope(*row)


async def rights(db: Database, token_id: str, project: str) -> Rights | None:
    """Returns the roles of a token in a project; None if it or its holder has none there."""
    rows = await db.read(Statement(_RIGHTS, (token_id, project)))
    return Rights(*rows[0]) if rows else None
