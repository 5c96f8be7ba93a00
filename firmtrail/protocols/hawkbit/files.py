"""Describes and sends the one file of an action.

Its module has the action's id, so that a link stays short. The file of an action can be loaded
until its release is withdrawn, whatever is decided meanwhile.
"""

import msgspec
from aiohttp import web

from firmtrail.database.database import Unavailable
from firmtrail.http import actions, downloads, errors, respond
from firmtrail.http.call import AnyCall
from firmtrail.protocols.hawkbit.caller import base_of
from firmtrail.protocols.hawkbit.shapes import Chunk, Hashes, HawkbitArtifact, Link
from firmtrail.rules.artifact import Protocol, artifact_for
from firmtrail.rules.control import Control
from firmtrail.rules.offer import Offer
from firmtrail.rules.release import ReleaseArtifact, ReleaseKey

PROTOCOL: Protocol = "hawkbit"

PART = "os"
"""The kind of software, if the project names none for the model."""

BODY_BYTES_MAX = 1_000
"""Zephyr reads the description of an action into a buffer of 1 100 bytes; links that a client can
do without are left out above this."""

_ENVELOPE_BYTES = 100


def of_offer(control: Control, of: Offer) -> ReleaseArtifact | None:
    """Returns the file that the device gets for an offer; None if it is not clear which."""
    release = control.releases.get(ReleaseKey(of.model, of.version))
    return artifact_for(PROTOCOL, release, control.settings) if release else None


async def chunk(call: AnyCall, control: Control, of: Offer) -> Chunk:
    """Returns the description of an offer's software. Raises `NotFound` if it has no file."""
    found = of_offer(control, of)
    if found is None:
        raise errors.NotFound(f"No artifact of {of.version} is meant for this protocol.")
    described = _described(call, of, await downloads.with_digests(call, found))
    part = control.settings.hawkbit_parts.get(of.model, PART)
    return Chunk(part, of.version, of.model, [described])


def _described(call: AnyCall, of: Offer, file: ReleaseArtifact) -> HawkbitArtifact:
    href = f"{base_of(call)}/softwaremodules/{of.ordinal}/artifacts/{file.name}"
    links = {name: Link(href) for name in ("download", "download-http")}
    sums = {name: Link(f"{href}.MD5SUM") for name in ("md5sum", "md5sum-http")}
    hashes = Hashes(file.sha256, file.sha1 or msgspec.UNSET, file.md5 or msgspec.UNSET)
    whole = HawkbitArtifact(file.name, hashes, file.size_bytes, links | sums)
    if len(msgspec.json.encode(whole)) + _ENVELOPE_BYTES <= BODY_BYTES_MAX:
        return whole
    return msgspec.structs.replace(whole, links=links)


async def get_artifacts(call: AnyCall) -> web.Response:
    """Return the files of an action's software."""
    named = await actions.find(call, PROTOCOL, call.path("module"))
    found = await chunk(call, named.known.control, named.offer)
    return respond.resource(call, found.artifacts, named.known.seen.counts.size)


async def get_artifact(call: AnyCall) -> web.StreamResponse:
    """Return the bytes of a file, or a range of them."""
    return await downloads.patiently(call, lambda: _send(call))


async def _send(call: AnyCall) -> web.StreamResponse:
    return await downloads.send(call, await _named(call))


async def get_checksum(call: AnyCall) -> web.StreamResponse:
    """Return the MD5 of a file, as md5sum prints it."""
    return await downloads.patiently(call, lambda: _checksum(call))


async def _checksum(call: AnyCall) -> web.Response:
    """Returns the checksum. Raises `Unavailable` while it is computed for the first time."""
    found = await downloads.with_digests(call, await _named(call))
    if found.md5 is None:
        downloads.store_of(call)
        raise Unavailable("The checksum is not computed yet.")
    body = f"{found.md5}  {found.name}\n".encode()
    return respond.encoded_resource(call, "text/plain", body, {})


async def _named(call: AnyCall) -> ReleaseArtifact:
    """Returns the file that the path names. Raises `Gone` if its release is withdrawn."""
    named = await actions.find(call, PROTOCOL, call.path("module"))
    of, control = named.offer, named.known.control
    release = control.releases.get(ReleaseKey(of.model, of.version))
    found = release.artifact(call.path("name")) if release else None
    if release is None or found is None:
        raise errors.NotFound("This device was never offered such an artifact.")
    if release.is_withdrawn:
        raise errors.Gone("The release of this artifact is withdrawn.", code="withdrawn")
    return found
