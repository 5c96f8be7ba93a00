"""Holds the plans and windows of rollouts as bodies name them and as answers show them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from firmtrail.events.steering import AutoRollout, PlanPhase, Window
from firmtrail.http.api.wire import StrictBody, TimeText, time_or_none
from firmtrail.http.faults import BrokenRule, raise_if_broken
from firmtrail.rules import phases, window
from firmtrail.rules.outlook import Outlook
from firmtrail.rules.phases import PhaseTimes
from firmtrail.rules.plan import PLAN_PHASES_MAX
from firmtrail.rules.rollout import BUCKETS, PlanTime, RolloutState

type Percent = Annotated[
    float, Meta(ge=0, le=100, description="a percentage with two decimals at most")
]


class When(StrictBody, frozen=True, kw_only=True):
    """Ends a phase when, of at least so many outcomes of its offers, this share are installs."""

    installed_percent: Annotated[int, Meta(ge=0, le=100)]
    min_reports: Annotated[int, Meta(ge=1, le=10**9)]


class WantedPhase(StrictBody, frozen=True, kw_only=True):
    """Describes a phase: the share of devices that it reaches, and when it ends. A phase with
    neither `after_s` nor `when` ends when a person advances the rollout."""

    percent: Percent
    after_s: Annotated[int, Meta(ge=0, le=366 * 86_400)] | None = None
    when: When | None = None

    def __post_init__(self) -> None:
        raise_if_broken(too_fine(self.percent))


class WantedPlan(StrictBody, frozen=True, kw_only=True):
    """Describes the phases of a rollout; each reaches more devices than the one before."""

    phases: Annotated[list[WantedPhase], Meta(min_length=1, max_length=PLAN_PHASES_MAX)]

    def __post_init__(self) -> None:
        raise_if_broken(_not_growing(self.phases))


class WantedWindow(StrictBody, frozen=True, kw_only=True):
    """Describes the times at which devices may be offered something new."""

    cron: Annotated[
        str,
        Meta(max_length=100, description="five fields: minute hour day month weekday"),
    ]
    duration_s: Annotated[int, Meta(ge=60, le=7 * 86_400)]
    timezone: Annotated[
        str, Meta(max_length=64, description="such as Europe/Berlin, or device for each one's own")
    ] = "UTC"

    def __post_init__(self) -> None:
        if isinstance(self.cron, str) and isinstance(self.timezone, str):
            raise_if_broken(window.fault_of(Window(self.cron, 0, self.timezone)))


class PauseIf(StrictBody, frozen=True, kw_only=True):
    """Pauses the rollout when more than this share of at least so many outcomes failed."""

    failed_percent: Annotated[int, Meta(ge=0, le=100)]
    min_reports: Annotated[int, Meta(ge=1, le=10**9)]


class WantedAutoRollout(StrictBody, frozen=True, kw_only=True):
    """Describes the rollout that each new release of a model starts automatically."""

    plan: WantedPlan | None = None
    window: WantedWindow | None = None
    pause_if: PauseIf | None = None


class ShownPhase(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a phase of a rollout's plan, and how far it is."""

    percent: float
    state: Literal["done", "current", "next"]
    """In a dry run, each phase is `next`: none has begun."""
    after_s: int | None
    when: When | None
    began_at: TimeText | None
    reached_at: TimeText | None
    """When the outcomes of its offers met `when`."""
    earliest_end: TimeText | None
    """The time before which the next phase does not begin, unless a person advances; null while
    the rollout is paused, or the project halted, and if `when` can't be met."""
    begins_at: TimeText | UnsetType | None = UNSET
    """When it began, or begins if nothing fails; null while that is unknown. Like the next two, it
    is in dry runs, and in a single rollout as it is now, unless it is over."""
    ends_at: TimeText | UnsetType | None = UNSET
    """When it ended, or ends if nothing fails and its condition is met as soon as its time is over;
    null while that is unknown, for a condition that can't be met, and for the last phase."""
    devices: int | UnsetType = UNSET
    """About how many devices it reaches, in all."""


def _not_growing(phases: Sequence[WantedPhase]) -> BrokenRule | None:
    percents = [each.percent for each in phases or () if isinstance(each, WantedPhase)]
    if any(later <= before for before, later in pairwise(percents)):
        return "phases", "have to reach more devices one after the other"
    return None


