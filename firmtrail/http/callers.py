"""Who may call a route, and who is calling: the words that routes, auth and handlers share.

`http/auth.py` turns a request and the `RouteAccess` of its route into a `Caller`, or raises
`errors.Unauthorized`, `Forbidden`, `NotFound` or `TooManyRequests`. Endpoints do it before they
read a body, so nobody unknown makes the server parse anything.
"""

import enum
from typing import Literal

import msgspec


class Permission(enum.StrEnum):
    """What a member may do; the roles that hold each are in access/roles.py."""

    READ = "read"  # viewer and above
    REPORT = "report"  # operator, admin, gateway: report on a device's behalf
    OPERATE = "operate"  # operator, admin
    AUDIT = "audit"  # auditor, admin: the log
    ADMINISTER = "administer"  # admin


class PublicAccess(msgspec.Struct, frozen=True):
    """Anyone, no credential looked at."""


class UserAccess(msgspec.Struct, frozen=True):
    """A person's login or API token; the path names no project."""


class MemberAccess(msgspec.Struct, frozen=True):
    """A token whose role in the path's `{project}` holds the permission.

    Anyone, no credential looked at, where the project's public_checkpoint is set and counts here.
    """

    permission: Permission
    is_public_checkpoint: bool = False


class GatewayAccess(MemberAccess, frozen=True):
    """A member with the permission, on behalf of devices that the body names. The path is a
    device's as well, but of no certain one: a device's own secret is wrong on it."""


class DeviceAccess(msgspec.Struct, frozen=True):
    """The secret of the path's `{device}`, or a member with this permission on its behalf.

    With `records_calls`, an answer 201 says that the call itself was recorded, so a device's first
    call needs no record of its own before it.
    """

    permission: Permission = Permission.REPORT
    records_calls: bool = False


class LocalAccess(msgspec.Struct, frozen=True):
    """Only over the unix socket beside an embedded database; 404 on every other listener."""


type RouteAccess = PublicAccess | UserAccess | MemberAccess | DeviceAccess | LocalAccess

PUBLIC = PublicAccess()
USER = UserAccess()
DEVICE = DeviceAccess()
REPORTING_DEVICE = DeviceAccess(records_calls=True)
LOCAL = LocalAccess()

type CallerKind = Literal["nobody", "device", "gateway", "user", "system"]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, once the route's access let them.

    `actor` is what an entry says: device/<id>, gateway/<token id>, token/<token id>, user/<actor
    id>, system; "" for nobody. `actor_id` is the user's behind a login or an API token, "system"
    over the socket. `project` and `log_id` are those of the path, None where it names none;
    `device` is set only for a device's own secret. `token_id` is that of a login or API token, and
    `permissions` is what it may do in the path's project.
    """

    kind: CallerKind
    actor: str = ""
    actor_id: str | None = None
    project: str | None = None
    log_id: int | None = None
    token_id: str | None = None
    permissions: frozenset[str] = frozenset()
    device: str | None = None
    is_first_call: bool = False
    """The device never called before, and nothing durable says yet that it did."""


NOBODY = Caller(kind="nobody")
SYSTEM_ACTOR = "system"
