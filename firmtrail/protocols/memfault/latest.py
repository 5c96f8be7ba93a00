"""Names the latest release and its URL to devices with Memfault's SDKs.

A device says with each question which version it runs, and reports nothing else. So the running
version is recorded when it changes, and a failed update is never seen.
"""

from collections.abc import Awaitable, Callable
from http import HTTPMethod

import msgspec
from aiohttp import web

from firmtrail.commands.attributes import AttributesChange, DeviceOfLog, set_attributes
from firmtrail.http import incoming, respond, running
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import (
    RECORDED_KINDS,
    DecidedDevice,
    device_and_control,
    recorded_decision,
)
from firmtrail.http.download_urls import download_url
from firmtrail.http.downloads import with_digests
from firmtrail.protocols.memfault.wire import DEVICE, Failed, bad_request, row
from firmtrail.rules import attributes
from firmtrail.rules.artifact import Protocol, artifact_for
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState
from firmtrail.rules.release import ReleaseArtifact, ReleaseKey

MEMFAULT: Protocol = "memfault"
MODEL_ATTRIBUTE = "memfault__hardware_version"
"""The name under which Memfault's Linux devices send their model as an attribute."""
_REQUIRED = ("device_serial", "hardware_version", "software_type")


class LatestQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Takes what a device says of itself; it may say more."""

    device_serial: str | None = None
    hardware_version: str | None = None
    software_type: str | None = None
    current_version: str | None = None


class LatestArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """Describes the file that the device installs."""

    type: str = "firmware"
    hardware_version: str
    filename: str
    file_size: int
    url: str
    sha256: str
    sha1: str | None
    md5: str | None


class LatestRelease(msgspec.Struct, frozen=True, kw_only=True):
    """Describes the release that the device should run."""

    version: str
    display_name: str
    artifacts: list[LatestArtifact]


type LatestCall = Call[LatestQuery, None]
type _Show = Callable[[LatestCall, DecidedDevice, ReleaseArtifact], Awaitable[web.Response]]


async def _answered(call: LatestCall, show: _Show) -> web.Response:
    """Answers with the file that the device should install, with 204, or with what is missing."""
    if (missing := _missing(call.query)) is not None:
        return missing
    decided = await _checked_in(call)
    found = _chosen(decided) if decided else None
    if decided is None or found is None:
        return respond.no_content()
    return await show(call, decided, found)


async def get_latest(call: LatestCall) -> web.Response:
    """Return the release that a Memfault device should install, or 204."""
    return await _answered(call, _as_release)


async def _as_release(
    call: LatestCall, decided: DecidedDevice, found: ReleaseArtifact
) -> web.Response:
    version, artifact = str(decided.decision.version), await with_digests(call, found)
    shown = LatestArtifact(
        hardware_version=decided.state.model or "",
        filename=artifact.name,
        file_size=artifact.size_bytes,
        url=await download_url(call, decided.state.device, artifact),
        sha256=artifact.sha256,
        sha1=artifact.sha1,
        md5=artifact.md5,
    )
    body = LatestRelease(version=version, display_name=version, artifacts=[shown])
    return respond.json(200, body, respond.NO_STORE)


async def get_latest_url(call: LatestCall) -> web.Response:
    """Return the URL of what a Memfault device should install, as text, or 204."""
    return await _answered(call, _as_url)


async def _as_url(call: LatestCall, decided: DecidedDevice, found: ReleaseArtifact) -> web.Response:
    url = await download_url(call, decided.state.device, found)
    return web.Response(status=200, text=url, headers=respond.NO_STORE)


def _missing(query: LatestQuery) -> web.Response | None:
    missing = [name for name in _REQUIRED if not getattr(query, name)]
    return bad_request(f"These parameters are missing: {', '.join(missing)}.") if missing else None


async def _checked_in(call: LatestCall) -> DecidedDevice | None:
    """Returns the decision; None if the device says that it is other hardware than is recorded,
    whose releases it must not get."""
    seen, control = await device_and_control(call, call.path("device"))
    if seen.state is not None and seen.state.model is None:
        await _name_model(call, seen.state, control)
    version = (await running.said(call, call.query.current_version)).version
    if seen.state is not None and seen.state.model not in {None, call.query.hardware_version}:
        return None
    return await recorded_decision(call, version, protocol=MEMFAULT)


async def _name_model(call: LatestCall, state: DeviceState, control: Control) -> None:
    """Lets a device without a model name it, as an attribute would, if its project allows that."""
    if call.caller.kind not in RECORDED_KINDS or call.request.method == "HEAD":
        return
    data = {MODEL_ATTRIBUTE: call.query.hardware_version or ""}
    if attributes.named_model(control.settings, state, data) is None:
        return
    actor, now_ms = call.caller.actor, call.services.access.now_ms()
    change = AttributesChange("merge", data, actor, now_ms, attributes.changed_as_fits)
    whose = DeviceOfLog(call.log_id, call.project, state.device)
    await set_attributes(call.services.db, call.services.recorder, whose, change)


def _chosen(decided: DecidedDevice) -> ReleaseArtifact | None:
    version, control = decided.decision.version, decided.case.control
    if version is None:
        return None
    release = control.releases[ReleaseKey(decided.state.model or "", version)]
    return artifact_for(MEMFAULT, release, control.settings)


async def post_chunks(call: AnyCall) -> web.Response:
    """Take the diagnostic data of a Memfault device, and drop it.

    Without an answer the device would keep sending it.
    """
    await incoming.read_bytes(call.request, takes_arrays=False)
    call.services.metrics.dropped_chunks.inc()
    return web.Response(status=202)


_LATEST = {"query": LatestQuery, "takes_any_query": True, "refusals": {409}, "is_polled": True}

ROUTES = (
    row(
        HTTPMethod.GET,
        "/api/v0/releases/latest",
        get_latest,
        DEVICE,
        answers={200: LatestRelease, 204: None, 400: Failed},
        **_LATEST,
    ),
    row(
        HTTPMethod.GET,
        "/api/v0/releases/latest/url",
        get_latest_url,
        DEVICE,
        answers={200: "text/plain", 204: None, 400: Failed},
        **_LATEST,
    ),
    row(
        HTTPMethod.POST,
        "/api/v0/chunks/{device}",
        post_chunks,
        DEVICE,
        answers={202: None},
        takes_bytes=True,
        takes_any_query=True,
    ),
)