def too_fine(percent: float | UnsetType | None) -> BrokenRule | None:
    """Returns the fault of a percentage with more than two decimals."""
    if isinstance(percent, int | float) and percent != round(percent, 2):
        return "percent", "has more than two decimals"
    return None


def hundredths(percent: float) -> int:
    """Returns the percentage in hundredths of a percent, as events store it."""
    return round(percent * 100)


def phases_of(wanted: WantedPlan) -> tuple[PlanPhase, ...]:
    """Returns the phases as events hold them."""
    return tuple(
        PlanPhase(
            hundredths(each.percent),
            each.after_s,
            each.when.installed_percent if each.when else None,
            each.when.min_reports if each.when else None,
        )
        for each in wanted.phases
    )


def window_of(wanted: WantedWindow) -> Window:
    return Window(wanted.cron, wanted.duration_s, wanted.timezone)


def shown_window(found: Window | None) -> WantedWindow | None:
    if found is None:
        return None
    return WantedWindow(cron=found.cron, duration_s=found.duration_s, timezone=found.timezone)


def shown_pause_if(failed_percent: int | None, min_reports: int | None) -> PauseIf | None:
    if failed_percent is None or min_reports is None:
        return None
    return PauseIf(failed_percent=failed_percent, min_reports=min_reports)


def auto_rollout_of(wanted: WantedAutoRollout) -> AutoRollout:
    """Returns the automatic rollout as events hold it."""
    return AutoRollout(
        phases_of(wanted.plan) if wanted.plan else (),
        window_of(wanted.window) if wanted.window else None,
        wanted.pause_if.failed_percent if wanted.pause_if else None,
        wanted.pause_if.min_reports if wanted.pause_if else None,
    )


def shown_auto_rollout(found: AutoRollout) -> WantedAutoRollout:
    return WantedAutoRollout(
        plan=plan_of(found.plan),
        window=shown_window(found.window),
        pause_if=shown_pause_if(found.failed_percent, found.min_reports),
    )


def when_of(phase: PlanPhase) -> When | None:
    if phase.installed_percent is None or phase.min_reports is None:
        return None
    return When(installed_percent=phase.installed_percent, min_reports=phase.min_reports)


def plan_of(phases: Sequence[PlanPhase]) -> WantedPlan | None:
    """Returns the plan as answers show it; None if there is none."""
    shown = [
        WantedPhase(percent=each.reach / 100, after_s=each.after_s, when=when_of(each))
        for each in phases
    ]
    return WantedPlan(phases=shown) if shown else None


def shown_phases(
    found: RolloutState, at: PlanTime, times: Sequence[PhaseTimes], outlook: Outlook
) -> list[ShownPhase]:
    """Returns the phases of a rollout at a time. `times` has those of the phases that began."""
    return [
        ShownPhase(
            percent=each.phase.reach / 100,
            state=each.state,
            after_s=each.phase.after_s,
            when=when_of(each.phase),
            began_at=time_or_none(each.times.began_at_ms),
            reached_at=time_or_none(each.times.met_at_ms),
            earliest_end=time_or_none(each.earliest_end_ms),
        )
        for each in phases.progress(found, at, times, outlook)
    ]


def expected_phases(
    found: RolloutState,
    at: PlanTime,
    matching: int,
    outlook: Outlook,
    *,
    times: Sequence[PhaseTimes] = (),
) -> list[ShownPhase]:
    """Returns the phases of a rollout, as `shown_phases` does, and when each begins and ends if
    nothing fails, and about how many devices it reaches."""
    shown, forecast = shown_phases(found, at, times, outlook), phases.forecast(found, at, outlook)
    begins = [
        each.began_at or time_or_none(expected.begins_at_ms)
        for each, expected in zip(shown, forecast, strict=True)
    ]
    return [
        msgspec.structs.replace(
            each, begins_at=begin, ends_at=end, devices=round(matching * phase.reach / BUCKETS)
        )
        for each, begin, end, phase in zip(
            shown, begins, [*begins[1:], None], found.plan, strict=True
        )
    ]


def forecast_of(
    found: RolloutState, at: PlanTime, matching: int, outlook: Outlook
) -> list[ShownPhase]:
    """Returns the phases of a rollout that was not started: when each begins and ends if nothing
    fails, and about how many devices it reaches."""
    return [
        msgspec.structs.replace(
            each, state="next", began_at=each.begins_at, earliest_end=each.ends_at
        )
        for each in expected_phases(found, at, matching, outlook)
    ]
