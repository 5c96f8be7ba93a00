"""Finds the device, member or token that a presented credential belongs to.

Every request does this, so it costs one query, and all requests that wait for one share it. The
query reads the rows as they are: a revocation, the removal of a member and an expiry take effect
with the next request on every server. An unknown credential costs the same query.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from firmtrail.access import credentials, people
from firmtrail.access.device_secrets import WEAK
from firmtrail.access.hashing import CredentialAttempt, Hasher
from firmtrail.access.registrations import RegistrationLimits
from firmtrail.access.seen import Seen
from firmtrail.access.sessions import Session, Sessions
from firmtrail.database.coalesce import Coalescer
from firmtrail.database.database import Database, Given, Statement

type CredentialKey = tuple[str, str | None, str | None]
"""(digest or `WEAK`, project of the path, device of the path)."""


def _known(condition: str = "") -> str:
    """Returns the SQL condition that the project has this device, and that the further condition,
    which begins with AND, holds for it."""
    return f"""\
EXISTS (
            SELECT 1
            FROM device_current AS current
            WHERE current.log_id = projects.log_id
                AND current.generation = (
                    SELECT generation
                    FROM views
                    WHERE log_id = projects.log_id AND name = 'device_current')
                AND current.device = given.device{condition})"""


_FIND = f"""\
SELECT
    given.n,
    nullif(projects.log_id, 0),
    CASE
        WHEN own.device IS NOT NULL THEN 2
        WHEN EXISTS (
            SELECT 1
            FROM device_secrets AS other
            WHERE other.digest = given.digest
                AND (other.expires_at_ms IS NULL OR other.expires_at_ms > $1)) THEN 1
        ELSE 0
    END,
    own.bcrypt,
    tokens.token_id,
    tokens.actor_id,
    tokens.project,
    tokens.role,
    members.role,
    CASE
        WHEN given.project IS NULL AND tokens.actor_id IS NOT NULL THEN (
            SELECT CASE WHEN min(every.role) = max(every.role) THEN min(every.role) END
            FROM members AS every
            WHERE every.actor_id = tokens.actor_id
                AND every.role IS NOT NULL
                AND every.project = coalesce(tokens.project, every.project))
    END,
    CASE
        WHEN own.device IS NULL THEN 0
        WHEN EXISTS (
            SELECT 1
            FROM device_seen AS seen
            WHERE seen.project = given.project
                AND seen.device = given.device
                AND seen.seen_at_ms > 0) THEN 1
        WHEN {_known(" AND current.recorded_position IS NOT NULL")} THEN 1
        ELSE 0
    END,
    coalesce(tokens.registers, 0),
    CASE
        WHEN tokens.registers = 1 AND given.device <> '' AND NOT {_known()} THEN 1
        ELSE 0
    END
FROM given
LEFT JOIN projects ON projects.project = given.project
LEFT JOIN device_secrets AS own
    ON own.digest = given.digest
    AND own.project = given.project
    AND own.device = given.device
    AND (own.expires_at_ms IS NULL OR own.expires_at_ms > $1)
LEFT JOIN tokens
    ON tokens.digest = given.digest
    AND tokens.revoked_at_ms IS NULL
    AND (tokens.expires_at_ms IS NULL OR tokens.expires_at_ms > $1)
LEFT JOIN members
    ON members.project = given.project
    AND members.actor_id = tokens.actor_id"""

_COLUMNS, _FROM, _JOINS = _FIND.partition("\nFROM given\n")

_FIND_PROJECT = f"""\
{_COLUMNS},
    given.project
FROM (
    SELECT
        given.n,
        given.digest,
        given.device,
        coalesce(
            (
                SELECT CASE WHEN min(own.project) = max(own.project) THEN min(own.project) END
                FROM device_secrets AS own
                WHERE own.digest = given.digest
                    AND own.device = given.device
                    AND (own.expires_at_ms IS NULL OR own.expires_at_ms > $1)),
            (
                SELECT CASE WHEN min(every.project) = max(every.project) THEN min(every.project) END
                FROM tokens
                JOIN members AS every
                    ON every.actor_id = tokens.actor_id
                    AND every.role IS NOT NULL
                    AND every.project = coalesce(tokens.project, every.project)
                WHERE tokens.digest = given.digest
                    AND tokens.revoked_at_ms IS NULL
                    AND (tokens.expires_at_ms IS NULL OR tokens.expires_at_ms > $1))) AS project
    FROM given) AS given
{_JOINS}"""
"""Finds the project first: that of the one device of this name with this secret, that of the API
token, or the only project of a login's holder. If there are several, there is none."""

OWN_DEVICE = 2
OTHER_DEVICE = 1
NO_DEVICE = 0


class ResolvedCredential(Struct, frozen=True, gc=False):
    """Says whose credential it is, for the project and device of a path."""

    log_id: int | None
    """The project's newest log; None: there is no such project."""
    device_secret: int
    """OWN_DEVICE: a secret of that device; OTHER_DEVICE: only of others; else NO_DEVICE."""
    bcrypt: str | None = None
    token_id: str | None = None
    """None: it is no token. With NO_DEVICE, the credential is unknown."""
    actor_id: str | None = None
    """The token's holder."""
    token_project: str | None = None
    token_role: str | None = None
    """None for a login, which has the member's own role in each project."""
    member_role: str | None = None
    """The holder's role in the path's project."""
    only_role: str | None = None
    """The holder's role in all projects of the token, if it is the same in all of them. It is
    looked up only for a path that names no project."""
    was_seen: int = 0
    """1: the secret is the device's own, and the database records that the device has called."""
    registers: int = 0
    """1: it is a token that registers the unknown devices that it names."""
    is_unknown: int = 0
    """1: it is such a token, and the project does not know the path's device."""
    project: str | None = None
    """The project that `find_project` has found; None: there is none, or several."""


