"""Takes the files that memfault-cli publishes: announced, sent to a URL of their own, then named.

A file is sent without a credential, so its URL is the credential: signed, for an hour, for the size
that was announced. memfault-cli takes 409 for "was already uploaded", which is success; so nothing
but the same bytes may be answered with it.
"""

from http import HTTPMethod
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.commands import artifact_uploads, releases
from firmtrail.commands.artifact_uploads import AnnouncedUpload
from firmtrail.events.fleet import ArtifactAdded
from firmtrail.http import download_urls, errors, uploads
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import PUBLIC, Caller
from firmtrail.http.clients import IS_AUTHENTICATED
from firmtrail.http.download_urls import SignatureQuery
from firmtrail.http.downloads import store_of
from firmtrail.http.scalars import TEXT_BYTES_MAX, Name, VersionText, VisibleText
from firmtrail.protocols.memfault.wire import (
    OPERATE,
    ORGANIZATION,
    READ,
    Data,
    Failed,
    bad_request,
    data,
    row,
)
from firmtrail.rules import mender_file
from firmtrail.rules.device import Refused
from firmtrail.rules.release import ReleaseKey

UPLOAD_URL_S = 3600
_UPLOAD = "upload"


class ProjectFacts(msgspec.Struct, frozen=True):
    """Describes the project to the tool; 0 stands for uploads in one piece."""

    slug: str
    name: str
    max_ota_upload_size: int = 0
    qcomm_enabled: bool = False


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """Announces a file."""

    kind: VisibleText
    size: Annotated[int, Meta(ge=1, le=2**53)]


class UploadPlace(msgspec.Struct, frozen=True):
    """Says where the bytes go, and how to name them afterwards."""

    upload_url: str
    token: str


class SentFile(msgspec.Struct, frozen=True):
    """Names the bytes that were sent."""

    token: VisibleText
    md5: VisibleText
    name: Name


class SoftwareVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Names the version of the release."""

    version: VersionText
    software_type: str = ""


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """Names the release that the bytes belong to; its model is the hardware version."""

    file: SentFile
    software_version: SoftwareVersion
    hardware_version: Name
    notes: str = ""


class Published(msgspec.Struct, frozen=True):
    """Describes what was published."""

    version: str
    hardware_version: str
    filename: str
    sha256: str


async def get_memfault_project(call: AnyCall) -> web.Response:
    """Return what memfault-cli asks of a project before it uploads."""
    return data(ProjectFacts(call.project, call.project))


async def post_upload(call: Call[Any, Announcement]) -> web.Response:
    """Announce a file, and get the URL that takes its bytes."""
    store_of(call)
    if call.body.kind != "OTA_PAYLOAD":
        return bad_request("This server takes files of the kind OTA_PAYLOAD only.")
    if call.body.size > call.services.serving.artifact_bytes_max:
        return bad_request(f"Uploaded file is too big: {uploads.too_large(call).detail}")
    now_ms = call.services.access.now_ms()
    token = await artifact_uploads.announce(call.services.db, call.project, call.body.size, now_ms)
    expiry = str(now_ms // 1000 + UPLOAD_URL_S)
    signature = await download_urls.signature(call, (_UPLOAD, call.project, token), expiry)
    base = call.services.clients.url(call.request)
    url = f"{base}/api/v0/uploads/{call.project}/{token}?e={expiry}&s={signature}"
    return data(UploadPlace(url, token))


async def put_upload(call: Call[SignatureQuery, None]) -> web.Response:
    """Take the bytes of a file that was announced."""
    names, query = (_UPLOAD, call.path("project"), call.path("id")), call.query
    if not await download_urls.is_signed(call, names, query.e or "", query.s or ""):
        raise errors.CodedForbidden(
            "This URL was altered or has expired: announce the file again.",
            code="bad_upload_url",
        )
    call.request[IS_AUTHENTICATED] = True
    _, project, token = names
    announced = await artifact_uploads.find(call.services.db, project, token)
    if announced is None:
        raise errors.NotFound("This upload was forgotten: announce the file again.")
    log_id = await call.services.access.project(project)
    call.caller = Caller(kind="nobody", project=project, log_id=log_id)
    await _receive(call, project, token, announced)
    return web.Response(status=200)


async def _receive(call: AnyCall, project: str, token: str, announced: AnnouncedUpload) -> None:
    async with uploads.received(call) as upload:
        if upload.size_bytes != announced.size_bytes:
            raise errors.Invalid(f"The file was announced with {announced.size_bytes} bytes.")
        if announced.sha256 not in {None, upload.sha256}:
            raise errors.Conflict("This URL has taken other bytes.", code="artifact_exists")
        await store_of(call).keep(upload)
    digests = (upload.sha256, upload.digests.sha1, upload.digests.md5)
    await artifact_uploads.arrived(call.services.db, project, token, digests)


async def post_payload(call: Call[Any, Payload]) -> web.Response:
    """Add the bytes that were sent to a release, which is created if it does not exist."""
    body = call.body
    sent = await artifact_uploads.find(call.services.db, call.project, body.file.token)
    if sent is None or sent.sha256 is None:
        return bad_request("No bytes have arrived for this token: upload the file again.")
    if sent.md5 != body.file.md5.lower():
        return bad_request("The bytes that arrived have another MD5: upload the file again.")
    if len(body.notes.encode()) > TEXT_BYTES_MAX:
        return bad_request(f"The notes have more than {TEXT_BYTES_MAX} bytes.")
    key = ReleaseKey(body.hardware_version, body.software_version.version)
    wanted = await _added(call, body.file.name, sent)
    by = releases.ReleaseAuthor(call.caller.actor, call.caller.actor_id)
    publish = releases.publish(key, body.notes or None, wanted, by=by)
    try:
        is_new = await call.services.recorder.act(call.log_id, publish)
    except Refused as refused:
        return bad_request(refused.detail)
    if not is_new:
        raise errors.Conflict("The release has this file already.", code="artifact_exists")
    return data(Published(key.version, key.model, wanted.name, wanted.sha256))


async def _added(call: AnyCall, name: str, sent: AnnouncedUpload) -> ArtifactAdded:
    assert sent.sha256 is not None, "the bytes have arrived"
    stop = min(sent.size_bytes, mender_file.HEAD_BYTES)
    chunks = store_of(call).read(sent.sha256, 0, stop)
    facts = mender_file.read(b"".join([chunk async for chunk in chunks]))
    return ArtifactAdded(
        name,
        sent.size_bytes,
        sent.sha256,
        sha1=sent.sha1,
        md5=sent.md5,
        provides_name=facts.provides_name if facts else None,
        device_types=facts.device_types if facts else (),
    )


ROUTES = (
    row(
        HTTPMethod.GET, ORGANIZATION, get_memfault_project, READ, answers={200: Data[ProjectFacts]}
    ),
    row(
        HTTPMethod.POST,
        f"{ORGANIZATION}/upload",
        post_upload,
        OPERATE,
        body=Announcement,
        answers={200: Data[UploadPlace], 400: Failed},
        refusals={409},
    ),
    row(
        HTTPMethod.PUT,
        "/api/v0/uploads/{project}/{id}",
        put_upload,
        PUBLIC,
        query=SignatureQuery,
        takes_bytes=True,
        answers={200: None},
        refusals={403, 404, 409, 429, 503},
    ),
    row(
        HTTPMethod.POST,
        f"{ORGANIZATION}/releases/ota_payload",
        post_payload,
        OPERATE,
        body=Payload,
        answers={200: Data[Published], 400: Failed},
        refusals={409},
    ),
)
