"""Makes the commands on what devices should run: rollouts, rollbacks, halts; ask and retry a
device.

Each runs inside one commit of the project's log and raises `Refused` if a rule refuses it. Reasons
are free text, which is kept outside the log.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from firmtrail.access import credentials, settings
from firmtrail.events.event import Event
from firmtrail.events.fleet import ReleaseWithdrawn
from firmtrail.events.steering import (
    Asked,
    AttemptsCleared,
    RollbackStarted,
    RolloutPlanChanged,
    RolloutStarted,
)
from firmtrail.events.times import time_text
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules import control, device, release, rollout
from firmtrail.rules.ask import Question
from firmtrail.rules.control import Control
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.rollout import PlanTime, RolloutState
from firmtrail.rules.rollout_decisions import (
    decide_abort,
    decide_advance,
    decide_approve,
    decide_pause,
    decide_plan_change,
    decide_reject,
    decide_resume,
)


def start(wanted: RolloutStarted, *, actor: str) -> LogCommand[RolloutState]:
    """Starts a rollout: one event, whatever the fleet's size."""

    async def command(commit: Commit) -> RolloutState:
        event = control.decide_rollout(commit.draft.control, wanted)
        return _begin(commit, event, None, actor)

    return command


class DeploymentOrder(NamedTuple):
    """Names a version, the share of devices that gets it, and the person who wants it."""

    version: str
    cohort: str | None
    reach: int
    person: str | None


def deploy(wanted: DeploymentOrder, *, actor: str) -> LogCommand[list[RolloutState]]:
    """Lets a version reach so many devices of every model that has it: starts a rollout, or
    advances the one that there is. A new one needs every approval that the project asks for: its
    devices are not counted. Raises `Refused` if no model has the version, or if a rollout reaches
    more devices already."""

    async def command(commit: Commit) -> list[RolloutState]:
        approvals = commit.draft.control.settings.approvals or None
        return [
            _deploy(
                commit,
                RolloutStarted(
                    wanted.version,
                    model,
                    wanted.reach,
                    wanted.cohort,
                    approvals=approvals,
                    started_by=wanted.person if approvals else None,
                ),
                actor,
            )
            for model in control.models_with(commit.draft.control, wanted.version)
        ]

    return command


def _deploy(commit: Commit, wanted: RolloutStarted, actor: str) -> RolloutState:
    now = commit.draft.control
    found = control.running_rollout(now, wanted)
    if found is None:
        return _begin(commit, control.decide_rollout(now, wanted), None, actor)
    if found.reach != wanted.reach:
        at = PlanTime(commit.draft.now_ms, now.halts)
        advanced = decide_advance(control.commandable(now, found.id), wanted.reach, at)
        commit.draft.record(rollout.stream(found.id), advanced, actor=actor)
    return commit.draft.control.rollouts[found.id]


def abort_all(names: Iterable[str], *, actor: str) -> LogCommand[None]:
    """Aborts several rollouts; those that are aborted already stay so."""

    async def command(commit: Commit) -> None:
        for name in dict.fromkeys(names):
            found = control.existing(commit.draft.control, name)
            if found.phase != "aborted":
                event = decide_abort(found)
                commit.draft.record(rollout.stream(name), event, actor=actor)

    return command


def roll_back(
    wanted: RollbackStarted, reason: str | None, *, actor: str
) -> LogCommand[RolloutState]:
    """Withdraws the bad release and starts the rollback, in one commit."""

    async def command(commit: Commit) -> RolloutState:
        event = control.decide_rollback(commit.draft.control, wanted)
        bad = commit.draft.control.releases.get(ReleaseKey(wanted.model, wanted.bad_version))
        if bad is not None and not bad.is_withdrawn:
            stream = release.stream(ReleaseKey(bad.model, bad.version))
            why = reason or "It was rolled back."
            commit.draft.record(stream, ReleaseWithdrawn(), actor=actor, text=why)
        return _begin(commit, event, reason, actor)

    return command


def _begin(
    commit: Commit, event: RolloutStarted | RollbackStarted, reason: str | None, actor: str
) -> RolloutState:
    name = credentials.new_id("r")
    commit.draft.record(rollout.stream(name), event, actor=actor, text=reason)
    return commit.draft.control.rollouts[name]


