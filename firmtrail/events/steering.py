"""The part of the vocabulary that steers: what was ordered, and what devices were offered."""

from typing import ClassVar, Literal

from firmtrail.events.event import Event

type Cause = Literal["pinned", "rollback", "rollout", "follow_latest"]
"""The rule that ordered an offer."""


class RolloutStarted(Event, frozen=True):
    """Devices of the model, of at most one cohort or tag, are to come to this version."""

    IS_CONTROL: ClassVar[bool] = True

    version: str
    model: str
    reach: int
    """How many of the 10 000 buckets it reaches: a percentage in hundredths."""
    cohort: str | None = None
    tag: str | None = None
    failed_percent: int | None = None
    min_reports: int | None = None
    """With both it pauses itself."""
    silent_after_s: int | None = None
    """A device that was offered it and does not call for so long counts as failed."""


class RollbackStarted(Event, frozen=True):
    """Devices that run the bad version are to go to `version`; None: each to its previous one."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "reason"

    bad_version: str
    model: str
    reach: int
    version: str | None = None
    fallback: str | None = None
    cohort: str | None = None
    tag: str | None = None
    reason: str | None = None


class RolloutAdvanced(Event, frozen=True):
    """It reaches more devices."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "reason"

    reach: int
    reason: str | None = None


class Order(Event, frozen=True):
    """What a person ordered about what devices should run, and why."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "reason"

    reason: str | None = None


class RolloutPaused(Order, frozen=True):
    """It offers nothing until it is resumed. With counts, it paused itself over them."""

    failed: int | None = None
    installed: int | None = None


class RolloutResumed(Order, frozen=True):
    """It continues; the outcomes before it no longer count towards pausing."""


class RolloutAborted(Order, frozen=True):
    """It decides nothing any more."""


class Halted(Order, frozen=True):
    """No device of the project is offered anything; rollbacks go on unless `all`."""

    all: bool = False


class Resumed(Order, frozen=True):
    """The halt is over."""


class UpdateOffered(Event, frozen=True):
    """The device was offered this version, for the first time in this attempt."""

    version: str
    cause: Cause
    attempt: int
    """Counted since its last install of the version, or retry, from 1."""
    rollout: str | None = None
    running: str | None = None
    """What it said that it runs, where that was not what was recorded."""


class AttemptsCleared(Event, frozen=True):
    """The device may try this version again."""

    IS_NUDGE: ClassVar[bool] = True

    version: str


class DeviceFellSilent(Event, frozen=True):
    """The device was offered this version and did not call for as long as the rollout waits."""

    version: str
    rollout: str
    silent_since: str
    """The last call that is known."""


class Asked(Event, frozen=True):
    """The device is asked which version it runs; its report that names the question answers."""

    IS_NUDGE: ClassVar[bool] = True

    question: str
    expires_at: str
