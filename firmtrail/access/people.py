"""Reads and changes users and the members of projects. Holds all SQL of `users` and `members`.

E-mail addresses are compared in lower case, and only `users` contains them: an erased user keeps
only the id. A removed member keeps a row without a role, so that erasing a user finds every project
that ever named that user.
"""

from collections.abc import Iterable
from typing import NamedTuple

from firmtrail.access.roles import Role
from firmtrail.database.database import Database, Given, Reader, Row, Statement


class Account(NamedTuple):
    """Holds a user's row; an erased user has neither an address nor a password."""

    actor_id: str
    email: str | None
    password_hash: str | None
    erased_at_ms: int | None


class Membership(NamedTuple):
    """Holds a member of a project; an erased user has no address."""

    actor_id: str
    email: str | None
    role: Role


class KnownPerson(NamedTuple):
    """Holds what another instance has of a person, without the password."""

    actor_id: str
    email: str | None
    created_at_ms: int
    erased_at_ms: int | None


_OF_PROJECT = """\
SELECT users.actor_id, users.email, users.created_at_ms, users.erased_at_ms
FROM members
JOIN users ON users.actor_id = members.actor_id
WHERE members.project = $1
ORDER BY users.actor_id
LIMIT 100000"""

_ADD_KNOWN = """\
INSERT INTO users (actor_id, email, created_at_ms, erased_at_ms)
VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING"""

_KNOWN_AS = """\
SELECT actor_id
FROM users
WHERE actor_id = CAST($1 AS text) OR email = CAST($2 AS text)
ORDER BY CASE WHEN actor_id = CAST($1 AS text) THEN 0 ELSE 1 END
LIMIT 1"""

_BY_EMAIL = """\
SELECT actor_id, email, password_hash, erased_at_ms
FROM users
WHERE email = $1"""

_BY_ID = """\
SELECT actor_id, email, password_hash, erased_at_ms
FROM users
WHERE actor_id = $1"""

_EMAILS = """\
SELECT users.actor_id, users.email
FROM given
JOIN users ON users.actor_id = given.actor_id
WHERE users.email IS NOT NULL"""

_ENSURE = """\
INSERT INTO users (actor_id, email, created_at_ms)
VALUES ($1, $2, $3)
ON CONFLICT (email) DO UPDATE
SET email = excluded.email
RETURNING actor_id"""

_SET_PASSWORD = "UPDATE users SET password_hash = $2 WHERE actor_id = $1"  # noqa: S105 (SQL)

_LOCK = "UPDATE users SET email = email WHERE actor_id = $1"

_ERASE = """\
UPDATE users
SET email = NULL, password_hash = NULL, erased_at_ms = coalesce(erased_at_ms, now_ms())
WHERE actor_id = $1 AND NOT EXISTS (SELECT 1 FROM members WHERE actor_id = $1)
RETURNING erased_at_ms"""

_NAMES = """\
SELECT given.actor, users.email, tokens.name
FROM given
LEFT JOIN tokens ON tokens.token_id = given.token_id
JOIN users ON users.actor_id = coalesce(tokens.actor_id, given.user_id)"""

_ROLE = "SELECT role FROM members WHERE project = $1 AND actor_id = $2"

_SET_ROLE = """\
INSERT INTO members (project, actor_id, role)
VALUES ($1, $2, $3)
ON CONFLICT (project, actor_id) DO UPDATE
SET role = excluded.role"""

_FORGET = "DELETE FROM members WHERE project = $1 AND actor_id = $2 RETURNING role"

_OTHER_ADMIN = """\
SELECT actor_id
FROM members
WHERE project = $1 AND role = 'admin' AND actor_id <> $2
LIMIT 1"""

_ADMINS = """\
SELECT DISTINCT users.email
FROM members
JOIN users ON users.actor_id = members.actor_id
WHERE members.role = 'admin' AND users.email IS NOT NULL
ORDER BY users.email
LIMIT $1"""

_LOGS_NAMING = """\
SELECT projects.log_id
FROM members
JOIN projects ON projects.project = members.project
WHERE members.actor_id = $1
ORDER BY members.project
LIMIT 1000"""

_PAGE = """\
SELECT members.actor_id, users.email, members.role
FROM members
JOIN users ON users.actor_id = members.actor_id
WHERE members.project = $1 AND members.actor_id > $2 AND members.role IS NOT NULL
ORDER BY members.actor_id
LIMIT $3"""

_COUNT = "SELECT count(*) FROM members WHERE project = $1 AND role IS NOT NULL"


def normal(email: str) -> str:
    """Returns the form in which addresses are stored and compared."""
    return email.strip().lower()


async def by_email(db: Database, email: str) -> Account | None:
    """Returns the user with this address. An erased user is not found: it has no address."""
    return _user(await db.read(Statement(_BY_EMAIL, (normal(email),))))