def advance(
    name: str, reach: int | None, reason: str | None, *, actor: str
) -> LogCommand[RolloutState]:
    """Lets the rollout reach more of its devices: a percentage, or the next phase of its plan."""
    return _change(
        name,
        lambda found, at: decide_advance(found, reach, at),
        reason,
        actor,
    )


def change_plan(
    name: str, reason: str | None, *, wanted: RolloutPlanChanged, actor: str
) -> LogCommand[RolloutState]:
    """Gives the rollout other phases after those that it began."""
    return _change(
        name,
        lambda found, at: decide_plan_change(found, wanted, at),
        reason,
        actor,
    )


def pause(name: str, reason: str | None, *, actor: str) -> LogCommand[RolloutState]:
    """Pauses the rollout: it offers nothing more until it is resumed."""
    return _change(name, lambda found, _: decide_pause(found), reason, actor)


def resume(name: str, reason: str | None, *, actor: str) -> LogCommand[RolloutState]:
    """Resumes the rollout; earlier failures no longer count towards pausing."""
    return _change(name, lambda found, _: decide_resume(found), reason, actor)


def abort(name: str, reason: str | None, *, actor: str) -> LogCommand[RolloutState]:
    """Ends the rollout: it decides nothing any more."""
    return _change(name, lambda found, _: decide_abort(found), reason, actor, find=control.existing)


def approve(name: str, reason: str | None, *, person: str, actor: str) -> LogCommand[RolloutState]:
    """Approves a rollout that waits for it."""
    return _change(name, lambda found, _: decide_approve(found, person), reason, actor)


def reject(name: str, reason: str | None, *, person: str, actor: str) -> LogCommand[RolloutState]:
    """Rejects a rollout that waits for approval: it ends."""
    return _change(
        name, lambda found, _: decide_reject(found, person), reason, actor, find=control.existing
    )


def _change(
    name: str,
    decide: Callable[[RolloutState, PlanTime], Event],
    reason: str | None,
    actor: str,
    *,
    find: Callable[[Control, str], RolloutState] = control.commandable,
) -> LogCommand[RolloutState]:
    """Returns a command that records what `decide` returns, in the rollout's stream."""

    async def command(commit: Commit) -> RolloutState:
        now = commit.draft.control
        event = decide(find(now, name), PlanTime(commit.draft.now_ms, now.halts))
        commit.draft.record(rollout.stream(name), event, actor=actor, text=reason)
        return commit.draft.control.rollouts[name]

    return command


def halt(reason: str | None, *, is_all: bool, actor: str) -> LogCommand[None]:
    """Halts the project: no device is offered anything, except by rollbacks unless `is_all`."""
    return _record(partial(control.decide_halt, is_all=is_all), reason, actor)


def end_halt(reason: str | None, *, actor: str) -> LogCommand[None]:
    return _record(control.decide_resume, reason, actor)


def _record(decide: Callable[[Control], Event], reason: str | None, actor: str) -> LogCommand[None]:
    """Returns a command that records what `decide` returns, in the project's own stream."""

    async def command(commit: Commit) -> None:
        event = decide(commit.draft.control)
        commit.draft.record(settings.stream(commit.draft.project), event, actor=actor, text=reason)

    return command


def ask(name: str, *, expires_in_s: int, actor: str) -> LogCommand[Question]:
    """Asks a device which version it runs."""

    async def command(commit: Commit) -> Question:
        device.active_device(await commit.devices([name]), name)
        question = credentials.new_id("q")
        expires_at = time_text(commit.draft.now_ms + expires_in_s * 1000)
        commit.draft.record(f"device/{name}", Asked(question, expires_at), actor=actor)
        return commit.draft.fold.steering.asks[name, question]

    return command


def retry(name: str, version: str, *, actor: str) -> LogCommand[None]:
    """Clears a device's attempts at a version, so that the version is offered again."""

    async def command(commit: Commit) -> None:
        device.active_device(await commit.devices([name]), name)
        commit.draft.record(f"device/{name}", AttemptsCleared(version), actor=actor)

    return command
