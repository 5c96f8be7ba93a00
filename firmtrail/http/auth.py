"""Finds out who calls, and whether that caller may call the route.

One lookup decides. A device credential that is missing, wrong, revoked or of another device than
the path's gets a 401, which is the same and takes the same work whether or not there is a device
or a project of the path's name. So it does on a gateway's route, whose path names no device. On a
route of users it gets 403, whatever the path names. A person that is not a member of the path's
project learns that there is no such project.
"""

from base64 import b64decode
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from firmtrail.access import Access, roles, settings
from firmtrail.access.lookup import OTHER_DEVICE, OWN_DEVICE, Found
from firmtrail.database.database import Database
from firmtrail.http import callers
from firmtrail.http.callers import NOBODY, SYSTEM_ACTOR, Caller
from firmtrail.http.clients import Clients
from firmtrail.http.errors import Forbidden, NotFound, Unauthorized

GATEWAY = "gateway"

type Authenticate = Callable[[web.Request, callers.RouteAccess], Awaitable[Caller]]


def authenticator(access: Access, db: Database, clients: Clients) -> Authenticate:
    """Return the function that finds the caller of a request, or raises the problem to answer."""

    async def authenticate(request: web.Request, wanted: callers.RouteAccess) -> Caller:
        if isinstance(wanted, callers.PublicAccess):
            return NOBODY
        project, device = request.match_info.get("project"), request.match_info.get("device")
        if anyone := await _anyone(access, db, wanted, project):
            return anyone
        if access.local_socket is not None and is_local(request, access.local_socket):
            return await _system(access, project)
        if isinstance(wanted, callers.LocalAccess):
            raise NotFound
        text = presented(request)
        if text is None:
            raise Unauthorized
        found = await _found(access, request, wanted, address=clients.address(request), text=text)
        if found.device_secret == OWN_DEVICE:
            return _own_device(found, wanted, project, device)
        if found.token_id is not None:
            return _holder(found, wanted, project)
        is_of_devices = isinstance(wanted, callers.DeviceAccess | callers.GatewayAccess)
        if found.device_secret == OTHER_DEVICE and not is_of_devices:
            raise Forbidden
        raise Unauthorized

    return authenticate


async def _found(
    access: Access, request: web.Request, wanted: callers.RouteAccess, *, text: str, address: str
) -> Found:
    """Look the credential up. A device's first call is durable before it is answered.

    The call of a route that records it is durable by that. Another one is written here; as a
    commit that gives the device another secret, because it never called, may come first, the
    secret is then looked up again.
    """
    project, device = request.match_info.get("project"), request.match_info.get("device")
    found = await access.find(text, project, device, address=address)
    is_recorded = isinstance(wanted, callers.DeviceAccess) and wanted.records_calls
    if found.device_secret != OWN_DEVICE or found.was_seen or is_recorded:
        return found
    assert project is not None and device is not None, "a device's own secret is of its path"
    await access.seen.first(project, device, access.now_ms())
    return await access.find(text, project, device, address=address)


async def _anyone(
    access: Access, db: Database, wanted: callers.RouteAccess, project: str | None
) -> Caller | None:
    """Nobody in particular, where the project lets anyone read its checkpoint."""
    if not (isinstance(wanted, callers.MemberAccess) and wanted.is_public_checkpoint and project):
        return None
    log_id = await access.project(project)
    if log_id is None or not (await settings.current(db, log_id, project)).public_checkpoint:
        return None
    return Caller(kind="nobody", project=project, log_id=log_id)


def is_local(request: web.Request, local_socket: str) -> bool:
    """Whether the request came over this unix socket, whose file mode is the credential."""
    transport = request.transport
    return transport is not None and transport.get_extra_info("sockname") == local_socket


def presented(request: web.Request) -> str | None:
    """Return the credential: a Bearer's, or the password of HTTP Basic, whatever the user name."""
    scheme, _, value = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip() or None
        case "basic":
            return _basic_password(value)
        case _:
            return None


def _basic_password(encoded: str) -> str | None:
    try:
        decoded = b64decode(encoded, validate=True)
    except ValueError:
        return None
    _, _, password = decoded.decode(errors="surrogateescape").partition(":")
    return password or None


async def _system(access: Access, project: str | None) -> Caller:
    log_id = None
    if project is not None and (log_id := await access.project(project)) is None:
        raise NotFound(f"There is no project {project}.")
    return Caller(
        kind="system",
        actor=SYSTEM_ACTOR,
        actor_id=SYSTEM_ACTOR,
        project=project,
        log_id=log_id,
        permissions=roles.EVERYTHING,
    )


def _own_device(
    found: Found, wanted: callers.RouteAccess, project: str | None, device: str | None
) -> Caller:
    if not isinstance(wanted, callers.DeviceAccess):
        raise Forbidden
    return Caller(
        kind="device",
        actor=f"device/{device}",
        project=project,
        log_id=found.log_id,
        device=device,
        is_first_call=not found.was_seen,
    )


def _holder(found: Found, wanted: callers.RouteAccess, project: str | None) -> Caller:
    match wanted:
        case callers.MemberAccess(permission) | callers.DeviceAccess(permission):
            permissions = _permissions(found, project)
            if permission not in permissions:
                raise Forbidden
            return _caller(found, project, permissions)
        case _:
            if _is_gateway(found) or found.only_role == GATEWAY:
                raise Forbidden
            return _caller(found, project, roles.NOTHING)


def _permissions(found: Found, project: str | None) -> roles.Permissions:
    is_elsewhere = found.token_project is not None and found.token_project != project
    if found.log_id is None or found.member_role is None or is_elsewhere:
        raise NotFound
    return roles.effective(found.member_role, found.token_role)


def _caller(found: Found, project: str | None, permissions: roles.Permissions) -> Caller:
    is_gateway = _is_gateway(found)
    if found.token_role is None:
        actor = f"user/{found.actor_id}"
    else:
        actor = f"{'gateway' if is_gateway else 'token'}/{found.token_id}"
    return Caller(
        kind="gateway" if is_gateway else "user",
        actor=actor,
        actor_id=found.actor_id,
        project=project,
        log_id=found.log_id,
        token_id=found.token_id,
        permissions=permissions,
    )


def _is_gateway(found: Found) -> bool:
    """A member of role gateway is one in that project with every credential."""
    return GATEWAY in {found.token_role, found.member_role}
