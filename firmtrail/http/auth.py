"""Who is calling, and may he call this route?

One lookup decides. Device credentials that are missing, wrong, revoked, or for a device that is
not there, answer 401 with one face and after the same work; a good one at the wrong door, 404 or
403. A person who is no member of the path's project is told that there is no such project.
"""

from base64 import b64decode
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from firmtrail.access import Access, roles, settings
from firmtrail.access.lookup import OTHER_DEVICE, OWN_DEVICE, Found
from firmtrail.eventstore.database import Database
from firmtrail.http import kinds
from firmtrail.http.errors import Forbidden, NotFound, Unauthorized
from firmtrail.http.kinds import NOBODY, SYSTEM_ACTOR, Caller
from firmtrail.projections import device_current

type Authenticate = Callable[[web.Request, kinds.Access], Awaitable[Caller]]


def authenticator(access: Access, db: Database) -> Authenticate:
    """Return what tells the caller of a request, or raises what he is answered instead."""

    async def authenticate(request: web.Request, wanted: kinds.Access) -> Caller:
        if isinstance(wanted, kinds.Public):
            return NOBODY
        project, device = request.match_info.get("project"), request.match_info.get("device")
        if anyone := await _anyone(access, db, wanted, project):
            return anyone
        if access.local_socket is not None and is_local(request, access.local_socket):
            return await _system(access, project)
        if isinstance(wanted, kinds.Local):
            raise NotFound
        text = presented(request)
        if text is None:
            raise Unauthorized
        found = await access.find(text, project, device, address=request.remote or "")
        if found.device_secret == OWN_DEVICE:
            return _own_device(found, wanted, project, device)
        if found.token_id is not None:
            return _holder(found, wanted, project)
        if found.device_secret == OTHER_DEVICE:
            await _refuse_other_device(db, found, wanted, device)
        raise Unauthorized

    return authenticate


async def _anyone(
    access: Access, db: Database, wanted: kinds.Access, project: str | None
) -> Caller | None:
    """Nobody in particular, where the project lets anyone read its checkpoint."""
    if not (isinstance(wanted, kinds.Member) and wanted.is_public_checkpoint and project):
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
    found: Found, wanted: kinds.Access, project: str | None, device: str | None
) -> Caller:
    if not isinstance(wanted, kinds.Device):
        raise Forbidden
    return Caller(
        kind="device",
        actor=f"device/{device}",
        project=project,
        log_id=found.log_id,
        device=device,
    )


def _holder(found: Found, wanted: kinds.Access, project: str | None) -> Caller:
    match wanted:
        case kinds.Member(permission) | kinds.Device(permission):
            permissions = _permissions(found, project)
            if permission not in permissions:
                raise Forbidden
            return _caller(found, project, permissions)
        case _:
            if _is_gateway(found):
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
    return found.token_role == "gateway"  # noqa: S105 (a role, not a token)


async def _refuse_other_device(
    db: Database, found: Found, wanted: kinds.Access, device: str | None
) -> None:
    """Answer a good secret of another device; returns where the path's device is not there."""
    if not isinstance(wanted, kinds.Device):
        raise Forbidden
    if found.log_id is None:
        return
    [[_, *row]] = await db.read(device_current.one([(found.log_id, device)]))
    if device_current.found_one([row])[1] is not None:
        raise NotFound
