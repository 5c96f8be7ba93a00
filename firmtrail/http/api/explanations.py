"""Explains the decision about a device, and clears its failed attempts."""

from typing import Any, Literal

import msgspec
from aiohttp import web

from firmtrail.commands import steering as commands
from firmtrail.commands.once import answering
from firmtrail.events.times import time_text
from firmtrail.http import respond
from firmtrail.http.api.rows import CONFLICT, OPERATE, POST, READ, D, command, resource
from firmtrail.http.api.wire import StrictBody, TimeText, time_or_none
from firmtrail.http.call import Call
from firmtrail.http.decisions import DecidedDevice, look_at
from firmtrail.http.rollouts import reaching_rollout
from firmtrail.http.scalars import VersionText
from firmtrail.recording.commit import Commit
from firmtrail.rules.artifact import NATIVE, SUFFIXES, Protocol, artifact_for
from firmtrail.rules.offer import Offer
from firmtrail.rules.reaching import Reaching
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.situation import Action, Reason
from firmtrail.rules.trail import trail


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a rule that was checked, its inputs and its result; the last one decides."""

    rule: str
    decides: bool
    says: str
    inputs: dict[str, Any]


class ReachingPhase(msgspec.Struct, frozen=True, kw_only=True):
    """Says which phase of a rollout's plan reaches a device, and when it begins."""

    rollout: str
    phase: int | None
    """The number of the phase, from 1; null if the plan ends before it reaches the device."""
    phases: int
    """The number of phases that the plan has."""
    percent: float | None
    """The percentage that the phase reaches."""
    state: Literal["done", "current", "next"] | None
    begins_at: TimeText | None
    """When the phase began, or begins if time alone decides; null if anything else does."""
    says: str


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a version that a device was offered, and the outcome."""

    version: str
    source: str
    attempts: int
    offered_at: TimeText
    outcome: Literal["installed", "failed"] | None
    outcome_reason: Literal["silent"] | None
    """Why the attempt has this outcome, if no report says it."""


class ExplainQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Takes the protocol that the device speaks."""

    protocol: Protocol = NATIVE


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Lists the rules that were checked for a device, as it is now."""

    device: str
    version: str | None
    action: Action
    target: str | None
    rollout: str | None
    reason: Reason
    rules: list[Rule]
    phase: ReachingPhase | None
    """Of the newest rollout with a plan that is to bring the device to a higher version."""
    artifacts: dict[Protocol, str | None]
    """For each protocol whose clients take one file: the artifact of the target that they get."""
    offers: list[Attempt]
    question: str | None
    last_seen_at: TimeText | None


class Retry(StrictBody, frozen=True, kw_only=True):
    """Names the version that a device may try again."""

    version: VersionText


async def get_explanation(call: Call[ExplainQuery, None]) -> web.Response:
    """Return the rules that were checked for the device, and the one that decides."""
    decided = await look_at(call, protocol=call.query.protocol)
    decision, size = decided.decision, decided.seen.counts.size
    reached = await reaching_rollout(call, decided.case, size)
    body = Explanation(
        device=decided.state.device,
        version=decided.state.version,
        action=decision.action,
        target=decision.target,
        rollout=decision.rollout,
        reason=decision.reason,
        rules=[
            Rule(rule=each.rule, decides=each.decides, says=each.says, inputs=each.inputs)
            for each in trail(decided.case)
        ],
        phase=None if reached is None else _phase(*reached),
        artifacts=_artifacts(decided),
        offers=[
            _attempt(each) for each in sorted(decided.seen.offers, key=lambda each: -each.position)
        ],
        question=decided.seen.question,
        last_seen_at=time_or_none(decided.seen.last_seen_at_ms),
    )
    return respond.resource(call, body, size)


def _phase(found: RolloutState, reached: Reaching) -> ReachingPhase:
    number = reached.phase
    return ReachingPhase(
        rollout=found.id,
        phase=None if number is None else number + 1,
        phases=len(found.plan),
        percent=None if number is None else found.plan[number].reach / 100,
        state=reached.state,
        begins_at=time_or_none(reached.begins_at_ms),
        says=reached.says,
    )


def _attempt(made: Offer) -> Attempt:
    return Attempt(
        version=made.version,
        source=made.source,
        attempts=made.attempts,
        offered_at=time_text(made.offered_at_ms),
        outcome=made.outcome,
        outcome_reason="silent" if made.is_silent else None,
    )


def _artifacts(decided: DecidedDevice) -> dict[Protocol, str | None]:
    target, control = decided.decision.target, decided.case.control
    found = control.releases.get(ReleaseKey(decided.state.model or "", target or ""))
    if found is None:
        return {}
    chosen = {each: artifact_for(each, found, control.settings) for each in SUFFIXES}
    return {protocol: each.name if each else None for protocol, each in chosen.items()}


async def post_retry(call: Call[Any, Retry]) -> web.Response:
    """Clear the device's attempts at a version, so that it is offered again."""
    name, version = call.path("device"), call.body.version
    retry = commands.retry(name, version, actor=call.caller.actor)

    async def command(commit: Commit) -> Retry:
        await retry(commit)
        return Retry(version=version)

    return await respond.run_once(call, answering(200, command))


ROUTES = (
    resource(
        f"{D}/explain",
        get_explanation,
        READ,
        Explanation,
        query=ExplainQuery,
        refusals=CONFLICT,
        is_view=True,
    ),
    command(POST, f"{D}/retry", post_retry, OPERATE, body=Retry, answers={200: Retry}),
)
