"""What should I run? Check-ins of devices; and what users ask about and of one device.

A check-in reads, decides and answers; only the first that tells a device something new records, by
deciding once more while the log's head is held. Every answer says when to call again.
"""

import time
from contextlib import AbstractContextManager
from typing import Any

from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from firmtrail.commands import steering as commands
from firmtrail.commands.once import answering, once
from firmtrail.database.database import Unavailable
from firmtrail.events.times import time_text
from firmtrail.http import fleet_api, lists, respond
from firmtrail.http import steering_bodies as wire
from firmtrail.http.answers import time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import DEVICE
from firmtrail.http.decisions import SHARED_READS_MAX, ConsistentRead, case_of, device_and_control
from firmtrail.http.errors import NotFound
from firmtrail.http.lists import ListPage, SortKey
from firmtrail.http.watch import DeviceNews, grew
from firmtrail.projections import device_asks, device_history
from firmtrail.projections.check_in import Counts, Seen
from firmtrail.recording.check_ins import CheckIn
from firmtrail.recording.commit import Commit
from firmtrail.rules import ask, offer, target
from firmtrail.rules.ask import Ask
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState, Refused, last_seq
from firmtrail.rules.release import Key
from firmtrail.rules.target import Case, Decision

RECORDED_KINDS = frozenset({"device", "gateway"})
"""Whose check-ins say that the device was told."""


class _Looked(Struct, frozen=True, gc=False):
    """A device with its decision."""

    seen: Seen
    state: DeviceState
    case: Case
    decision: Decision


type UpdateCall = Call[wire.UpdateQuery, None]


async def get_update(call: UpdateCall) -> web.Response:
    """Answers what the device should run; with `wait`, as soon as that is something else.

    Past the bound of requests that wait, for the device or in all, it answers immediately.
    """
    deadline = _deadline(call)
    answer, counts = await _update(call)
    if answer.status != 304 or not call.query.wait:
        return answer
    with _wait(call) as has_place:
        while has_place and answer.status == 304 and (left_s := deadline - time.monotonic()) > 0:
            if call.services.readiness.is_draining or _is_gone(call):
                break
            news = DeviceNews(call.path("device"), counts)
            await call.services.watch.until(call.log_id, news, left_s, lambda: _is_gone(call))
            call.caller = await call.services.authenticate(call.request, DEVICE)
            answer, counts = await _update(call)
    return answer


def _deadline(call: Call[wire.UpdateQuery, Any] | Call[wire.AskQuery, Any]) -> float:
    """When a request that waits is answered at the latest."""
    return time.monotonic() + min(call.query.wait, call.services.long_poll_s_max)


def _wait(call: AnyCall) -> AbstractContextManager[bool]:
    """Keeps a place to wait in: one of the device's, whoever speaks for it, or one of a person."""
    if call.caller.kind in RECORDED_KINDS:
        return call.services.device_waits.try_enter(call.log_id, call.path("device"))
    return call.services.people_waits.try_enter(call.caller.actor_id)


def _is_gone(call: AnyCall) -> bool:
    return call.request.transport is None


async def _update(call: UpdateCall) -> tuple[web.Response, Counts]:
    looked = await _recorded(call)
    body = _told(call, looked)
    counts = looked.seen.counts
    return respond.resource(call, body, counts.size), counts


async def _look(call: AnyCall, running: str | None = None) -> _Looked:
    name = call.path("device")
    seen, control = await device_and_control(call, name)
    if seen.state is None:
        raise NotFound(f"There is no device {name}.")
    if seen.state.decommissioned:
        raise Refused("device_decommissioned", f"device {name} is decommissioned")
    state = target.case_of(control, seen.state, seen.offers, running).device
    case = await case_of(call, control, state, seen)
    return _Looked(seen, seen.state, case, target.decide(case))


async def _recorded(call: Call[wire.UpdateQuery, None]) -> _Looked:
    """Returns the decision, which is recorded before it is answered if the device learns of it for
    the first time. The device is then looked at again: the answer holds what the log held at the
    size that it says.
    """
    looked = await _look(call, call.query.running)
    for _ in range(SHARED_READS_MAX):
        if not _is_news(call, looked):
            return looked
        check_in = CheckIn(looked.state.device, call.caller.actor, call.query.running)
        made = await call.services.recorder.check_in(call.log_id, check_in)
        again = await _look(call, call.query.running)
        if made.version is not None and made.version != again.decision.version:
            return _as_recorded(looked, again, made)
        looked = again
    raise Unavailable("what the device should run changes all the time", retry_after_s=1)


def _as_recorded(first: _Looked, again: _Looked, made: Decision) -> _Looked:
    """Returns the decision that was recorded, though another one is due since: the device learns
    what the log says that it was offered, as of that event. One that waits then hears of the other
    decision immediately, because it waits from the counts of before."""
    position = max(
        each.position
        for each in again.seen.offers
        if (each.source, each.version) == (made.source, made.version)
    )
    counts = replace(first.seen.counts, size=position + 1)
    return replace(again, decision=made, seen=replace(again.seen, counts=counts))


def _told(call: Call[wire.UpdateQuery, None], looked: _Looked) -> wire.Update:
    decision = looked.decision
    running, version = call.query.running, looked.state.version
    return wire.Update(
        action=decision.action,
        version=decision.version,
        rollout=decision.rollout,
        reason=decision.reason,
        artifacts=_artifacts(call, looked.case.control, looked.state, decision),
        question=looked.seen.question,
        report_wanted=version is None if running is None else running != version,
        last_seq=last_seq(looked.state),
    )


