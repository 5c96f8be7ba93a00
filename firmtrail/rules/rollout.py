"""Folds one rollout or rollback, and decides which commands it takes.

A rollback is a rollout of another kind: it names a bad version, reaches the devices that run it,
and sends each to a given version or to the device's previous one.
"""

from functools import lru_cache
from hashlib import sha256
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from firmtrail.events.event import Recorded
from firmtrail.events.steering import (
    RollbackStarted,
    RolloutAborted,
    RolloutAdvanced,
    RolloutPaused,
    RolloutResumed,
    RolloutStarted,
)
from firmtrail.rules.device import DeviceState, Refused

BUCKETS = 10_000
"""The number of buckets, of which each device has one in a rollout: hundredths of a percent."""

type Phase = Literal["running", "paused", "aborted"]


class Recent(NamedTuple):
    """Counts the devices of a rollout by their latest outcome since its start or last resume."""

    installed: int = 0
    failed: int = 0


class RolloutState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the state of a rollout after its events; a rollback has a `bad_version`."""

    id: str
    model: str
    version: str | None
    """The version that it sends devices to. None sends each to its previous version, or if it has
    none to the fallback."""
    reach: int
    cohort: str | None = None
    tag: str | None = None
    failed_percent: int | None = None
    min_reports: int | None = None
    bad_version: str | None = None
    fallback: str | None = None
    phase: Phase = "running"
    position: int
    """The position of its start: the newer of two rollouts has the higher position."""
    started_at_ms: int
    phase_position: int
    """The position of the event that began its phase."""
    phase_at_ms: int
    resumed_position: int
    """The position of its start or last resume: outcomes after it count towards pausing."""
    silent_after_s: int | None = None
    """How long a device that was offered the version may be silent before it counts as failed."""

    @property
    def is_rollback(self) -> bool:
        return self.bad_version is not None

    @property
    def watches(self) -> bool:
        """Returns whether its outcomes are counted, as it may pause because of them."""
        return self.min_reports is not None and self.phase == "running"


def stream(rollout_id: str) -> str:
    return f"rollout/{rollout_id}"


@lru_cache(maxsize=256)
def bucket(rollout_id: str, device: str) -> int:
    """Returns the device's bucket, below `BUCKETS`. It never changes in one rollout."""
    digest = sha256(f"{rollout_id}/{device}".encode()).digest()
    return int.from_bytes(digest) % BUCKETS


def is_meant(rollout: RolloutState, device: DeviceState) -> bool:
    """Returns whether the rollout is for devices of this model, cohort and tags."""
    return (
        rollout.model == device.model
        and rollout.cohort in {None, device.cohort}
        and (rollout.tag is None or rollout.tag in device.tags)
    )


def counts(rollout: RolloutState, device: DeviceState | None) -> bool:
    """Returns whether a device with an offer of the rollout counts for it: in its lists, in its
    progress, and in the outcomes that it may pause because of."""
    return device is not None and not device.decommissioned and is_meant(rollout, device)


def reaches(rollout: RolloutState, device: str) -> bool:
    return bucket(rollout.id, device) < rollout.reach


def started(recorded: Recorded) -> RolloutState:
    """Returns the rollout that a RolloutStarted or RollbackStarted begins."""
    event = recorded.event
    assert isinstance(event, RolloutStarted | RollbackStarted)
    position, at_ms = recorded.position, recorded.recorded_at_ms
    members = msgspec.structs.asdict(event)
    members.pop("reason", None)
    return RolloutState(
        id=recorded.stream.removeprefix("rollout/"),
        position=position,
        started_at_ms=at_ms,
        phase_position=position,
        phase_at_ms=at_ms,
        resumed_position=position,
        **members,
    )


def evolve(rollout: RolloutState, recorded: Recorded) -> RolloutState:
    """Returns the rollout after a further event of its stream."""
    match recorded.event:
        case RolloutAdvanced(reach):
            return replace(rollout, reach=reach)
        case RolloutPaused():
            return _in_phase(rollout, "paused", recorded)
        case RolloutAborted():
            return _in_phase(rollout, "aborted", recorded)
        case RolloutResumed():
            resumed = replace(rollout, resumed_position=recorded.position)
            return _in_phase(resumed, "running", recorded)
    return rollout


def _in_phase(rollout: RolloutState, phase: Phase, recorded: Recorded) -> RolloutState:
    return replace(
        rollout, phase=phase, phase_position=recorded.position, phase_at_ms=recorded.recorded_at_ms
    )


def decide_advance(rollout: RolloutState, reach: int) -> RolloutAdvanced:
    """Returns the event. Raises `Refused` if the rollout would not reach more devices."""
    _check_is_not_aborted(rollout)
    if reach <= rollout.reach:
        raise Refused(
            "no_advance",
            f"The rollout already reaches {rollout.reach / 100:g} %. Give a higher percentage: a "
            "rollout only grows.",
        )
    return RolloutAdvanced(reach)


def decide_pause(rollout: RolloutState) -> RolloutPaused:
    _check_is_not_aborted(rollout)
    if rollout.phase == "paused":
        raise Refused("rollout_paused", "The rollout is already paused.")
    return RolloutPaused()


def decide_resume(rollout: RolloutState) -> RolloutResumed:
    _check_is_not_aborted(rollout)
    if rollout.phase == "running":
        raise Refused("rollout_running", "The rollout is not paused.")
    return RolloutResumed()


def decide_abort(rollout: RolloutState) -> RolloutAborted:
    _check_is_not_aborted(rollout)
    return RolloutAborted()


def _check_is_not_aborted(rollout: RolloutState) -> None:
    if rollout.phase == "aborted":
        raise Refused("rollout_aborted", "The rollout was aborted. Start another one.")


def decide_own_pause(rollout: RolloutState, recent: Recent) -> RolloutPaused | None:
    """Returns the pause of a rollout of which too many devices failed; None if it continues."""
    if not rollout.watches or rollout.failed_percent is None or rollout.min_reports is None:
        return None
    outcomes = recent.installed + recent.failed
    if outcomes < rollout.min_reports:
        return None
    if 100 * recent.failed <= rollout.failed_percent * outcomes:
        return None
    return RolloutPaused(failed=recent.failed, installed=recent.installed)
