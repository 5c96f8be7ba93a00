"""Shows a device its update as a deployment, and takes the device's word about it.

A deployment is an action (`http/actions.py`): its id contains the number of the offer. A device
asks for it only while it is idle. So a deployment that it should give up, and that it asks about
again, is given up. During an install the device learns of an end by 409, as it reports a step.
"""

from typing import Any, Literal

import msgspec
from aiohttp import web

from firmtrail.http import actions, incoming, respond
from firmtrail.http.actions import Current, NamedAction
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import DecidedDevice
from firmtrail.http.download_urls import download_url
from firmtrail.http.errors import Gone
from firmtrail.http.pace import Pace
from firmtrail.http.running import said
from firmtrail.http.scalars import TEXT_BYTES_MAX
from firmtrail.http.surrogates import storable
from firmtrail.rules import artifact
from firmtrail.rules.device import Refused
from firmtrail.rules.release import ReleaseArtifact, ReleaseKey
from firmtrail.rules.report import ReportCommand

PROTOCOL: artifact.Protocol = "mender"

_ID_BEGINS = "offer-"
"""Begins the id of a deployment; nine digits follow. The client takes the log of a deployment from
the first of its files whose name contains the id, and the names contain other numbers too."""

type DeploymentStatus = Literal[
    "downloading",
    "pause_before_installing",
    "installing",
    "pause_before_rebooting",
    "rebooting",
    "pause_before_committing",
    "success",
    "failure",
    "already-installed",
]

_STEPS: dict[str, Literal["downloading", "installing", "rebooting"]] = {
    "downloading": "downloading",
    "rebooting": "rebooting",
}
"""The steps that have the same name here; every other one is a part of installing."""


class Provided(msgspec.Struct, frozen=True):
    """Describes what a device runs: the name of its artifact, and its type."""

    artifact_name: str = ""
    device_type: str = ""


class NextRequest(Provided, frozen=True):
    """Asks for an update; version 2 of the API wraps the description."""

    device_provides: Provided | None = None


class ArtifactSource(msgspec.Struct, frozen=True):
    """Names the URL of the artifact, which needs no credential."""

    uri: str


class DeploymentArtifact(msgspec.Struct, frozen=True):
    """Names the artifact as it names itself, and the types of devices that it is for."""

    artifact_name: str
    device_types_compatible: list[str]
    source: ArtifactSource


class DeviceDeployment(msgspec.Struct, frozen=True):
    """Describes the update that the device should install."""

    id: str
    artifact: DeploymentArtifact


class StatusReport(msgspec.Struct, frozen=True):
    """Says how far the device is."""

    status: DeploymentStatus


async def post_next(call: Call[Any, NextRequest]) -> web.Response:
    """Return the deployment for the device, if there is one; record the version that it runs."""
    return await _next(call, call.body.device_provides or call.body)


async def _next(call: AnyCall, runs: Provided) -> web.Response:
    running = (await said(call, runs.artifact_name)).version
    now = await _current(call, running, runs.device_type)
    if now.is_cancelling and now.action is not None and call.request.method != "HEAD":
        named = await actions.find(call, PROTOCOL, str(now.action.ordinal))
        await actions.cancelled(call, named)
        now = await _current(call, running, runs.device_type)
    deployment = await _deployment(call, now, runs.device_type)
    return respond.no_content() if deployment is None else respond.json(200, deployment)


async def post_old_next(call: Call[Any, NextRequest]) -> web.Response:
    """Return the deployment for the device, in version 1 of the API."""
    return await post_next(call)


async def get_old_next(call: Call[Provided, None]) -> web.Response:
    """Return the deployment for a device that says in the query what it runs, as old clients do."""
    return await _next(call, call.query)


