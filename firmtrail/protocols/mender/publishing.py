"""Serves mender-cli: log in, publish a Mender artifact, list artifacts and devices.

An artifact names itself and the types of devices that it is for. Each type is a model here, and the
name is the version, alone or after the model and a hyphen: the artifact joins that release of each
model, which is added if there is none.
"""

import asyncio
import re
from typing import Annotated, Any

import msgspec
from aiohttp import BasicAuth, BodyPartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Meta

from firmtrail.access import credentials, logins
from firmtrail.access.keys import Keys
from firmtrail.artifacts import Upload
from firmtrail.commands import releases
from firmtrail.events.times import time_text
from firmtrail.http import errors, incoming, respond, scalars, uploads
from firmtrail.http.auth import presented
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import Presented
from firmtrail.http.downloads import store_of
from firmtrail.projections import device_pages
from firmtrail.projections.device_current import Filter
from firmtrail.rules import artifact, mender_file
from firmtrail.rules.device import DeviceState
from firmtrail.rules.mender_file import MenderFacts
from firmtrail.rules.release import ReleaseArtifact, ReleaseKey

LISTED_MAX = 500
FIELD_BYTES_MAX = scalars.TEXT_BYTES_MAX
PARTS_MAX = 10
DEFAULT_FILE = "artifact.mender"

_is_name = re.compile(scalars.NAME_PATTERN).match


class FirstPageQuery(msgspec.Struct, frozen=True):
    """Chooses a page. The first has at most 500 items, and is the only one with any."""

    page: Annotated[int, Meta(ge=1)] = 1
    per_page: Annotated[int, Meta(ge=1)] = LISTED_MAX


class ListedArtifact(msgspec.Struct, frozen=True):
    """Describes an artifact by what it says of itself."""

    id: str
    name: str
    description: str
    device_types_compatible: list[str]
    size: int
    signed: bool
    modified: str
    updates: list[str]


class ListedDevice(msgspec.Struct, frozen=True):
    """Describes a device."""

    id: str
    identity_data: dict[str, str]
    status: str
    created_ts: str
    updated_ts: str
    decommissioning: bool
    auth_sets: list[str]


async def of_token(request: web.Request, _keys: Keys) -> Presented:
    """Reads what a request of mender-cli presents: a token, which belongs to the project."""
    return Presented(presented(request), None, None)


async def post_mender_login(call: AnyCall) -> web.Response:
    """Exchange an e-mail address and its password for a token."""
    access, sent = call.services.access, call.request.headers.get(hdrs.AUTHORIZATION, "")
    try:
        basic = BasicAuth.decode(sent, encoding="utf-8")
    except ValueError:
        raise errors.Unauthorized from None
    actor_id = await access.login(basic.login, basic.password, address=call.address)
    if actor_id is None:
        raise errors.Unauthorized
    text = credentials.new_token()
    async with call.services.db.transaction() as tx:
        await tx.run(*logins.begin_login(actor_id, text, access.now_ms()))
    return web.Response(text=text, content_type="application/jwt")


async def post_artifact(call: AnyCall) -> web.Response:
    """Publish a Mender artifact: it joins the release that it names, of each model it is for."""
    if not call.request.content_type.startswith("multipart/"):
        raise errors.UnsupportedMediaType("The artifact must arrive as multipart/form-data.")
    try:
        return await _publish_part(call)
    except TimeoutError:
        raise errors.RequestTimeout("The body did not arrive in time.") from None
    except (ValueError, HttpProcessingError, web.RequestPayloadError, ConnectionError):
        raise errors.BadRequest("The body is not well-formed multipart/form-data.") from None


async def _publish_part(call: AnyCall) -> web.Response:
    """Publishes the part `artifact`; those before it are read first."""
    reader, notes = await call.request.multipart(), ""
    for _ in range(PARTS_MAX):
        part = await _next(reader)
        if not isinstance(part, BodyPartReader):
            raise errors.Invalid("The body has no part `artifact`.")
        if part.name == "artifact":
            return await _publish(call, part, notes)
        field = await _field(part)
        notes = field if part.name == "description" else notes
    raise errors.TooLarge(f"A body has at most {PARTS_MAX} parts, and one is named `artifact`.")


