"""Authenticates callers, and decides whether a caller may call a route.

One lookup decides. A device credential gets a 401 if it is missing, wrong, revoked, or belongs to a
device other than the path's. This answer and the work for it are the same whether or not the path's
device or project exists. The same holds on a gateway's route, whose path names no device. On a
route of users, a device credential gets 403, whatever the path names. For a person that is not a
member, the path's project does not exist: the answer is 404.

A request without any other credential, and without an Authorization header, may carry a client
certificate (`http/certificates.py`). It gets the answers of a device's secret: 401 on a path of
devices that is not its own, 403 on a route of users.

A route of another protocol says where its requests carry the credential, the project and the device
(`callers.Presented`). All the above holds for it as well.
"""

from base64 import b64decode
from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import hdrs, web

from firmtrail.access import roles, settings
from firmtrail.access.certified import CertifiedDevices
from firmtrail.access.keys import Keys
from firmtrail.access.lookup import OTHER_DEVICE, OWN_DEVICE, Access, ResolvedCredential
from firmtrail.database.database import Database
from firmtrail.http import callers, sessions
from firmtrail.http.callers import NOBODY, SYSTEM_ACTOR, Caller, Presented
from firmtrail.http.certificates import ClientCertificates
from firmtrail.http.clients import Clients
from firmtrail.http.errors import Forbidden, NotFound, Unauthorized

GATEWAY = "gateway"

type Authenticate = Callable[[web.Request, callers.RouteAccess], Awaitable[Caller]]


def authenticator(
    access: Access, db: Database, clients: Clients, certificate_header: str | None = None
) -> Authenticate:
    """Returns the function that finds the caller of a request, or raises the problem to answer."""

    async def authenticate(request: web.Request, wanted: callers.RouteAccess) -> Caller:
        match wanted:
            case callers.PublicAccess():
                return NOBODY
            case callers.PageAccess():
                return await sessions.caller_of(access, clients, request, wanted)
            case _:
                return await by_credential(request, wanted)

    by_certificate = _by_certificate(access, db, ClientCertificates(clients, certificate_header))
    by_credential = _by_credential(access, db, clients, by_certificate)
    return authenticate


type _ByCertificate = Callable[[web.Request, callers.RouteAccess, Presented], Awaitable[Caller]]


def _by_certificate(
    access: Access, db: Database, certificates: ClientCertificates
) -> _ByCertificate:
    certified = CertifiedDevices(db)

    async def authenticate(
        request: web.Request, wanted: callers.RouteAccess, asked: Presented
    ) -> Caller:
        """Finds the caller of a request without another credential, and without an Authorization
        header of another scheme. Raises `Unauthorized`, or `Forbidden` for a certificate on a route
        of users."""
        has_other = hdrs.AUTHORIZATION in request.headers
        names = None if has_other else certificates.names(request)
        if names is None:
            raise Unauthorized
        if not isinstance(wanted, callers.DeviceAccess | callers.GatewayAccess):
            raise Forbidden
        find = partial(certified.find, names, asked.project, asked.device)
        return admitted(await _look_up(access, asked, wanted, find), wanted, asked)

    return authenticate


def _by_credential(
    access: Access, db: Database, clients: Clients, by_certificate: _ByCertificate
) -> Authenticate:
    keys = Keys(db)

    async def authenticate(request: web.Request, wanted: callers.RouteAccess) -> Caller:
        presents = _presenting(wanted)
        asked = await presents(request, keys) if presents else _in_path(request)
        if _may_be_public(wanted) and (anonymous := await _anonymous(access, db, asked.project)):
            return anonymous
        if access.local_socket is not None and is_local(request, access.local_socket):
            return _named(request, asked, await _system_caller(access, asked.project))
        if isinstance(wanted, callers.LocalAccess):
            raise NotFound
        if asked.credential is None:
            return _named(request, asked, await by_certificate(request, wanted, asked))
        find = _finder(access, asked, wanted, clients.address(request))
        found = await _look_up(access, asked, wanted, find)
        if asked.project is None:
            asked = asked._replace(project=found.project)
        return _named(request, asked, admitted(found, wanted, asked))

    return authenticate


