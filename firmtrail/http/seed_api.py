"""The three routes of the seed, with its very texts, for the devices of one project.

They are thin: what they record and read is what every other route does. A refusal says nothing of
what was wrong, and the same work is done for each: a device or a member that does not exist costs
a look-up and a hash as a wrong secret does. Their e-mail and secret travel in a query, as the seed
has it; no log line of ours holds a query.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import hdrs, web

from firmtrail.access import people, roles
from firmtrail.access.lookup import OWN_DEVICE, Found
from firmtrail.commands import demo
from firmtrail.events.times import time_text
from firmtrail.http import incoming, respond
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import CHALLENGE, Forbidden, TooManyRequests
from firmtrail.projections import device_current, device_history
from firmtrail.projections.device_history import Asked, Entry
from firmtrail.rules import version
from firmtrail.rules.device import Refused, Report

POPULATED = "Successfully populated database"


class Update(msgspec.Struct, frozen=True):
    """What a device of the seed uploads; it numbers its devices."""

    device_id: int | str
    secret: str
    version: Any = None


class SeedUpdate(msgspec.Struct, frozen=True):
    """A line of the seed's list."""

    id: int
    device_id: int | str
    version: str
    date: str


_decode_update = msgspec.json.Decoder(Update).decode


async def upload_firmware_update(call: AnyCall) -> web.Response:
    """Record what a device runs. The body is JSON whatever its Content-Type says."""
    update = await _read_update(call)
    if update is None or update.version is None:
        return _refused("Invalid Request")
    name = str(update.device_id)
    found = await _found_device(call, name, update.secret)
    if found is None or found.log_id is None:
        return _refused("Invalid Request")
    meant = version.from_loose(update.version) if isinstance(update.version, str) else None
    if meant is None:
        await _note_first(call, name, found)
        return _text(400, "Version string formatting not valid")
    sent = None if meant == update.version else update.version
    report = Report(name, meant, "installed", f"device/{name}", sent=sent)
    [outcome] = await call.services.recorder.report(found.log_id, [report])
    if isinstance(outcome, Refused):
        await _note_first(call, name, found)
        return _refused("Invalid Request")
    return _text(200, "Successfully updated firmware version")


async def _read_update(call: AnyCall) -> Update | None:
    incoming.check_whole(call.request)
    body = await incoming.read_bytes(call.request, takes_arrays=False)
    try:
        update = _decode_update(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return update if _is_storable(update.device_id, update.secret) else None


def _is_storable(*texts: str | int) -> bool:
    """Whether a database can hold these texts: what it can't is nobody's name or secret."""
    text = "".join(map(str, texts))
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


async def _found_device(call: AnyCall, name: str, secret: str) -> Found | None:
    """What the secret is, if it is the device's."""
    services = call.services
    found = await services.access.find(secret, services.seed_project, name, address=call.address)
    return found if found.device_secret == OWN_DEVICE else None


async def _note_first(call: AnyCall, name: str, found: Found) -> None:
    """Write that the device has called, where no report of it says so."""
    access = call.services.access
    if not found.was_seen:
        await access.seen.first(call.services.seed_project or "", name, access.now_ms())


async def get_firmware_updates_by_device_id(call: AnyCall) -> web.Response:
    """Everything that a device came to run, oldest first, for a member of its project."""
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
    """The project's log, if this is a member who may read it."""
    services = call.services
    actor_id = await services.access.login(email, password, address=call.address)
    project = services.seed_project
    if actor_id is None or project is None:
        return None
    role = await people.role_of(services.db, project, actor_id)
    if "read" not in roles.effective(role, None):
        return None
    return await services.access.project(project)


async def _history(call: AnyCall, log_id: int, name: str) -> list[Entry] | None:
    """All entries, oldest first; None where there is no such device."""
    if not await _exists(call, log_id, name):
        return None
    rows = await call.services.histories.get(Asked(log_id, name))
    return device_history.page_of(rows, entries_max=len(rows)).entries[::-1]


async def _exists(call: AnyCall, log_id: int, name: str) -> bool:
    _, found = device_current.found_one(await call.services.devices.get((log_id, name)))
    return found is not None


async def populate_database(call: AnyCall) -> web.Response:
    """Populate for a GET, as the seed has it. A HEAD does nothing."""
    if call.request.method == hdrs.METH_HEAD:
        return _text(200, POPULATED)
    return await post_populate_database(call)


async def post_populate_database(call: AnyCall) -> web.Response:
    """Start the demo from scratch, for a program or a page of this very server.

    A browser says of a request whether another site made it (Sec-Fetch-Site, W3C Fetch Metadata;
    Origin in older ones); a program sends neither.
    """
    services = call.services
    if _is_of_another_site(call.request):
        raise Forbidden("A page of another site may not populate the demo.")
    project = services.seed_project or ""
    try:
        services.demo_throttle.take()
        old_log_id = await services.access.project(project)
        above = services.recorder.floors.number(project)
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
