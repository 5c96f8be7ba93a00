"""Bodies of the routes of access: logins, tokens, projects, members and actors."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from firmtrail.access.roles import Role
from firmtrail.http.answers import TimeText
from firmtrail.http.bodies import outside_calendar
from firmtrail.http.faults import raise_if_broken
from firmtrail.http.scalars import Email, Id, NewEmail, Password, ProjectName

type TokenName = Annotated[str, Meta(max_length=64, pattern=r"^[^\x00-\x1f]*$(?!\n)")]
type Moment = Annotated[datetime, Meta(tz=True)]


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person asks for: a member that is not known is an error, not a wish."""


class Login(Wanted, frozen=True, kw_only=True):
    email: Email
    password: Password


class LoggedIn(msgspec.Struct, frozen=True):
    """A token that acts as its user in every project; it is shown once."""

    token: str | None
    expires_at: TimeText


class WantedToken(Wanted, frozen=True, kw_only=True):
    """An API token to be; without `role` it has the issuer's."""

    project: ProjectName
    name: TokenName = ""
    role: Role | None = None
    expires_at: Moment | None = None

    def __post_init__(self) -> None:
        raise_if_broken(outside_calendar("expires_at", self.expires_at))


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """An API token; `token`, its text, is shown once."""

    id: Id
    name: str
    project: ProjectName
    role: Role
    created_at: TimeText
    expires_at: TimeText | None
    issued_by: Id | None
    """The API token that issued it, with which it ends; null where a login did."""
    token: str | UnsetType | None = UNSET


class HeldToken(msgspec.Struct, frozen=True, kw_only=True):
    """A living token of a project, or a login of one of its members, as an admin sees it."""

    id: Id
    kind: Literal["token", "login"]
    name: str
    role: Role | None
    """Null for a login, which has its holder's role."""
    holder: Id
    email: str | None
    issued_by: Id | None
    created_at: TimeText
    expires_at: TimeText | None


class ListedLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A login of the caller; `current` is the one that the request came with."""

    id: Id
    created_at: TimeText
    expires_at: TimeText
    current: bool


class WantedProject(Wanted, frozen=True, kw_only=True):
    project: ProjectName


class ListedProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project, and the caller's role in it."""

    project: ProjectName
    role: Role | None
    created_at: TimeText


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project with its settings."""

    project: ProjectName
    follow_latest: bool
    poll_after_s: int
    max_attempts: int
    public_checkpoint: bool


class SettingsChange(Wanted, frozen=True, kw_only=True):
    """The settings to be set."""

    follow_latest: bool | UnsetType = UNSET
    poll_after_s: Annotated[int, Meta(ge=1, le=7 * 86_400)] | UnsetType = UNSET
    max_attempts: Annotated[int, Meta(ge=1, le=1_000)] | UnsetType = UNSET
    public_checkpoint: bool | UnsetType = UNSET


class WantedMember(Wanted, frozen=True, kw_only=True):
    email: NewEmail
    role: Role


class Member(msgspec.Struct, frozen=True, kw_only=True):
    actor_id: Id
    email: str | None
    role: Role


class RoleSince(msgspec.Struct, frozen=True, kw_only=True):
    """The role from a time on; null: none any more."""

    role: Role | None
    since: TimeText
    position: int
    log: int | UnsetType = UNSET
    """Whose position it is, where that is not the project's newest log."""


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who an actor id of the log is: a user, or a token and its holder."""

    actor_id: Id
    kind: Literal["user", "token"]
    holder: Id | None
    email: str | None
    roles: list[RoleSince]
    erased_at: TimeText | None


class LocalUser(Wanted, frozen=True, kw_only=True):
    """A member; a password replaces the one that was set before."""

    email: NewEmail
    role: Role
    password: Password | None = None


class LocalToken(Wanted, frozen=True, kw_only=True):
    """An API token for a member; without `role` it has the member's."""

    email: Email
    role: Role | None = None
    name: TokenName = ""
    expires_at: Moment | None = None

    def __post_init__(self) -> None:
        raise_if_broken(outside_calendar("expires_at", self.expires_at))


class WantedLog(Wanted, frozen=True, kw_only=True):
    """A new log that goes on from the project's own; from a whole one only if that is said."""

    even_if_whole: bool = False


class ContinuedLog(msgspec.Struct, frozen=True, kw_only=True):
    """The new log's number, and how many events of which log it goes on from."""

    project: str
    log: int
    continues: int
    size: int


class AcceptedClock(msgspec.Struct, frozen=True, kw_only=True):
    """The log that is written to again, and the time that its next events carry."""

    project: str
    log: int
    recorded_at: str


class LocalErasure(Wanted, frozen=True, kw_only=True):
    email: Email
