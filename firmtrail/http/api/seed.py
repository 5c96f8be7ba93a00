"""Serves the three routes of the seed, with its exact texts, for the devices of one project.

They are thin: they record and read the same as the other routes. A refusal does not say what was
wrong, and costs the same work in each case: an unknown device or member costs a look-up and a hash
just as a wrong secret does. The e-mail address and the secret travel in the query, as in the seed;
the service writes no query to its log.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import hdrs, web

from firmtrail.access import people, roles
from firmtrail.access.lookup import OWN_DEVICE, ResolvedCredential
from firmtrail.commands import demo
from firmtrail.events.times import time_text
from firmtrail.http import incoming, live_views, respond
from firmtrail.http.api.rows import POST, TEXT, command, read
from firmtrail.http.call import AnyCall
from firmtrail.http.callers import PUBLIC
from firmtrail.http.errors import CHALLENGE, Forbidden, TooManyRequests
from firmtrail.projections import device_current
from firmtrail.projections.history_lines import HistoryEntry
from firmtrail.projections.history_pages import EVERY_LINE, HistoryRequest
from firmtrail.rules import version
from firmtrail.rules.device import Refused
from firmtrail.rules.report import ReportCommand

POPULATED = "Successfully populated database"


class SeedUpload(msgspec.Struct, frozen=True):
    """Holds the upload of a device of the seed, which numbers its devices."""

    device_id: int | str
    secret: str
    version: Any = None


class SeedUpdate(msgspec.Struct, frozen=True):
    """Describes an update in a line of the seed's list."""

    id: int
    device_id: int | str
    version: str
    date: str


_decode_upload = msgspec.json.Decoder(SeedUpload).decode


async def upload_firmware_update(call: AnyCall) -> web.Response:
    """Record a device's update, as the seed takes it.

    The body is read as JSON, whatever its Content-Type says.
    """
    upload = await _read_upload(call)
    if upload is None or upload.version is None:
        return _refused("Invalid Request")
    name = str(upload.device_id)
    found = await _found_device(call, name, upload.secret)
    if found is None or found.log_id is None:
        return _refused("Invalid Request")
    _check_moved(call, is_safe=False)
    meant = version.from_loose(upload.version) if isinstance(upload.version, str) else None
    if meant is None:
        await _note_first(call, name, found)
        return _text(400, "Version string formatting not valid")
    await live_views.take_over(call.services, found.log_id)
    sent = None if meant == upload.version else upload.version
    report = ReportCommand(name, meant, "installed", f"device/{name}", sent=sent)
    [outcome] = await call.services.recorder.report(found.log_id, [report])
    if isinstance(outcome, Refused):
        await _note_first(call, name, found)
        return _refused("Invalid Request")
    return _text(200, "Successfully updated firmware version")