def _is_news(call: AnyCall, looked: _Looked) -> bool:
    decision = looked.decision
    if decision.version is None or call.request.method != "GET":
        return False
    if call.caller.kind not in RECORDED_KINDS:
        return False
    return not offer.is_made(looked.case.offers, decision.source, decision.version)


def _artifacts(
    call: AnyCall, control: Control, state: DeviceState, decision: Decision
) -> list[wire.UpdateArtifact]:
    if decision.version is None or state.model is None:
        return []
    found = control.releases.get(Key(state.model, decision.version))
    base = f"{call.prefix}/api/v1/projects/{call.project}/devices/{state.device}/artifacts"
    return [
        wire.UpdateArtifact(each.name, each.size_bytes, each.sha256, f"{base}/{each.sha256}")
        for each in (found.artifacts if found else ())
    ]


async def get_explanation(call: AnyCall) -> web.Response:
    """The rules gone through for the device, each with its inputs and what it said."""
    looked = await _look(call)
    decision = looked.decision
    body = wire.Explanation(
        device=looked.state.device,
        version=looked.state.version,
        action=decision.action,
        target=decision.target,
        rollout=decision.rollout,
        reason=decision.reason,
        rules=[
            wire.Rule(rule=each.rule, decides=each.decides, says=each.says, inputs=each.inputs)
            for each in decision.trail
        ],
        offers=[
            wire.Attempt(
                version=each.version,
                source=each.source,
                attempts=each.attempts,
                offered_at=time_text(each.offered_at_ms),
                outcome=each.outcome,
                outcome_reason="silent" if each.is_silent else None,
            )
            for each in sorted(looked.seen.offers, key=lambda each: -each.position)
        ],
        question=looked.seen.question,
        last_seen_at=time_or_none(looked.seen.last_seen_at_ms),
    )
    return respond.resource(call, body, looked.seen.counts.size)


async def post_retry(call: Call[Any, wire.Retry]) -> web.Response:
    """Clear the device's attempts at a version."""
    name, version = call.path("device"), call.body.version
    retry = commands.retry(name, version, actor=call.caller.actor)

    async def command(commit: Commit) -> wire.Retry:
        await retry(commit)
        return wire.Retry(version=version)

    return await respond.run_once(call, answering(200, command))


async def post_ask(call: Call[wire.AskQuery, wire.WantedAsk]) -> web.Response:
    """Ask the device which version it runs; with `wait`, its answer if it comes in time."""
    name = call.path("device")
    asking = commands.ask(name, expires_in_s=call.body.expires_in_s, actor=call.caller.actor)

    async def command(commit: Commit) -> wire.Asked:
        return wire.Asked(question=(await asking(commit)).question)

    wish = answering(202, command)
    answer = await once(call.services.recorder, call.log_id, call.key, wish)
    body = answer.body if isinstance(answer.body, wire.Asked) else wire.Asked(**answer.body)
    found = await _answered(call, body.question)
    if found is None:
        return respond.json(202, body)
    version, answered_at_ms = found
    body = wire.Asked(
        question=body.question, version=version, answered_at=time_text(answered_at_ms)
    )
    return respond.json(200, body)


async def _answered(
    call: Call[wire.AskQuery, wire.WantedAsk], question: str
) -> tuple[str, int] | None:
    """The answer, if it comes while it is waited for."""
    deadline = _deadline(call)
    with call.services.people_waits.try_enter(call.caller.actor_id) as has_place:
        while has_place and (left_s := deadline - time.monotonic()) > 0:
            size, found = await device_asks.one(
                call.services.db, call.log_id, (call.path("device"), question)
            )
            if found is not None and found.version is not None and found.answered_at_ms is not None:
                return found.version, found.answered_at_ms
            if call.services.readiness.is_draining or _is_gone(call):
                return None
            await call.services.watch.until(call.log_id, grew(size), left_s, lambda: _is_gone(call))
    return None


async def get_asks(call: AnyCall) -> web.StreamResponse:
    """The device's questions, the newest first."""
    name = call.path("device")
    await fleet_api.existing(call, name)

    def fetching(now: ConsistentRead) -> lists.FetchPage:
        async def fetch(place: SortKey | None, limit: int) -> ListPage:
            before = device_history.END if place is None else int(place[0])
            size, now_ms, asks = await device_asks.page(
                now.reader, call.log_id, name, before=before, limit=limit + 1
            )
            end = lists.next_key(asks, limit, lambda each: (each.position,))
            return ListPage([_ask(each, now_ms) for each in asks[:limit]], end, size)

        return fetch

    return await lists.answer_consistently(call, wire.Ask, fetching, key_type=tuple[int])


def _ask(found: Ask, now_ms: int) -> wire.Ask:
    is_answered = found.answered_position is not None
    state = "open" if ask.is_open(found, now_ms) else "answered" if is_answered else "expired"
    return wire.Ask(
        question=found.question,
        state=state,  # type: ignore[arg-type] # one of the three
        asked_at=time_text(found.asked_at_ms),
        expires_at=time_text(found.expires_at_ms),
        answered_at=time_or_none(found.answered_at_ms),
        version=found.version,
    )
