"""Admits a device by the signature of its own key.

The device names itself, and, with its tenant token, the project: by a token of the project, by the
project's name, or not at all if its key is known. A device whose key is accepted gets a token for a
day. Everything else gets the same 401. The device then asks again later; meanwhile an operator may
accept the key.
"""

from typing import NamedTuple

import msgspec
from aiohttp import web

from firmtrail.access import addresses, credentials
from firmtrail.access import keys as shared_keys
from firmtrail.access.keys import Keys
from firmtrail.commands import enrolment
from firmtrail.commands.enrolment import Joiner, key_digest
from firmtrail.http import incoming, live_views
from firmtrail.http.auth import admitted, presented
from firmtrail.http.call import AnyCall
from firmtrail.http.callers import DEVICE, Presented
from firmtrail.http.errors import BadRequest, Forbidden, NotFound, Unauthorized
from firmtrail.projections import device_current
from firmtrail.projections.device_current import CurrentDevice
from firmtrail.protocols.mender import device_tokens, names
from firmtrail.protocols.mender.device_tokens import VALID_S, DeviceClaims
from firmtrail.protocols.mender.keys import signer
from firmtrail.rules.device import Refused

SIGNATURE = "X-Men-Signature"


class AuthRequest(msgspec.Struct, frozen=True):
    """Names the device, its public key, and the project that it wants to join."""

    id_data: str
    pubkey: str
    tenant_token: str = ""


class _Tenant(NamedTuple):
    """Holds the project that a request is for, and the caller that devices join it through."""

    project: str
    log_id: int
    joiner: Joiner | None
    """None: nobody vouches for the device, and only a known key is admitted."""
    has_token: bool = False
    """Whether the device presents a token of the project, so that it is no stranger who tries."""


async def of_device(request: web.Request, keys: Keys) -> Presented:
    """Reads what a request of a device presents: a token that names the device and its key."""
    text, key = presented(request), await keys.get(shared_keys.CURSORS)
    if text is None:
        return Presented(None, "", "")
    claims = device_tokens.read(key, text, names.now_s())
    if claims is None:
        return Presented(text, "", "", digest="none")
    return Presented(text, claims.project, claims.device, key_digest(claims.key))


