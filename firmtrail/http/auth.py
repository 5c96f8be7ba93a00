"""Authenticates callers, and decides whether a caller may call a route.

One lookup decides. A device credential gets a 401 if it is missing, wrong, revoked, or belongs to a
device other than the path's. This answer and the work for it are the same whether or not the path's
device or project exists. The same holds on a gateway's route, whose path names no device. On a
route of users, a device credential gets 403, whatever the path names. For a person that is not a
member, the path's project does not exist: the answer is 404.
"""

from base64 import b64decode
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from firmtrail.access import roles, settings
from firmtrail.access.lookup import OTHER_DEVICE, OWN_DEVICE, Access, ResolvedCredential
from firmtrail.database.database import Database
from firmtrail.http import callers
from firmtrail.http.callers import NOBODY, SYSTEM_ACTOR, Caller
from firmtrail.http.clients import Clients
from firmtrail.http.errors import Forbidden, NotFound, Unauthorized

GATEWAY = "gateway"

type Authenticate = Callable[[web.Request, callers.RouteAccess], Awaitable[Caller]]


def authenticator(access: Access, db: Database, clients: Clients) -> Authenticate:
    """Returns the function that finds the caller of a request, or raises the problem to answer."""

    async def authenticate(request: web.Request, wanted: callers.RouteAccess) -> Caller:
        if isinstance(wanted, callers.PublicAccess):
            return NOBODY
        project, device = request.match_info.get("project"), request.match_info.get("device")
        if anonymous := await _anonymous(access, db, wanted, project):
            return anonymous
        if access.local_socket is not None and is_local(request, access.local_socket):
            return await _system_caller(access, project)
        if isinstance(wanted, callers.LocalAccess):
            raise NotFound
        text = presented(request)
        if text is None:
            raise Unauthorized
        found = await _look_up(access, request, wanted, address=clients.address(request), text=text)
        if found.device_secret == OWN_DEVICE:
            return _device_caller(found, wanted, project, device)
        if found.token_id is not None:
            return _token_caller(found, wanted, project)
        is_of_devices = isinstance(wanted, callers.DeviceAccess | callers.GatewayAccess)
        if found.device_secret == OTHER_DEVICE and not is_of_devices:
            raise Forbidden
        raise Unauthorized

    return authenticate


async def _look_up(
    access: Access, request: web.Request, wanted: callers.RouteAccess, *, text: str, address: str
) -> ResolvedCredential:
    """Returns the result of the look-up. A device's first call is made durable before it is
    answered: here, unless the route records its calls. A commit that gives a device that never
    called another secret may come before that write, so the secret is then looked up a second
    time."""
    project, device = request.match_info.get("project"), request.match_info.get("device")
    found = await access.find(text, project, device, address=address)
    is_recorded = isinstance(wanted, callers.DeviceAccess) and wanted.records_calls
    if found.device_secret != OWN_DEVICE or found.was_seen or is_recorded:
        return found
    assert project is not None and device is not None, "only a device's path finds OWN_DEVICE"
    await access.seen.first(project, device, access.now_ms())
    return await access.find(text, project, device, address=address)


async def _anonymous(
    access: Access, db: Database, wanted: callers.RouteAccess, project: str | None
) -> Caller | None:
    """Returns an anonymous caller if the project lets anyone read its checkpoint."""
    if not (isinstance(wanted, callers.MemberAccess) and wanted.is_public_checkpoint and project):
        return None
    log_id = await access.project(project)
    if log_id is None or not (await settings.current(db, log_id, project)).public_checkpoint:
        return None
    return Caller(kind="nobody", project=project, log_id=log_id)


def is_local(request: web.Request, local_socket: str) -> bool:
    """Returns whether the request came over this unix socket, whose file mode is the credential."""
    transport = request.transport
    return transport is not None and transport.get_extra_info("sockname") == local_socket


def presented(request: web.Request) -> str | None:
    """Returns the credential: a Bearer token, or the password of HTTP Basic with any user name."""
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


async def _system_caller(access: Access, project: str | None) -> Caller:
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


def _device_caller(
    found: ResolvedCredential, wanted: callers.RouteAccess, project: str | None, device: str | None
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


def _token_caller(
    found: ResolvedCredential, wanted: callers.RouteAccess, project: str | None
) -> Caller:
    match wanted:
        case callers.MemberAccess(permission) | callers.DeviceAccess(permission):
            permissions = _permissions(found, project)
            if permission not in permissions:
                raise Forbidden
            return _member_caller(found, project, permissions)
        case _:
            if _is_gateway(found) or found.only_role == GATEWAY:
                raise Forbidden
            return _member_caller(found, project, roles.NOTHING)


def _permissions(found: ResolvedCredential, project: str | None) -> roles.Permissions:
    is_elsewhere = found.token_project is not None and found.token_project != project
    if found.log_id is None or found.member_role is None or is_elsewhere:
        raise NotFound
    return roles.effective(found.member_role, found.token_role)


def _member_caller(
    found: ResolvedCredential, project: str | None, permissions: roles.Permissions
) -> Caller:
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


def _is_gateway(found: ResolvedCredential) -> bool:
    """Returns whether the caller acts as a gateway: the token or the member has that role. A member
    whose role is gateway is a gateway in that project with each of their credentials."""
    return GATEWAY in {found.token_role, found.member_role}