async def _next(reader: Any) -> Any:
    async with asyncio.timeout(incoming.BODY_TIMEOUT_S):
        return await reader.next()


async def _field(part: BodyPartReader) -> str:
    """Returns the text of a small part. Raises `TooLarge`."""
    text = bytearray()
    async with asyncio.timeout(incoming.BODY_TIMEOUT_S):
        while chunk := await part.read_chunk():
            text += chunk
            if len(text) > FIELD_BYTES_MAX:
                raise errors.TooLarge(f"A field has at most {FIELD_BYTES_MAX} bytes.")
    return text.decode(errors="replace").replace("\0", " ")


async def _publish(call: AnyCall, part: BodyPartReader, notes: str) -> web.Response:
    file = part.filename if part.filename and _is_name(part.filename) else DEFAULT_FILE
    async with uploads.received(call, part.read_chunk) as upload:
        keys = await _releases_of(call, upload)
        await store_of(call).keep(upload)
        wanted, added = uploads.added(file, upload), False
        for key in keys:
            by = releases.ReleaseAuthor(call.caller.actor, call.caller.actor_id)
            publish = releases.publish(key, notes or None, wanted, by=by)
            added |= await call.services.recorder.act(call.log_id, publish)
    if not added:
        raise errors.Conflict("The releases have this artifact already.", code="artifact_exists")
    return web.Response(status=201)


async def _releases_of(call: AnyCall, upload: Upload) -> list[ReleaseKey]:
    """Returns the releases that an artifact is for. Raises `Invalid`."""
    facts = mender_file.read(upload.head)
    if facts is None:
        raise errors.Invalid("The file is not a Mender artifact that says what it is.")
    async with call.services.db.moment() as reader:
        _, control = await call.services.recorder.controls.at_moment(reader, call.log_id)
    named = [
        (model, artifact.version_named(control, model, facts.provides_name))
        for model in facts.device_types
        if _is_name(model)
    ]
    keys = [ReleaseKey(model, version) for model, version in named if version is not None]
    if not keys or len(keys) < len(facts.device_types):
        raise errors.Invalid(_unnamed(facts))
    return keys


def _unnamed(facts: MenderFacts) -> str:
    return (
        f"The artifact {facts.provides_name} was not published: its name must be a version such as "
        "1.4.0, or a device type, a hyphen and a version, and its device types must be models."
    )


async def get_artifacts(call: Call[FirstPageQuery, None]) -> web.Response:
    """List the Mender artifacts of the project's releases."""
    async with call.services.db.moment() as reader:
        _, control = await call.services.recorder.controls.at_moment(reader, call.log_id)
    listed = {
        each.sha256: _artifact(each, release.added_at_ms)
        for release in control.releases.values()
        for each in release.artifacts
        if each.provides_name is not None
    }
    items = list(listed.values())[-LISTED_MAX:] if call.query.page == 1 else []
    return respond.json(200, items)


def _artifact(found: ReleaseArtifact, added_at_ms: int) -> ListedArtifact:
    return ListedArtifact(
        found.sha256,
        found.provides_name or "",
        "",
        list(found.device_types),
        found.size_bytes,
        signed=False,
        modified=time_text(added_at_ms),
        updates=[],
    )


async def get_mender_devices(call: Call[FirstPageQuery, None]) -> web.Response:
    """List the first devices of the project."""
    if call.query.page != 1:
        return respond.json(200, [])
    db, head = call.services.db, (call.log_id, call.project)
    limit = min(call.query.per_page, LISTED_MAX)
    found = await device_pages.page(db, head, Filter(), after="", limit=limit)
    return respond.json(200, [_device(each.state) for each in found.devices])


def _device(state: DeviceState) -> ListedDevice:
    registered_at = time_text(state.registered_at_ms)
    return ListedDevice(
        state.device,
        {"device": state.device},
        "pending" if state.pending else "accepted",
        registered_at,
        registered_at,
        decommissioning=state.decommissioned,
        auth_sets=[],
    )
