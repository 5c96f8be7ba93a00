"""Answers devices that ask what they should run.

A check-in reads, decides and answers. Only the first check-in that offers a device something new
records it, and decides again while the log's head is locked. Every answer says when to call again.
"""

import time
from contextlib import AbstractContextManager
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct
from msgspec.structs import replace

from firmtrail.database.database import Unavailable
from firmtrail.http import respond
from firmtrail.http.api.rows import CONFLICT, D, resource
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import DEVICE
from firmtrail.http.decisions import SHARED_READS_MAX, case_of, device_and_control
from firmtrail.http.errors import NotFound
from firmtrail.http.scalars import VersionText
from firmtrail.http.watch import DeviceNews
from firmtrail.projections.check_in import DeviceAtCheckIn, LogCounts
from firmtrail.recording.check_ins import CheckIn
from firmtrail.rules import offer, target
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState, device_decommissioned
from firmtrail.rules.device_order import last_seq
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.target import Action, Decision, Reason, Situation

WAIT_S_MAX = 60

type Wait = Annotated[int, Meta(ge=0, le=WAIT_S_MAX)]

RECORDED_KINDS = frozenset({"device", "gateway"})
"""Callers whose check-ins are recorded as offers; a user only looks."""


class UpdateQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Takes what the device runs, and for how many seconds the answer may wait for a change."""

    running: VersionText | None = None
    wait: Wait = 0


class UpdateArtifact(msgspec.Struct, frozen=True):
    """Describes a file of the version; `url` is a path of this server."""

    name: str
    size: int
    sha256: str
    url: str


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """Says what a device should run, and why."""

    action: Action
    version: str | None
    rollout: str | None
    reason: Reason
    artifacts: list[UpdateArtifact]
    question: str | None
    report_wanted: bool
    last_seq: int | None


class DecidedDevice(Struct, frozen=True, gc=False):
    """Holds a device, and the decision about it."""

    seen: DeviceAtCheckIn
    state: DeviceState
    case: Situation
    decision: Decision


type UpdateCall = Call[UpdateQuery, None]


async def get_update(call: UpdateCall) -> web.Response:
    """Return what the device should run; with `wait`, when that changes.

    If too many requests wait already, for the device or in all, it answers immediately.
    """
    due_at = deadline(call, call.query.wait)
    answer, counts = await _update(call)
    if answer.status != 304 or not call.query.wait:
        return answer
    with _wait(call) as has_place:
        while has_place and answer.status == 304 and (left_s := due_at - time.monotonic()) > 0:
            if call.services.readiness.is_draining or is_gone(call):
                break
            news = DeviceNews(call.path("device"), counts)
            await call.services.watch.until(call.log_id, news, left_s, lambda: is_gone(call))
            call.caller = await call.services.authenticate(call.request, DEVICE)
            answer, counts = await _update(call)
    return answer


def deadline(call: AnyCall, wait_s: int) -> float:
    """Returns the time at which a request that waits has to be answered."""
    return time.monotonic() + min(wait_s, call.services.long_poll_s_max)


def _wait(call: AnyCall) -> AbstractContextManager[bool]:
    """Occupies one of the places to wait in: the device's, whoever calls for it, or a person's.
    Yields whether there was one."""
    if call.caller.kind in RECORDED_KINDS:
        return call.services.device_waits.try_enter(call.log_id, call.path("device"))
    return call.services.people_waits.try_enter(call.caller.actor_id)


def is_gone(call: AnyCall) -> bool:
    """Returns whether the client has disconnected."""
    return call.request.transport is None


async def _update(call: UpdateCall) -> tuple[web.Response, LogCounts]:
    decided = await _recorded_decision(call)
    body = _shown(call, decided)
    counts = decided.seen.counts
    return respond.resource(call, body, counts.size), counts


async def look_at(call: AnyCall, running: str | None = None) -> DecidedDevice:
    """Returns the device of the path, with the decision for the version that it runs."""
    name = call.path("device")
    seen, control = await device_and_control(call, name)
    if seen.state is None:
        raise NotFound(f"There is no device {name}.")
    if seen.state.decommissioned:
        raise device_decommissioned(name)
    state = target.situation_of(control, seen.state, seen.offers, running).device
    case = await case_of(call, control, state, seen)
    return DecidedDevice(seen, seen.state, case, target.decide(case))


async def _recorded_decision(call: UpdateCall) -> DecidedDevice:
    """Returns the decision; it is recorded first if it offers the device something new. After
    recording, the device is read again: the answer shows the log at exactly the size it names."""
    decided = await look_at(call, call.query.running)
    for _ in range(SHARED_READS_MAX):
        if not _is_news(call, decided):
            return decided
        check_in = CheckIn(decided.state.device, call.caller.actor, call.query.running)
        made = await call.services.recorder.check_in(call.log_id, check_in)
        again = await look_at(call, call.query.running)
        if made.version is not None and made.version != again.decision.version:
            return _as_recorded(decided, again, made)
        decided = again
    raise Unavailable("the decision about this device keeps changing", retry_after_s=1)


def _as_recorded(first: DecidedDevice, again: DecidedDevice, made: Decision) -> DecidedDevice:
    """Returns the decision that was recorded, though a newer one has replaced it since.

    The device learns what the log says it was offered, as of that event. If it then waits, it gets
    the newer decision immediately, because it waits from the counts before that.
    """
    position = max(
        each.position
        for each in again.seen.offers
        if (each.source, each.version) == (made.source, made.version)
    )
    counts = replace(first.seen.counts, size=position + 1)
    return replace(again, decision=made, seen=replace(again.seen, counts=counts))


def _shown(call: UpdateCall, decided: DecidedDevice) -> Update:
    decision = decided.decision
    running, version = call.query.running, decided.state.version
    return Update(
        action=decision.action,
        version=decision.version,
        rollout=decision.rollout,
        reason=decision.reason,
        artifacts=_artifacts(call, decided.case.control, decided.state, decision),
        question=decided.seen.question,
        report_wanted=version is None if running is None else running != version,
        last_seq=last_seq(decided.state),
    )


def _is_news(call: AnyCall, decided: DecidedDevice) -> bool:
    decision = decided.decision
    if decision.version is None or call.request.method != "GET":
        return False
    if call.caller.kind not in RECORDED_KINDS:
        return False
    return not offer.is_made(decided.case.offers, decision.source, decision.version)


def _artifacts(
    call: AnyCall, control: Control, state: DeviceState, decision: Decision
) -> list[UpdateArtifact]:
    if decision.version is None or state.model is None:
        return []
    found = control.releases.get(ReleaseKey(state.model, decision.version))
    base = f"{call.prefix}/api/v1/projects/{call.project}/devices/{state.device}/artifacts"
    return [
        UpdateArtifact(each.name, each.size_bytes, each.sha256, f"{base}/{each.sha256}")
        for each in (found.artifacts if found else ())
    ]


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