async def _current(call: AnyCall, running: str | None, device_type: str) -> Current:
    """Returns what the device is shown. A version whose artifact is for devices of other types is
    not offered."""
    seen = await actions.shown(call, running, PROTOCOL)
    wanted = seen.decided.decision.version
    is_unfit = wanted is not None and _artifact(seen.decided, wanted, device_type) is None
    if seen.action is None and is_unfit:
        return seen
    return await actions.settled(call, seen, running)


def _artifact(
    decided: DecidedDevice, version: str | None, device_type: str
) -> ReleaseArtifact | None:
    """Returns the artifact of the version for a device of this type, if there is one."""
    control, model = decided.case.control, decided.state.model
    release = control.releases.get(ReleaseKey(model or "", version or ""))
    found = release and artifact.artifact_for(PROTOCOL, release, control.settings)
    if not found or (found.device_types and device_type not in found.device_types):
        return None
    return found


async def _deployment(call: AnyCall, now: Current, device_type: str) -> DeviceDeployment | None:
    shown = now.action
    if shown is None or now.is_cancelling:
        return None
    found = _artifact(now.decided, shown.version, device_type)
    if found is None:
        return None
    url = await download_url(call, shown.device, found)
    types = list(found.device_types) or [device_type]
    name = found.provides_name or shown.version
    described = DeploymentArtifact(name, types, ArtifactSource(url))
    return DeviceDeployment(_id(shown.ordinal), described)


def _id(ordinal: int) -> str:
    return f"{_ID_BEGINS}{ordinal:09}"


async def _named(call: AnyCall) -> NamedAction:
    """Returns the action that the path names. Raises `NotFound`."""
    return await actions.find(call, PROTOCOL, call.path("id").removeprefix(_ID_BEGINS))


async def put_status(call: Call[Any, StatusReport]) -> web.Response:
    """Record how far the device is with a deployment; 409 if it should give it up."""
    named, status = await _named(call), call.body.status
    try:
        match status:
            case "success" | "already-installed":
                await actions.installed(call, named)
            case "failure":
                await actions.failed(call, named, "failed")
            case _:
                await _progressed(call, named, status)
    except Gone as gone:
        raise _over(named) from gone
    return respond.no_content()


async def _progressed(call: AnyCall, named: NamedAction, status: str) -> None:
    if (await actions.now(call, named)).cancels(named.ordinal):
        await actions.cancelled(call, named)
        raise _over(named)
    await actions.progressed(call, named, _STEPS.get(status, "installing"))


def _over(named: NamedAction) -> Refused:
    detail = f"Deployment {_id(named.ordinal)} is over: the device should give it up."
    return Refused("action_over", detail)


async def put_log(call: AnyCall) -> web.Response:
    """Record the log of a failed deployment as the detail of its failure."""
    named = await _named(call)
    body = await incoming.read_bytes(call.request, takes_arrays=False)
    detail = _detail(await storable(body, Pace()))
    if not named.is_over:
        await actions.failed(call, named, "failed", detail)
    elif detail and named.ended_as("failed"):
        await _add_detail(call, named, detail)
    return respond.no_content()


async def _add_detail(call: AnyCall, named: NamedAction, detail: str) -> None:
    """Records the failure once more, with its detail: it counts as no further attempt."""
    report = ReportCommand(
        named.offer.device,
        named.offer.version,
        "failed",
        call.caller.actor,
        report_id=f"{PROTOCOL}-{named.ordinal}-log",
        detail=detail,
    )
    await call.services.recorder.report_one(call.log_id, report)


def _detail(body: bytes) -> str:
    """Returns the end of a log: its last messages are those about the failure."""
    try:
        log = msgspec.json.decode(body, type=_Log)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    text = "\n".join(f"{each.level} {each.message}" for each in log.messages)
    return text.encode(errors="replace")[-TEXT_BYTES_MAX:].decode(errors="ignore")


class _Message(msgspec.Struct, frozen=True):
    level: str = ""
    message: str = ""


class _Log(msgspec.Struct, frozen=True):
    messages: list[_Message] = []
