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

type Authenticate = Callable[[web.Request], Awaitable[Caller]]
"""Returns the caller of a request of one route, or raises the problem to answer."""
type Authentication = Callable[[callers.RouteAccess], Authenticate]
"""Returns the function that authenticates the requests of a route with this access."""


def authentication(
    access: Access, db: Database, clients: Clients, certificate_header: str | None = None
) -> Authentication:
    """Returns how the requests of each route are authenticated."""
    keys, certified = Keys(db), CertifiedDevices(db)
    certificates = ClientCertificates(clients, certificate_header)

    def of_route(wanted: callers.RouteAccess) -> Authenticate:
        match wanted:
            case callers.PublicAccess():
                return nobody
            case callers.PageAccess():
                return partial(sessions.caller_of, access, clients, wanted)
            case _:
                by_certificate = _by_certificate(access, certified, certificates, wanted)
                named = _by_credential(access, clients, wanted, by_certificate)
                if _may_be_public(wanted):
                    named = _or_anonymous(access, db, named)
                presents = _presenting(wanted)
                return _in_path(named) if presents is None else _as_presented(presents, keys, named)

    return of_route


async def nobody(_request: web.Request) -> Caller:
    """Admits anyone, without a look at the credential."""
    return NOBODY


type _OfPresented = Callable[[web.Request, Presented], Awaitable[Caller]]


def _by_certificate(
    access: Access,
    certified: CertifiedDevices,
    certificates: ClientCertificates,
    wanted: callers.RouteAccess,
) -> _OfPresented:
    is_of_devices = isinstance(wanted, callers.DeviceAccess | callers.GatewayAccess)

    async def authenticate(request: web.Request, asked: Presented) -> Caller:
        """Finds the caller of a request without another credential, and without an Authorization
        header of another scheme. Raises `Unauthorized`, or `Forbidden` for a certificate on a route
        of users."""
        has_other = hdrs.AUTHORIZATION in request.headers
        names = None if has_other else certificates.names(request)
        if names is None:
            raise Unauthorized
        if not is_of_devices:
            raise Forbidden
        find = partial(certified.find, names, asked.project, asked.device)
        found = await find()
        if _must_be_recorded(found, wanted):
            found = await _recorded(access, found, asked, find)
        return admitted(found, wanted, asked)

    return authenticate


def _by_credential(
    access: Access, clients: Clients, wanted: callers.RouteAccess, by_certificate: _OfPresented
) -> _OfPresented:
    is_local_only = isinstance(wanted, callers.LocalAccess)
    may_name_no_project = _presenting(wanted) is not None

    async def authenticate(request: web.Request, asked: Presented) -> Caller:
        if access.local_socket is not None and is_local(request, access.local_socket):
            return await _system_caller(access, asked.project)
        if is_local_only:
            raise NotFound
        text, project, device, digest = asked
        if text is None:
            return await by_certificate(request, asked)
        address = clients.address(request)
        if project is None and may_name_no_project:
            find = partial(access.find_project, text, device, address=address)
        else:
            find = partial(access.find, text, project, device, address=address, digest=digest)
        found = await find()
        if _must_be_recorded(found, wanted):
            found = await _recorded(access, found, asked, find)
        if project is None:
            asked = asked._replace(project=found.project)
        return admitted(found, wanted, asked)

    return authenticate


def _or_anonymous(access: Access, db: Database, named: _OfPresented) -> _OfPresented:
    async def authenticate(request: web.Request, asked: Presented) -> Caller:
        return await _anonymous(access, db, asked.project) or await named(request, asked)

    return authenticate


def _in_path(named: _OfPresented) -> Authenticate:
    def authenticate(request: web.Request) -> Awaitable[Caller]:
        names = request.match_info
        asked = Presented(presented(request), names.get("project"), names.get("device"))
        return named(request, asked)

    return authenticate


def _as_presented(presents: callers.Presenting, keys: Keys, named: _OfPresented) -> Authenticate:
    """Authenticates requests that carry their project and device elsewhere than in the path. From
    then on an admitted request names them as a path of `http/api` does."""

    async def authenticate(request: web.Request) -> Caller:
        asked = await presents(request, keys)
        caller = await named(request, asked)
        names = request.match_info
        if asked.device is not None:
            names["device"] = asked.device
        if caller.project is not None:
            names["project"] = caller.project
        return caller

    return authenticate


def _presenting(wanted: callers.RouteAccess) -> callers.Presenting | None:
    if isinstance(wanted, callers.MemberAccess | callers.DeviceAccess):
        return wanted.presents
    return None


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


def _must_be_recorded(found: ResolvedCredential, wanted: callers.RouteAccess) -> bool:
    """Returns whether this is a device's first call, on a route that does not record its calls."""
    if found.was_seen or found.device_secret != OWN_DEVICE:
        return False
    return not (isinstance(wanted, callers.DeviceAccess) and wanted.records_calls)


async def _recorded(
    access: Access, found: ResolvedCredential, asked: Presented, find: _Find
) -> ResolvedCredential:
    """Makes a device's first call durable, and returns the result of a second look-up. A commit
    that gives a device that never called another secret may have come before that write."""
    project = asked.project or found.project
    assert project is not None and asked.device is not None, "only a device has OWN_DEVICE"
    await access.seen.first(project, asked.device, access.now_ms())
    return await find()


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
    if request.remote:  # a peer over a unix socket has no address
        return False
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
