"""Serves the bytes of what a device should run, for updaters that only know how to load a URL:
esp_https_ota, curl, `swupdate -d`, `rauc install`.
"""

import msgspec
from aiohttp import web

from firmtrail.http import downloads, running
from firmtrail.http.call import Call
from firmtrail.http.decisions import DecidedDevice, recorded_decision
from firmtrail.http.errors import NotFound
from firmtrail.http.poll import POLL_AFTER, poll_after
from firmtrail.http.scalars import VersionText
from firmtrail.rules.artifact import NATIVE, Protocol, artifact_for
from firmtrail.rules.release import ReleaseArtifact, ReleaseKey, ReleaseState

PLAIN: Protocol = "plain"
VERSION = "Firmtrail-Version"
"""The header with the version of the bytes."""


class ArtifactQuery(msgspec.Struct, frozen=True):
    """Takes what the device runs."""

    running: VersionText | None = None


type ArtifactCall = Call[ArtifactQuery, None]


async def get_update_artifact(call: ArtifactCall) -> web.StreamResponse:
    """Return the bytes of what the device should run, or 204 if there is nothing to do."""
    decided = await _checked_in(call, PLAIN)
    release = release_of(decided)
    if release is None:
        return web.Response(status=204)
    return await _sent(call, release, chosen(decided, release))


async def get_named_artifact(call: ArtifactCall) -> web.StreamResponse:
    """Return one file, by its name, of what the device should run, or 204."""
    decided = await _checked_in(call, NATIVE)
    release = release_of(decided)
    if release is None:
        return web.Response(status=204)
    found = release.artifact(call.path("name"))
    if found is None:
        raise NotFound(f"Version {release.version} has no artifact of this name.")
    return await _sent(call, release, found)


async def _checked_in(call: ArtifactCall, protocol: Protocol) -> DecidedDevice:
    version = (await running.said(call, call.query.running)).version
    return await recorded_decision(call, version, protocol=protocol)


def release_of(decided: DecidedDevice) -> ReleaseState | None:
    """Returns the release that the device should run; None if it has nothing to do."""
    version = decided.decision.version
    if version is None:
        return None
    return decided.case.control.releases[ReleaseKey(decided.state.model or "", version)]


def chosen(decided: DecidedDevice, release: ReleaseState) -> ReleaseArtifact:
    """Returns the artifact that the device gets; the decision found that there is one."""
    found = artifact_for(PLAIN, release, decided.case.control.settings)
    assert found is not None, "a release without a fitting artifact is not offered"
    return found


async def _sent(
    call: ArtifactCall, release: ReleaseState, artifact: ReleaseArtifact
) -> web.StreamResponse:
    more = {VERSION: release.version, POLL_AFTER: poll_after(call)}
    return await downloads.send(call, artifact, more=more)