class _Asked(NamedTuple):
    """Holds a look-up: the presented text, its digest, and what the request names."""

    text: str
    digest: str
    project: str | None
    device: str | None
    address: str


def _is_certain(found: ResolvedCredential, digest: str) -> bool:
    """Returns whether the look-up alone says whose credential it is."""
    return digest != WEAK and (found.device_secret != NO_DEVICE or found.token_id is not None)


def _digest(text: str) -> str:
    return credentials.digest(text) if credentials.is_strong(text) else WEAK


class Access:
    """Checks credentials against one database. `local_socket` is the path of the unix socket whose
    callers need no credential."""

    def __init__(
        self,
        db: Database,
        hasher: Hasher,
        *,
        local_socket: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.hasher = hasher
        self.seen = Seen(db)
        self.registrations = RegistrationLimits()
        self.local_socket = local_socket
        self._db = db
        self._clock = clock
        self._sessions = Sessions(db, self.now_ms)
        self._lookups: Coalescer[CredentialKey] = Coalescer(db, partial(self._find, _FIND))
        self._of_no_project: Coalescer[CredentialKey] = Coalescer(
            db, partial(self._find, _FIND_PROJECT)
        )

    def now_ms(self) -> int:
        """Returns the time of this process's clock, which decides what is expired."""
        return int(self._clock() * 1000)

    async def find(
        self,
        text: str,
        project: str | None,
        device: str | None,
        *,
        address: str,
        digest: str | None = None,
    ) -> ResolvedCredential:
        """Looks up a presented text, or the `digest` that it stands for. A weak text can only be
        the secret of the path's own device, and costs a hash whether or not that device exists. A
        strong text that belongs to nobody counts as a guess of this address. Raises
        `TooManyAttempts`."""
        digest = digest or _digest(text)
        [row] = await self._lookups.get((digest, project, device))
        found = ResolvedCredential(*row)
        if _is_certain(found, digest):
            return found
        return await self._checked(found, _Asked(text, digest, project, device, address))

    async def admits_key(self, project: str, device: str, digest: str) -> bool:
        """Returns whether the device has the key with this digest; its first call is made durable
        before. The caller signed with that key, so nobody guesses, and no attempt is counted."""
        found = await self._by_key(project, device, digest)
        if found.device_secret == OWN_DEVICE and not found.was_seen:
            await self.seen.first(project, device, self.now_ms())
            found = await self._by_key(project, device, digest)
        return found.device_secret == OWN_DEVICE

    async def _by_key(self, project: str, device: str, digest: str) -> ResolvedCredential:
        [row] = await self._lookups.get((digest, project, device))
        return ResolvedCredential(*row)

    async def find_project(
        self, text: str, device: str | None, *, address: str, digest: str | None = None
    ) -> ResolvedCredential:
        """Looks up a presented text as `find` does, in the project that the credential belongs to.

        A secret that several projects know for a device of this name belongs to none of them. A
        weak secret belongs to none either: it can only be found where it is looked for.
        """
        asked = _Asked(text, digest or _digest(text), None, device, address)
        findable = None if asked.digest == WEAK else device
        [row] = await self._of_no_project.get((asked.digest, None, findable))
        return await self._checked(ResolvedCredential(*row), asked)

    async def _checked(self, found: ResolvedCredential, asked: _Asked) -> ResolvedCredential:
        """Returns what was found if the text fits: only a hash can say that of a weak text."""
        text, digest, project, device, address = asked
        if _is_certain(found, digest):
            return found
        if digest != WEAK:
            await self.hasher.count_guess("user" if device is None else "device", address)
            return found
        attempt = CredentialAttempt("device", f"{project}/{device}", address)
        hashed = found.bcrypt if found.device_secret == OWN_DEVICE else None
        if device is not None and await self.hasher.verify(attempt, text, hashed):
            return found
        return replace(found, device_secret=NO_DEVICE, was_seen=0)

    async def session(self, text: str, project: str | None, *, address: str) -> Session | None:
        """Returns the living session with this text. Another text counts as a guess of this
        address. Raises `TooManyAttempts`."""
        session = await self._sessions.find(text, project)
        if session is None:
            await self.hasher.count_guess("user", address)
        return session

    async def project(self, project: str) -> int | None:
        """Returns the newest log of a project; None if there is no such project."""
        [row] = await self._lookups.get(("", project, None))
        return ResolvedCredential(*row).log_id

    async def login(self, email: str, password: str, *, address: str) -> str | None:
        """Returns the id of the user with this e-mail address and password, if there is one. All
        failures take the same work. Raises `TooManyAttempts`."""
        email = email.replace("\0", " ")  # no database stores NUL, and no address has a space
        user = await people.by_email(self._db, email)
        hashed = user.password_hash if user else None
        attempt = CredentialAttempt("user", people.normal(email), address)
        if await self.hasher.verify(attempt, password, hashed) and user:
            return user.actor_id
        return None

    def _find(self, query: str, keys: Sequence[CredentialKey]) -> Statement:
        rows = [(n, *key) for n, key in enumerate(keys)]
        given = Given("n bigint, digest text, project text, device text", rows)
        return Statement(query, (self.now_ms(),), given)
