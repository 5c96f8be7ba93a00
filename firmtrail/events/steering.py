"""Declares the events of steering: the orders of people, and the offers to devices."""

from typing import ClassVar, Literal

import msgspec

from firmtrail.events.event import Event

type Cause = Literal["pinned", "rollback", "rollout", "follow_latest"]
"""The rule that led to an offer."""

type OfferEnding = Literal["cancelled", "confirmed"]
"""Whether the device gave the offer up, or is done with it and shows the outcome by the version
that it runs next."""


class PlanPhase(msgspec.Struct, frozen=True, omit_defaults=True):
    """Describes a phase of a rollout's plan, and when it ends."""

    reach: int
    """The number of the 10 000 buckets that it reaches: a percentage in hundredths."""
    after_s: int | None = None
    """How long it lasts at least."""
    installed_percent: int | None = None
    """The share of installations among the outcomes of its offers that ends it."""
    min_reports: int | None = None
    """The number of outcomes that the share needs."""


class Window(msgspec.Struct, frozen=True):
    """Describes the times at which devices may be offered something new."""

    cron: str
    """When it opens: a cron expression of five fields."""
    duration_s: int
    """How long it stays open."""
    timezone: str
    """The zone of the expression: its name, or "device" for that of each device."""


class AutoRollout(msgspec.Struct, frozen=True, omit_defaults=True):
    """Describes the rollout that each new release of a model starts automatically."""

    plan: tuple[PlanPhase, ...] = ()
    """Its phases; without them it reaches all devices from the beginning."""
    window: Window | None = None
    """The times at which it offers something new."""
    failed_percent: int | None = None
    """The share of failures above which it pauses."""
    min_reports: int | None = None
    """With `failed_percent` and `min_reports` set, the rollout pauses automatically."""


class RolloutStarted(Event, frozen=True):
    """Records that devices of the model, of at most one cohort or tag, should run this version."""

    IS_CONTROL: ClassVar[bool] = True

    version: str
    """The version that devices should run."""
    model: str
    """The model of these devices."""
    reach: int
    """The number of the 10 000 buckets that it reaches: a percentage in hundredths."""
    cohort: str | None = None
    """The only cohort that it is meant for."""
    tag: str | None = None
    """The only tag that it is meant for."""
    failed_percent: int | None = None
    """The share of failures above which it pauses."""
    min_reports: int | None = None
    """With `failed_percent` and `min_reports` set, the rollout pauses automatically."""
    silent_after_s: int | None = None
    """How long a device that was offered the version may be silent before it counts as failed."""
    plan: tuple[PlanPhase, ...] | None = None
    """The phases in which it reaches more and more devices; `reach` is that of the first."""
    start_at: str | None = None
    """The time before which it offers nothing."""
    window: Window | None = None
    """The times at which it offers something new."""
    approvals: int | None = None
    """The number of members who have to approve it before it offers anything."""
    started_by: str | None = None
    """The id of the person who started it and therefore can't approve it."""
    release_position: int | None = None
    """The position of the release that started it automatically."""


class RollbackStarted(Event, frozen=True):
    """Records that devices that run the bad version should go to `version` if it is given, and
    otherwise each to its previous version."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "reason"

    bad_version: str
    """The version that devices should leave."""
    model: str
    """The model of these devices."""
    reach: int
    """The number of the 10 000 buckets that it reaches: a percentage in hundredths."""
    version: str | None = None
    """The version for all of them, if one was named."""
    fallback: str | None = None
    """The version for devices without a previous one."""
    cohort: str | None = None
    """The only cohort that it is meant for."""
    tag: str | None = None
    """The only tag that it is meant for."""
    window: Window | None = None
    """The times at which it offers something new; without it, at any time."""
    reason: str | None = None


class RolloutAdvanced(Event, frozen=True):
    """Records that the rollout reaches more devices."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "reason"

    reach: int
    """The number of the 10 000 buckets that it reaches: a percentage in hundredths."""
    reason: str | None = None
    phase: int | None = None
    """The phase of its plan that begins, from 0."""


class RolloutPlanChanged(Event, frozen=True):
    """Records that the rollout has another plan: the phases that it began stay, and the first of
    the new ones begins now, or with the last approval if the rollout needs some."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "reason"

    plan: tuple[PlanPhase, ...]
    """The phases that follow those that it began."""
    approvals: int | None = None
    """The number of members who have to approve it before it offers anything more."""
    changed_by: str | None = None
    """The id of the person who changed it and therefore can't approve it."""
    reason: str | None = None


class RolloutPhaseMet(Event, frozen=True):
    """Records that the outcomes of a phase met its condition: the next one begins as soon as its
    time is over, too."""

    IS_CONTROL: ClassVar[bool] = True

    phase: int
    """The phase of the plan, from 0."""
    installed: int
    """The number of installations that met it."""
    failed: int
    """The number of failures among the outcomes."""


class Order(Event, frozen=True):
    """Records what a person ordered about what devices should run, and why."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "reason"

    reason: str | None = None


class RolloutPaused(Order, frozen=True):
    """Records that the rollout offers nothing until it is resumed. With counts, it paused
    automatically because of them."""

    failed: int | None = None
    """The number of failures at which it paused."""
    installed: int | None = None
    """The number of installations at which it paused."""


class RolloutResumed(Order, frozen=True):
    """Records that the rollout continues; earlier outcomes no longer count towards pausing."""


class RolloutAborted(Order, frozen=True):
    """Records that the rollout ended: it decides nothing any more."""


class RolloutApproved(Order, frozen=True):
    """Records that a member approved the rollout."""

    by: str = ""
    """The id of the person."""


class RolloutRejected(Order, frozen=True):
    """Records that a member rejected the rollout, which ends it."""

    by: str = ""
    """The id of the person."""


class Halted(Order, frozen=True):
    """Records that the project stopped its offers; rollbacks continue unless `all` is set."""

    all: bool = False
    """Whether rollbacks stop too."""


class Resumed(Order, frozen=True):
    """Records that the halt ended."""


class UpdateOffered(Event, frozen=True):
    """Records that the device was offered this version, for the first time in this attempt."""

    version: str
    """The version that was offered."""
    cause: Cause
    """The rule that led to the offer."""
    attempt: int
    """Counted from 1 since the device last installed the version, or since a retry."""
    rollout: str | None = None
    """The id of the rollout or rollback that led to the offer."""
    running: str | None = None
    """The version that the device said it runs, if another one was recorded."""


class AttemptsCleared(Event, frozen=True):
    """Records that the device may try this version again."""

    IS_NUDGE: ClassVar[bool] = True

    version: str
    """The version that may be offered again."""


class OfferEnded(Event, frozen=True):
    """Records that the device does nothing more about an offer, though no outcome was reported. A
    cancelled offer is no attempt."""

    version: str
    """The version that was offered."""
    ordinal: int
    """The number of the offer among the offers of the device, from 1."""
    ending: OfferEnding
    """How it ended."""
    rollout: str | None = None
    """The id of the rollout or rollback that led to the offer."""


class DeviceFellSilent(Event, frozen=True):
    """Records that the device was offered this version, and did not call for as long as the rollout
    waits."""

    version: str
    """The version that was offered."""
    rollout: str
    """The id of the rollout."""
    silent_since: str
    """The time of the last call that is known."""


class Asked(Event, frozen=True):
    """Records that the device is asked which version it runs; a report that names the question
    answers it."""

    IS_NUDGE: ClassVar[bool] = True

    question: str
    """The id of the question."""
    expires_at: str
    """The time after which no answer is expected."""
