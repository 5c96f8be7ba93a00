"""Defines who may call a route, and who is calling, for routes, auth and handlers.

`http/auth.py` turns a request and the `RouteAccess` of its route into a `Caller`, or raises
`errors.Unauthorized`, `Forbidden`, `NotFound` or `TooManyRequests`.
"""

import enum
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

import msgspec
from aiohttp import web

from firmtrail.access.keys import Keys


class Permission(enum.StrEnum):
    """Names what a member may do; access/roles.py assigns the permissions to roles."""

    READ = "read"  # viewer and above
    REPORT = "report"  # operator, admin, gateway: report on a device's behalf
    OPERATE = "operate"  # operator, admin
    AUDIT = "audit"  # auditor, admin: the log
    ADMINISTER = "administer"  # admin


class Presented(NamedTuple):
    """Holds what a request presents: a credential, and the project and the device that it names.

    A name that is not valid is "", which matches nothing.
    """

    credential: str | None
    """The text of the credential; None: there is none."""
    project: str | None
    """None: the request names no project."""
    device: str | None
    """None: the request names no device."""
    digest: str | None = None
    """The form in which the credential is stored, if that is not the digest of its text."""


type Presenting = Callable[[web.Request, Keys], Awaitable[Presented]]
"""Reads from a request what it presents. It answers the same for the same request, changes nothing,
and refuses nothing: a credential that can't be read is None."""


class PublicAccess(msgspec.Struct, frozen=True):
    """Admits anyone; no credential is read."""


class UserAccess(msgspec.Struct, frozen=True):
    """Admits a person's login or API token; the path names no project."""


class MemberAccess(msgspec.Struct, frozen=True):
    """Admits a token whose role in the path's `{project}` has the permission. With
    `is_public_checkpoint`, it admits anyone to a project whose public_checkpoint is set.

    A route of another protocol names with `presents` where its requests carry their credential and
    the project. A request that names no project means the one that its credential belongs to.
    """

    permission: Permission
    is_public_checkpoint: bool = False
    presents: Presenting | None = None


class GatewayAccess(MemberAccess, frozen=True):
    """Admits a member with the permission, on behalf of the devices that the body names. Devices
    use this path too, but it names none of them. A device's own secret is therefore wrong here."""


class DeviceAccess(msgspec.Struct, frozen=True):
    """Admits the secret of the path's `{device}`, or a member with this permission on its behalf.
    With `records_calls`, an answer 201 means that the call itself was recorded. `presents` is that
    of `MemberAccess`; it names the device too."""

    permission: Permission = Permission.REPORT
    records_calls: bool = False
    presents: Presenting | None = None


class PageAccess(msgspec.Struct, frozen=True):
    """Admits the session of a browser, and no other credential, to a page of the console. The
    person's role in the path's `{project}` needs the permission; None: the path names no
    project."""

    permission: Permission | None = None


class LocalAccess(msgspec.Struct, frozen=True):
    """Admits only the unix socket next to an embedded database; other listeners answer 404."""


type RouteAccess = (
    PublicAccess | UserAccess | MemberAccess | DeviceAccess | LocalAccess | PageAccess
)

PUBLIC = PublicAccess()
USER = UserAccess()
DEVICE = DeviceAccess()
REPORTING_DEVICE = DeviceAccess(records_calls=True)
LOCAL = LocalAccess()

type CallerKind = Literal["nobody", "device", "gateway", "user", "system"]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Identifies the caller that the route admitted.

    `actor` is the text in entries: device/<id>, gateway/<token id>, token/<token id>, user/<actor
    id>, system; "" for nobody. `actor_id` is the user that a login or an API token belongs to, or
    "system" over the socket. `project` and `log_id` are those that the request names, or those of
    its credential; None if it names none.
    `device` is set only for a device's own secret. `token_id` is the id of the login or API token,
    and `permissions` is what it allows in the path's project.
    """

    kind: CallerKind
    actor: str = ""
    actor_id: str | None = None
    project: str | None = None
    log_id: int | None = None
    token_id: str | None = None
    permissions: frozenset[str] = frozenset()
    device: str | None = None
    registers: bool = False
    """True for a token that registers the unknown devices that it names."""
    is_joining: bool = False
    """True if the project does not know the device that such a token names with this request."""
    email: str | None = None
    """The address of a person whose session opened a page."""
    is_first_call: bool = False
    """True if the device never called before, and nothing durable records this call yet."""


NOBODY = Caller(kind="nobody")
SYSTEM_ACTOR = "system"
