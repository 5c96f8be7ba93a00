"""Defines who may call a route, and who is calling, for routes, auth and handlers.

`http/auth.py` turns a request and the `RouteAccess` of its route into a `Caller`, or raises
`errors.Unauthorized`, `Forbidden`, `NotFound` or `TooManyRequests`.
"""

import enum
from typing import Literal

import msgspec


class Permission(enum.StrEnum):
    """Names what a member may do; access/roles.py assigns the permissions to roles."""

    READ = "read"  # viewer and above
    REPORT = "report"  # operator, admin, gateway: report on a device's behalf
    OPERATE = "operate"  # operator, admin
    AUDIT = "audit"  # auditor, admin: the log
    ADMINISTER = "administer"  # admin


class PublicAccess(msgspec.Struct, frozen=True):
    """Admits anyone; no credential is read."""


class UserAccess(msgspec.Struct, frozen=True):
    """Admits a person's login or API token; the path names no project."""


class MemberAccess(msgspec.Struct, frozen=True):
    """Admits a token whose role in the path's `{project}` has the permission. With
    `is_public_checkpoint`, it admits anyone to a project whose public_checkpoint is set."""

    permission: Permission
    is_public_checkpoint: bool = False


class GatewayAccess(MemberAccess, frozen=True):
    """Admits a member with the permission, on behalf of the devices that the body names. Devices
    use this path too, but it names none of them. A device's own secret is therefore wrong here."""


class DeviceAccess(msgspec.Struct, frozen=True):
    """Admits the secret of the path's `{device}`, or a member with this permission on its behalf.
    With `records_calls`, an answer 201 means that the call itself was recorded."""

    permission: Permission = Permission.REPORT
    records_calls: bool = False


class LocalAccess(msgspec.Struct, frozen=True):
    """Admits only the unix socket next to an embedded database; other listeners answer 404."""


type RouteAccess = PublicAccess | UserAccess | MemberAccess | DeviceAccess | LocalAccess

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
    "system" over the socket. `project` and `log_id` are those of the path, None if it names none.
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
    is_first_call: bool = False
    """True if the device never called before, and nothing durable records this call yet."""


NOBODY = Caller(kind="nobody")
SYSTEM_ACTOR = "system"
