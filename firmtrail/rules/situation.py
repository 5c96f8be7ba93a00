"""Holds everything that a decision about one device depends on, and what the decision says."""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from firmtrail.events.steering import Cause
from firmtrail.rules.artifact import NATIVE, Protocol
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState
from firmtrail.rules.offer import Offers
from firmtrail.rules.rollout import PlanTime

type Action = Literal["none", "update", "rollback"]
type Refusal = Literal[
    "up_to_date",
    "not_reached",
    "paused",
    "halted",
    "withdrawn",
    "attempts_exhausted",
    "wrong_model",
    "no_previous",
    "no_release",
    "unknown_version",
    "scheduled",
    "waiting",
    "window",
    "pending",
    "no_artifact",
]
type Reason = Cause | Refusal
CAUSES: frozenset[Reason] = frozenset({"pinned", "rollback", "rollout", "follow_latest"})
type RuleName = Literal[
    "enrolment", "halt", "pin", "rollback", "rollout", "follow_latest", "nothing"
]


class Decision(Struct, frozen=True, gc=False):
    """Holds what a device should do, and why."""

    action: Action
    version: str | None
    rollout: str | None
    """The rollout or rollback that decided, even if it decided "none"."""
    reason: Reason
    rule: RuleName
    target: str | None
    """The version that the deciding rule is about."""
    not_before_ms: int | None = None
    """The time at which a "none" ends, where only time decides: a start, or the next opening of a
    window."""

    @property
    def source(self) -> str:
        """Returns the source of the offer that the decision leads to."""
        return self.rollout or self.reason


class Situation(Struct, frozen=True, gc=False):
    """Holds everything that a decision about one device depends on."""

    control: Control
    device: DeviceState
    offers: Offers
    """The offers that count, those of its model: one version of another model is another
    release."""
    now_ms: int
    """The time to decide for."""
    timezone: str | None = None
    """The time zone that the device says it is in."""
    previous: str | None = None
    """The last good version that the device ran; set if a rollback needs it (`runs_wanted`)."""
    protocol: Protocol = NATIVE
    """The protocol that the device speaks; it matters where the device gets a single artifact."""

    @property
    def version(self) -> str | None:
        return self.device.version

    @property
    def at(self) -> PlanTime:
        return PlanTime(self.now_ms, self.control.halts)


def with_running(device: DeviceState, running: str | None) -> DeviceState:
    """Returns the device with the version that it says it runs, if it says so, instead of the
    recorded one."""
    if running is None or running == device.version:
        return device
    return replace(device, version=running)