async def _read_upload(call: AnyCall) -> SeedUpload | None:
    incoming.check_whole(call.request)
    body = await incoming.read_bytes(call.request, takes_arrays=False)
    try:
        upload = _decode_upload(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return upload if _is_storable(upload.device_id, upload.secret) else None


def _is_storable(*texts: str | int) -> bool:
    """Returns whether a database can store these texts; others are not anyone's name or secret."""
    text = "".join(map(str, texts))
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


async def _found_device(call: AnyCall, name: str, secret: str) -> ResolvedCredential | None:
    """Returns the result of looking the secret up, if it is the device's."""
    services = call.services
    project = services.serving.seed_project
    found = await services.access.find(secret, project, name, address=call.address)
    return found if found.device_secret == OWN_DEVICE else None


def _check_moved(call: AnyCall, *, is_safe: bool) -> None:
    """Raises what answers a caller, who is known by now, of a project that moves."""
    services, request = call.services, call.request
    project = services.serving.seed_project
    services.moves.check_project(project, request, request.path, is_safe=is_safe)


async def _note_first(call: AnyCall, name: str, found: ResolvedCredential) -> None:
    """Records that the device has called, if no report of it says so."""
    access = call.services.access
    if not found.was_seen:
        await access.seen.first(call.services.serving.seed_project or "", name, access.now_ms())


async def get_firmware_updates_by_device_id(call: AnyCall) -> web.Response:
    """Return a device's updates, oldest first, as the seed lists them.

    Only a member of the device's project may read them.
    """
    query = call.request.query
    name, secret = query.get("device_id", ""), query.get("secret", "")
    email = query.get("email", "").replace(" ", "+")
    if not _is_storable(name, email, secret):
        return _refused("Invalid request")
    log_id = await _log_of_reader(call, email, secret)
    entries = None if log_id is None else await _history(call, log_id, name)
    if entries is None:
        return _refused("Invalid request")
    number = int(name) if name.isdecimal() else name
    updates = [
        SeedUpdate(each, number, entry.sent or entry.version, time_text(entry.time_ms))
        for each, entry in enumerate(entries, start=1)
    ]
    return respond.json(200, updates, respond.NO_STORE)


async def _log_of_reader(call: AnyCall, email: str, password: str) -> int | None:
    """Returns the project's log, if the login belongs to a member that may read it."""
    services = call.services
    actor_id = await services.access.login(email, password, address=call.address)
    project = services.serving.seed_project
    if actor_id is None or project is None:
        return None
    role = await people.role_of(services.db, project, actor_id)
    if "read" not in roles.effective(role, None):
        return None
    _check_moved(call, is_safe=True)
    return await services.access.project(project)


async def _history(call: AnyCall, log_id: int, name: str) -> list[HistoryEntry] | None:
    """Returns all entries, oldest first; None if there is no such device."""
    await live_views.require(call.services, log_id)
    _, found = device_current.size_and_device(
        await call.services.queries.devices.get((log_id, name))
    )
    if found is None:
        return None
    asked = HistoryRequest(log_id, name, lines_max=EVERY_LINE)
    return (await call.services.queries.histories.page(asked)).entries[::-1]


async def populate_database(call: AnyCall) -> web.Response:
    """Start the demo from scratch, on a new log.

    The seed populates for a GET. A HEAD does nothing.
    """
    if call.request.method == hdrs.METH_HEAD:
        return _text(200, POPULATED)
    return await post_populate_database(call)


async def post_populate_database(call: AnyCall) -> web.Response:
    """Start the demo from scratch, on a new log, for a program or for a page of this server.

    A browser says of a request whether another site made it (Sec-Fetch-Site, W3C Fetch Metadata;
    Origin in older ones); a program sends neither header.
    """
    services = call.services
    if _is_of_another_site(call.request):
        raise Forbidden("A page of another site may not populate the demo.")
    project = services.serving.seed_project or ""
    try:
        services.demo_throttle.take()
        old_log_id = await services.access.project(project)
        above = services.recorder.minimum_sizes.highest_number(project)
        await demo.populate(services.db, services.access.hasher, project, old_log_id, above=above)
    except demo.TooSoon:
        raise TooManyRequests(demo.PACE_S, "The demo was populated a moment ago.") from None
    return _text(200, POPULATED)


def _is_of_another_site(request: web.Request) -> bool:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get(hdrs.ORIGIN)
    if site is not None and site.strip().lower() not in {"same-origin", "none"}:
        return True
    return origin is not None and urlsplit(origin).netloc != request.host


def _refused(text: str) -> web.Response:
    return _text(401, text, CHALLENGE)


def _text(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    sent = {**respond.NO_STORE, **(headers or {})}
    return web.Response(status=status, text=text, headers=sent)


_UPLOAD = {200: TEXT, 400: TEXT, 401: TEXT}
_LIST = {200: list[SeedUpdate], 401: TEXT}
_DEMO: dict[str, Any] = {"answers": {200: TEXT}, "refusals": {403, 409}, "is_raw": True}

ROUTES = (
    command(
        POST,
        "/upload_firmware_update",
        upload_firmware_update,
        PUBLIC,
        answers=_UPLOAD,
        refusals={308, 503},
        is_raw=True,
    ),
    read(
        "/get_firmware_updates_by_device_id",
        get_firmware_updates_by_device_id,
        PUBLIC,
        _LIST,
        refusals={308},
        is_raw=True,
    ),
)

DEMO_ROUTES = (
    read("/populate_database", populate_database, PUBLIC, **_DEMO),
    command(POST, "/populate_database", post_populate_database, PUBLIC, **_DEMO),
)
