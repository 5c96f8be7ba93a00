"""Begins and finds the sessions of people in a browser.

A session is a login. So everything that lists or ends logins does the same to sessions: a new
password, the erasure of the person, the person, an admin. Its row of `tokens` has the SHA-256 of
the cookie's text in `session_digest`, and a `digest` that is not one of any text. So the text of a
cookie is no token of the API, and a token opens no page.

A session ends LIFETIME_MS after its beginning, and earlier if it was not used for IDLE_MS. Its use
is written at most once in USED_MS.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from firmtrail.access import credentials
from firmtrail.access.roles import Role
from firmtrail.database.coalesce import Coalescer
from firmtrail.database.database import Database, Given, Statement, Unavailable
from firmtrail.events.times import DAY_MS

IDLE_MS = 12 * 3600 * 1000
LIFETIME_MS = 7 * DAY_MS
USED_MS = 5 * 60 * 1000
LINK_MS = 60 * 1000
"""The lifetime of a link that signs its person in once."""

type SessionKey = tuple[str, str | None]
"""(digest, project of the path)."""


class Session(NamedTuple):
    """Describes a living session, and what its person is in the project of a path."""

    token_id: str
    actor_id: str
    email: str | None
    expires_at_ms: int
    used_at_ms: int
    log_id: int | None
    """The project's newest log; None: there is no such project, or the path names none."""
    role: Role | None
    """None: the person is no member of that project."""


_FIND = """\
SELECT
    given.n,
    tokens.token_id,
    tokens.actor_id,
    users.email,
    tokens.expires_at_ms,
    tokens.used_at_ms,
    nullif(projects.log_id, 0),
    members.role
FROM given
CROSS JOIN tokens
JOIN users ON users.actor_id = tokens.actor_id
LEFT JOIN projects ON projects.project = given.project
LEFT JOIN members
    ON members.project = given.project
    AND members.actor_id = tokens.actor_id
WHERE tokens.session_digest = given.digest
    AND tokens.revoked_at_ms IS NULL
    AND tokens.expires_at_ms > $1
    AND tokens.used_at_ms > $2"""

_BEGIN = """\
INSERT INTO tokens (
    digest, session_digest, token_id, actor_id, name, created_at_ms, expires_at_ms, used_at_ms)
VALUES ($1, $2, $3, $4, 'console', $5, $6, $5)"""

_USE = "UPDATE tokens SET used_at_ms = $2 WHERE token_id = $1 AND used_at_ms < $2"

_LINK = """\
INSERT INTO tokens (
    digest, session_digest, token_id, actor_id, name, created_at_ms, expires_at_ms, used_at_ms)
VALUES ($1, $2, $3, $4, 'link', $5, $6, 0)"""

_FOLLOW = """\
DELETE FROM tokens
WHERE session_digest = $1
    AND name = 'link'
    AND revoked_at_ms IS NULL
    AND expires_at_ms > $2
RETURNING actor_id"""

_END = "DELETE FROM tokens WHERE session_digest = $1"


class Sessions:
    """Finds the sessions of one database."""

    def __init__(self, db: Database, now_ms: Callable[[], int]) -> None:
        self._db = db
        self._now_ms = now_ms
        self._lookups: Coalescer[SessionKey] = Coalescer(db, self._find)

    async def find(self, text: str, project: str | None) -> Session | None:
        """Returns the living session with this text, and remembers that it was used."""
        rows = await self._lookups.get((credentials.digest(text), project))
        if not rows:
            return None
        session = Session(*rows[0])
        now_ms = self._now_ms()
        if now_ms - session.used_at_ms >= USED_MS:
            # A database that takes no writes still shows pages: the use is written later.
            with suppress(Unavailable):
                async with self._db.transaction() as tx:
                    await tx.run(Statement(_USE, (session.token_id, now_ms)))
        return session

    def _find(self, keys: Sequence[SessionKey]) -> Statement:
        rows = [(n, *key) for n, key in enumerate(keys)]
        now_ms = self._now_ms()
        given = Given("n bigint, digest text, project text", rows)
        return Statement(_FIND, (now_ms, now_ms - IDLE_MS), given)


def begin(actor_id: str, text: str, now_ms: int) -> Statement:
    """Begins a session of this person with the text of its cookie."""
    token_id = credentials.new_id("t")
    digest = f"session:{token_id}"
    ends_at_ms = now_ms + LIFETIME_MS
    args = (digest, credentials.digest(text), token_id, actor_id, now_ms, ends_at_ms)
    return Statement(_BEGIN, args)


def link(actor_id: str, code: str, now_ms: int) -> Statement:
    """Makes a link with this code, which signs the person in once. Its row counts as a session that
    was never used, so no list shows it and its code opens no page."""
    token_id = credentials.new_id("t")
    args = (f"link:{token_id}", credentials.digest(code), token_id, actor_id, now_ms)
    return Statement(_LINK, (*args, now_ms + LINK_MS))


def follow(code: str, now_ms: int) -> Statement:
    """Ends the link with this code; gives the id of its person, if the link is valid."""
    return Statement(_FOLLOW, (credentials.digest(code), now_ms))


def end(text: str) -> Statement:
    """Ends the session with this text, if there is one."""
    return Statement(_END, (credentials.digest(text),))
