"""Commands on what devices should run: rollouts, rollbacks, halts; and on one device: ask, retry.

Each runs inside one commit of the project's log and raises `Refused` where a rule says no. Reasons
are free text: they lie beside the log.
"""

from firmtrail.access import credentials, settings
from firmtrail.events.event import Event
from firmtrail.events.fleet import ReleaseWithdrawn
from firmtrail.events.steering import Asked, AttemptsCleared, RollbackStarted, RolloutStarted
from firmtrail.events.times import time_text
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules import control, release, rollout
from firmtrail.rules.ask import Question
from firmtrail.rules.device import DeviceState, Refused
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.rollout import RolloutState


def start(wanted: RolloutStarted, *, actor: str) -> LogCommand[RolloutState]:
    """Start a rollout: one event, whatever the fleet's size."""

    async def command(commit: Commit) -> RolloutState:
        event = control.decide_rollout(commit.draft.control, wanted)
        return _begin(commit, event, None, actor)

    return command


def roll_back(
    wanted: RollbackStarted, reason: str | None, *, actor: str
) -> LogCommand[RolloutState]:
    """Withdraw the bad release and start the rollback, in one commit."""

    async def command(commit: Commit) -> RolloutState:
        event = control.decide_rollback(commit.draft.control, wanted)
        bad = commit.draft.control.releases.get(ReleaseKey(wanted.model, wanted.bad_version))
        if bad is not None and not bad.is_withdrawn:
            stream = release.stream(ReleaseKey(bad.model, bad.version))
            withdrawn = reason or "It was rolled back."
            commit.draft.record(stream, ReleaseWithdrawn(), actor=actor, text=withdrawn)
        return _begin(commit, event, reason, actor)

    return command


def _begin(
    commit: Commit, event: RolloutStarted | RollbackStarted, reason: str | None, actor: str
) -> RolloutState:
    name = credentials.new_id("r")
    commit.draft.record(rollout.stream(name), event, actor=actor, text=reason)
    return commit.draft.control.rollouts[name]


def advance(name: str, reach: int, reason: str | None, *, actor: str) -> LogCommand[RolloutState]:
    """Let the rollout reach more of its devices."""

    async def command(commit: Commit) -> RolloutState:
        event = rollout.decide_advance(control.commandable(commit.draft.control, name), reach)
        return _go_on(commit, name, event, reason, actor=actor)

    return command


def pause(name: str, reason: str | None, *, actor: str) -> LogCommand[RolloutState]:
    """Offer nothing more until it is resumed."""

    async def command(commit: Commit) -> RolloutState:
        event = rollout.decide_pause(control.commandable(commit.draft.control, name))
        return _go_on(commit, name, event, reason, actor=actor)

    return command


def resume(name: str, reason: str | None, *, actor: str) -> LogCommand[RolloutState]:
    """Go on; what failed before no longer counts towards pausing."""

    async def command(commit: Commit) -> RolloutState:
        event = rollout.decide_resume(control.commandable(commit.draft.control, name))
        return _go_on(commit, name, event, reason, actor=actor)

    return command


def abort(name: str, reason: str | None, *, actor: str) -> LogCommand[RolloutState]:
    """End the rollout: it decides nothing any more."""

    async def command(commit: Commit) -> RolloutState:
        event = rollout.decide_abort(control.existing(commit.draft.control, name))
        return _go_on(commit, name, event, reason, actor=actor)

    return command


def _go_on(
    commit: Commit, name: str, event: Event, reason: str | None, *, actor: str
) -> RolloutState:
    commit.draft.record(rollout.stream(name), event, actor=actor, text=reason)
    return commit.draft.control.rollouts[name]


def halt(reason: str | None, *, is_all: bool, actor: str) -> LogCommand[None]:
    """Let no device of the project be offered anything, but by rollbacks unless `is_all`."""

    async def command(commit: Commit) -> None:
        event = control.decide_halt(commit.draft.control, is_all=is_all)
        commit.draft.record(settings.stream(commit.draft.project), event, actor=actor, text=reason)

    return command


def end_halt(reason: str | None, *, actor: str) -> LogCommand[None]:
    """End the halt."""

    async def command(commit: Commit) -> None:
        event = control.decide_resume(commit.draft.control)
        commit.draft.record(settings.stream(commit.draft.project), event, actor=actor, text=reason)

    return command


def ask(name: str, *, expires_in_s: int, actor: str) -> LogCommand[Question]:
    """Ask a device which version it runs."""

    async def command(commit: Commit) -> Question:
        await _active(commit, name)
        question = credentials.new_id("q")
        expires_at = time_text(commit.draft.now_ms + expires_in_s * 1000)
        commit.draft.record(f"device/{name}", Asked(question, expires_at), actor=actor)
        return commit.draft.fold.steering.asks[name, question]

    return command


def retry(name: str, version: str, *, actor: str) -> LogCommand[None]:
    """Clear a device's attempts at a version, so that it is offered again."""

    async def command(commit: Commit) -> None:
        await _active(commit, name)
        commit.draft.record(f"device/{name}", AttemptsCleared(version), actor=actor)

    return command


async def _active(commit: Commit, name: str) -> DeviceState:
    state = (await commit.devices([name])).get(name)
    if state is None:
        raise Refused("unknown_device", f"there is no device {name}", status=404)
    if state.decommissioned:
        raise Refused("device_decommissioned", f"device {name} is decommissioned")
    return state