async def by_id(db: Reader, actor_id: str) -> Account | None:
    """Returns the user of this id, erased or not."""
    return _user(await db.read(Statement(_BY_ID, (actor_id,))))


async def emails(db: Reader, actor_ids: Iterable[str]) -> dict[str, str]:
    """Returns the addresses of these users; an erased user has none."""
    given = Given("actor_id text", [(each,) for each in sorted(actor_ids)])
    rows = await db.read(Statement(_EMAILS, (), given))
    return {str(row[0]): str(row[1]) for row in rows}


async def names(db: Reader, actors: Iterable[str]) -> dict[str, str]:
    """Returns how people know these actors of entries: by an e-mail address, with the name of a
    token. An erased person, a device and the system have no name."""
    rows = []
    for actor in sorted({*actors}):
        kind, _, name = actor.partition("/")
        if kind in {"user", "token", "gateway"}:
            rows.append((actor, name if kind == "user" else "", "" if kind == "user" else name))
    if not rows:
        return {}
    given = Given("actor text, user_id text, token_id text", rows)
    found = await db.read(Statement(_NAMES, (), given))
    return {
        actor: f"{email} ({token})" if token else email
        for actor, email, token in found
        if email is not None
    }


async def role_of(db: Reader, project: str, actor_id: str) -> Role | None:
    """Returns the user's role in the project; None if the user is not a member."""
    rows = await db.read(role(project, actor_id))
    return rows[0][0] if rows else None


async def members(db: Reader, project: str, *, after: str = "", limit: int) -> list[Membership]:
    """Returns the members whose ids follow `after`, ordered by id."""
    rows = await db.read(Statement(_PAGE, (project, after, limit)))
    return [Membership(*row) for row in rows]


async def members_count(db: Reader, project: str) -> int:
    [[count]] = await db.read(Statement(_COUNT, (project,)))
    return int(count)


async def admins(db: Database, limit: int) -> list[str]:
    """Returns the first addresses of the admins of all projects, in their order."""
    return [email for [email] in await db.read(Statement(_ADMINS, (limit,)))]


async def logs_naming(db: Database, actor_id: str) -> list[int]:
    """Returns the newest logs of the projects, 1000 at most, where the user is or was a member."""
    return [log_id for [log_id] in await db.read(Statement(_LOGS_NAMING, (actor_id,)))]


def ensure(actor_id: str, email: str, now_ms: int) -> Statement:
    """Gives the id of the user with this address, and locks the row; a new user gets `actor_id`."""
    return Statement(_ENSURE, (actor_id, normal(email), now_ms))


async def of_project(db: Reader, project: str) -> list[KnownPerson]:
    """Returns everyone who is or was a member of the project, at most 100 000 people."""
    return [KnownPerson(*row) for row in await db.read(Statement(_OF_PROJECT, (project,)))]


def add_known(person: KnownPerson) -> list[Statement]:
    """Adds a user of another instance, unless the id or the address is here; the second gives the
    id that the person has here. A new user has no password."""
    args = (person.actor_id, person.email)
    return [Statement(_ADD_KNOWN, person), Statement(_KNOWN_AS, args)]


async def known_as(db: Reader, person: KnownPerson) -> str | None:
    """Returns the id that a user of another instance has here, if there is one."""
    rows = await db.read(Statement(_KNOWN_AS, (person.actor_id, person.email)))
    return rows[0][0] if rows else None


def locked_account(actor_id: str) -> list[Statement]:
    """Locks the user's row, so that nobody erases the user meanwhile; the second gives the row."""
    return [lock(actor_id), Statement(_BY_ID, (actor_id,))]


def set_password(actor_id: str, password_hash: str) -> Statement:
    return Statement(_SET_PASSWORD, (actor_id, password_hash))


def lock(actor_id: str) -> Statement:
    """Locks the user's row. Run it before `erase`, which then sees the changes it waited for."""
    return Statement(_LOCK, (actor_id,))


def erase(actor_id: str) -> Statement:
    """Empties the user's row; gives no row while `members` still names the user in a project."""
    return Statement(_ERASE, (actor_id,))


def role(project: str, actor_id: str) -> Statement:
    """Gives the member's role: None for a former member, no row for a user who never was one."""
    return Statement(_ROLE, (project, actor_id))


def set_role(project: str, actor_id: str, role: str | None) -> Statement:
    """Makes the user a member with this role; None makes the user a former member."""
    return Statement(_SET_ROLE, (project, actor_id, role))


def forget(project: str, actor_id: str) -> Statement:
    """Deletes the row of the membership; gives a row if there was one."""
    return Statement(_FORGET, (project, actor_id))


def other_admin(project: str, actor_id: str) -> Statement:
    """Gives an admin of the project other than this user, if there is one."""
    return Statement(_OTHER_ADMIN, (project, actor_id))


def _user(rows: list[Row]) -> Account | None:
    return Account(*rows[0]) if rows else None
