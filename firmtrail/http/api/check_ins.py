"""Answers devices that ask what they should run.

A check-in reads, decides and answers. Only the first check-in that offers a device something new
records it, and decides again while the log's head is locked. Every answer says when to call again.
"""

import time
from contextlib import AbstractContextManager
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from firmtrail.events.times import time_text
from firmtrail.http import respond
from firmtrail.http.api.rows import CONFLICT, D, resource
from firmtrail.http.api.wire import TimeText
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import DEVICE
from firmtrail.http.decisions import RECORDED_KINDS, DecidedDevice, recorded_decision
from firmtrail.http.download_urls import download_url
from firmtrail.http.downloads import all_with_digests
from firmtrail.http.scalars import VersionText
from firmtrail.http.watch import DeviceNews
from firmtrail.rules import offer
from firmtrail.rules.device_order import last_seq
from firmtrail.rules.release import ReleaseArtifact, ReleaseKey
from firmtrail.rules.situation import Action, Reason

WAIT_S_MAX = 60

TIME_LOOK_S = 5
"""How often a waiting device is decided on where time may change the answer without an event."""

type Wait = Annotated[int, Meta(ge=0, le=WAIT_S_MAX)]


class UpdateQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Takes what the device runs, and for how many seconds the answer may wait for a change."""

    running: VersionText | None = None
    wait: Wait = 0


class UpdateArtifact(msgspec.Struct, frozen=True):
    """Describes a file of the version; `url` is a path of this server."""

    name: str
    size: int
    sha256: str
    sha1: str | None
    md5: str | None
    url: str
    download_url: str
    """An absolute URL that needs no credential, valid for a day."""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """Says what a device should run, and why."""

    action: Action
    version: str | None
    rollout: str | None
    offer: int | None
    """The number of the offer among the offers of the device."""
    reason: Reason
    artifacts: list[UpdateArtifact]
    question: str | None
    report_wanted: bool
    last_seq: int | None
    not_before: TimeText | UnsetType = UNSET
    """When the rollout starts, or its window opens: only time is missing until then."""


type UpdateCall = Call[UpdateQuery, None]


async def get_update(call: UpdateCall) -> web.Response:
    """Return what the device should run; with `wait`, when that changes.

    If too many requests wait already, for the device or in all, it answers immediately.
    """
    if not call.query.wait:
        return (await _update(call))[0]
    due_at = deadline(call, call.query.wait)
    answer, decided = await _update(call)
    if answer.status != 304:
        return answer
    with _wait(call) as has_place:
        while has_place and answer.status == 304 and (left_s := due_at - time.monotonic()) > 0:
            if call.services.readiness.is_draining or is_gone(call):
                break
            if decided.case.control.is_timed:
                left_s = min(left_s, TIME_LOOK_S)
            news = DeviceNews(call.path("device"), decided.seen.counts)
            await call.services.watch.until(call.log_id, news, left_s, lambda: is_gone(call))
            call.caller = await call.authenticate(call.request)
            answer, decided = await _update(call)
    return answer


def deadline(call: AnyCall, wait_s: int) -> float:
    """Returns the time at which a request that waits has to be answered."""
    return time.monotonic() + min(wait_s, call.services.serving.long_poll_s_max)


def _wait(call: AnyCall) -> AbstractContextManager[bool]:
    """Occupies one of the places to wait in: the device's, whoever calls for it, or a person's.
    Yields whether there was one."""
    if call.caller.kind in RECORDED_KINDS:
        return call.services.limits.device_waits.try_enter(call.log_id, call.path("device"))
    return call.services.limits.people_waits.try_enter(call.caller.actor_id)


def is_gone(call: AnyCall) -> bool:
    """Returns whether the client has disconnected."""
    return call.request.transport is None


async def _update(call: UpdateCall) -> tuple[web.Response, DecidedDevice]:
    decided = await recorded_decision(call, call.query.running)
    body = await _shown(call, decided)
    return respond.resource(call, body, decided.seen.counts.size), decided


async def _shown(call: UpdateCall, decided: DecidedDevice) -> Update:
    decision = decided.decision
    running, version = call.query.running, decided.state.version
    return Update(
        action=decision.action,
        version=decision.version,
        rollout=decision.rollout,
        offer=_ordinal(decided),
        reason=decision.reason,
        artifacts=await _artifacts(call, decided) if decision.version else [],
        question=decided.seen.question,
        report_wanted=version is None if running is None else running != version,
        last_seq=last_seq(decided.state),
        not_before=UNSET if decision.not_before_ms is None else time_text(decision.not_before_ms),
    )


def _ordinal(decided: DecidedDevice) -> int | None:
    """Returns the number of the offer that the decision has led to, if it was made."""
    decision = decided.decision
    if decision.version is None:
        return None
    made = offer.made(decided.case.offers, decision.source, decision.version)
    return made.ordinal if made else None


async def _artifacts(call: AnyCall, decided: DecidedDevice) -> list[UpdateArtifact]:
    """Returns the files of the version that the device should run."""
    model, version = decided.state.model, decided.decision.version
    if model is None or version is None:
        return []
    found = decided.case.control.releases.get(ReleaseKey(model, version))
    artifacts = await all_with_digests(call, found.artifacts if found else ())
    return [await _artifact(call, decided.state.device, each) for each in artifacts]


async def _artifact(call: AnyCall, device: str, found: ReleaseArtifact) -> UpdateArtifact:
    base = f"{call.prefix}/api/v1/projects/{call.project}/devices/{device}/artifacts"
    return UpdateArtifact(
        found.name,
        found.size_bytes,
        found.sha256,
        sha1=found.sha1,
        md5=found.md5,
        url=f"{base}/{found.sha256}",
        download_url=await download_url(call, device, found),
    )


ROUTES = (
    resource(
        f"{D}/update",
        get_update,
        DEVICE,
        Update,
        query=UpdateQuery,
        refusals=CONFLICT,
        is_view=True,
        is_polled=True,
    ),
)