async def post_auth_request(call: AnyCall) -> web.Response:
    """Exchange a device's signature for a token, if its key is accepted."""
    incoming.check_whole(call.request)
    body = await incoming.read_bytes(call.request, takes_arrays=False)
    try:
        asked = msgspec.json.decode(body, type=AuthRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not a request for authentication.") from None
    key = signer(asked.pubkey, call.request.headers.get(SIGNATURE, ""), body)
    if key is None:
        await call.services.access.hasher.count_guess("device", call.address)
        raise Unauthorized
    claims = await _admitted(call, asked, key)
    text = device_tokens.issue(await call.services.keys.get(shared_keys.CURSORS), claims)
    return web.Response(text=text, content_type="application/jwt")


async def _admitted(call: AnyCall, asked: AuthRequest, key: str) -> DeviceClaims:
    """Returns the claims of the device's token. Raises `Unauthorized`, or `Conflict` if the project
    has moved: a client with several servers then asks the next one."""
    tenant_text = asked.tenant_token or presented(call.request) or ""
    tenant = await _tenant(call, tenant_text, asked, key)
    if tenant is None:
        raise Unauthorized
    attribute = await names.identity_attribute(call, tenant.log_id)
    device = names.device_of(asked.id_data, attribute)
    if device is None:
        await call.services.access.hasher.count_guess("device", call.address)
        raise Unauthorized
    access = call.services.access
    is_known = await access.admits_key(tenant.project, device, key_digest(key))
    if is_known or tenant.has_token:
        call.services.moves.check_here(tenant.project, "Authenticate there.")
        await live_views.take_over(call.services, tenant.log_id)
    if not is_known:
        if not tenant.has_token:
            await access.hasher.count_guess("device", call.address)
        if not await _offered(call, tenant, device, key):
            raise Unauthorized
    return DeviceClaims(tenant.project, device, key, int(names.now_s()) + VALID_S)


async def _tenant(call: AnyCall, text: str, asked: AuthRequest, key: str) -> _Tenant | None:
    if credentials.is_strong(text):
        return await _of_token(call, text)
    if text:
        return await _of_project(call, text, asked)
    return await _of_known_key(call, asked, key)


async def _of_token(call: AnyCall, text: str) -> _Tenant | None:
    """Returns the project of a token that may speak for devices."""
    found = await call.services.access.find_project(text, None, address=call.address)
    try:
        caller = admitted(found, DEVICE, Presented(text, found.project, None))
    except (Forbidden, NotFound, Unauthorized):
        return None
    joiner = Joiner(caller.actor, caller.token_id if caller.registers else None)
    return _Tenant(found.project or "", caller.log_id or 0, joiner, has_token=True)


async def _of_project(call: AnyCall, name: str, asked: AuthRequest) -> _Tenant | None:
    """Returns the project of this name, which a device may join without a token."""
    access = call.services.access
    log_id = await access.project(name) if names.is_project(name) else None
    if log_id is None:
        await access.hasher.count_guess("device", call.address)
        return None
    settings = await names.settings(call, log_id)
    if settings.enrolment == "closed":
        return _Tenant(name, log_id, None)
    device = names.device_of(asked.id_data, settings.mender_id_attribute)
    return _Tenant(name, log_id, Joiner(f"device/{device}", may_name=False))


async def _of_known_key(call: AnyCall, asked: AuthRequest, key: str) -> _Tenant | None:
    """Returns the project of the device with this key, for a client that names no project."""
    found = await call.services.access.find_project(
        "", names.device_of(asked.id_data, None), address=call.address, digest=key_digest(key)
    )
    if found.project is None or found.log_id is None:
        return None
    return _Tenant(found.project, found.log_id, None)


async def _may_take(call: AnyCall, tenant: _Tenant, known: CurrentDevice, key: str) -> bool:
    """Returns whether the device may take the key, or keep it to be accepted. A key that waits
    keeps others out, but for keys through a token: the first one of a device that never called, and
    any while the key that waits came without one."""
    state, joiner = known.state, tenant.joiner
    if state.decommissioned:
        return False
    if state.offered_key is None:
        return True
    if joiner is None or not joiner.may_name:
        return False
    if known.last_seen_at_ms is None and not state.pending:
        return True
    if state.offered_key == key:
        return False
    wanted = enrolment.find_alone(tenant.log_id, state.device, state.offered_key)
    return bool(await call.services.db.read(wanted))


async def _offered(call: AnyCall, tenant: _Tenant, device: str, key: str) -> bool:
    """Offers the key as the device's own, unless one waits already; returns whether it is
    accepted. A device is also counted before the server takes the project over for it."""
    joiner, services = tenant.joiner, call.services
    if joiner is None:
        return False
    if tenant.log_id in services.builder.unfit:
        await _count(call, tenant.project, joiner)
        await live_views.require(services, tenant.log_id)
    _, known = device_current.size_and_device(
        await services.queries.devices.get((tenant.log_id, device))
    )
    if known is not None and not await _may_take(call, tenant, known, key):
        return False
    await _count(call, tenant.project, joiner)
    try:
        return await services.recorder.act(tenant.log_id, enrolment.offer_key(device, key, joiner))
    except Refused:
        return False


async def _count(call: AnyCall, project: str, joiner: Joiner) -> None:
    """Counts a device that joins. Raises `TooManyAttempts` past a limit."""
    registrations = call.services.access.registrations
    if joiner.token_id is not None:
        await registrations.of_token(joiner.token_id)
    else:
        await registrations.of_network(project, addresses.network(call.address))