def _in_path(request: web.Request) -> Presented:
    names = request.match_info
    return Presented(presented(request), names.get("project"), names.get("device"))


def _presenting(wanted: callers.RouteAccess) -> callers.Presenting | None:
    if isinstance(wanted, callers.MemberAccess | callers.DeviceAccess):
        return wanted.presents
    return None


def _named(request: web.Request, asked: Presented, caller: Caller) -> Caller:
    """Returns the admitted caller. From here on the request names its project and its device as a
    path of `http/api` does, wherever it carries them."""
    names = request.match_info
    if asked.device is not None:
        names["device"] = asked.device
    if asked.project is not None:
        names["project"] = asked.project
    return caller


def admitted(found: ResolvedCredential, wanted: callers.RouteAccess, asked: Presented) -> Caller:
    """Returns the caller whose credential was found. Raises `Unauthorized`, `Forbidden` or
    `NotFound` if the route does not admit it."""
    if found.device_secret == OWN_DEVICE:
        return _device_caller(found, wanted, asked.project, asked.device)
    if found.token_id is not None:
        return _token_caller(found, wanted, asked.project)
    is_of_devices = isinstance(wanted, callers.DeviceAccess | callers.GatewayAccess)
    if found.device_secret == OTHER_DEVICE and not is_of_devices:
        raise Forbidden
    raise Unauthorized


type _Find = Callable[[], Awaitable[ResolvedCredential]]


async def _look_up(
    access: Access, asked: Presented, wanted: callers.RouteAccess, find: _Find
) -> ResolvedCredential:
    """Returns the result of the look-up. A device's first call is made durable before it is
    answered: here, unless the route records its calls. A commit that gives a device that never
    called another secret may come before that write, so the secret is then looked up a second
    time."""
    found = await find()
    is_recorded = isinstance(wanted, callers.DeviceAccess) and wanted.records_calls
    if found.device_secret != OWN_DEVICE or found.was_seen or is_recorded:
        return found
    project = asked.project or found.project
    assert project is not None and asked.device is not None, "only a device has OWN_DEVICE"
    await access.seen.first(project, asked.device, access.now_ms())
    return await find()


def _finder(access: Access, asked: Presented, wanted: callers.RouteAccess, address: str) -> _Find:
    text, project, device, digest = asked
    assert text is not None, "a request without a credential is refused"
    if project is None and _presenting(wanted):
        return partial(access.find_project, text, device, address=address)
    return partial(access.find, text, project, device, address=address, digest=digest)


def _may_be_public(wanted: callers.RouteAccess) -> bool:
    return isinstance(wanted, callers.MemberAccess) and wanted.is_public_checkpoint


async def _anonymous(access: Access, db: Database, project: str | None) -> Caller | None:
    """Returns an anonymous caller if the project lets anyone read its checkpoint."""
    if not project or (log_id := await access.project(project)) is None:
        return None
    if not (await settings.current(db, log_id, project)).public_checkpoint:
        return None
    return Caller(kind="nobody", project=project, log_id=log_id)


def is_local(request: web.Request, local_socket: str) -> bool:
    """Returns whether the request came over this unix socket, whose file mode is the credential."""
    transport = request.transport
    return transport is not None and transport.get_extra_info("sockname") == local_socket


def presented(request: web.Request, *schemes: str) -> str | None:
    """Returns the credential: a Bearer token, the password of HTTP Basic with any user name, or the
    text after one of a protocol's own schemes, whose case counts."""
    scheme, _, value = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme in schemes:
        return value.strip() or None
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
        registers=bool(found.registers) and _may_register(found),
        is_joining=bool(found.is_unknown) and _may_register(found),
    )


def _may_register(found: ResolvedCredential) -> bool:
    """Returns whether the holder of a token that registers devices still may register them."""
    return "operate" in roles.effective(found.member_role, None)


def _is_gateway(found: ResolvedCredential) -> bool:
    """Returns whether the caller acts as a gateway: the token or the member has that role. A member
    whose role is gateway is a gateway in that project with each of their credentials."""
    return GATEWAY in {found.token_role, found.member_role}
