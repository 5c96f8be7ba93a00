"""Says what the forecast of a rollout depends on besides time: the windows of its offers, the
conditions of its phases that can't be met, or only by chance, and whether the rollout is over."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, sqrt
from typing import NamedTuple

from msgspec.structs import replace

from firmtrail.events.steering import PlanPhase, Window
from firmtrail.rules import plan, rollout, settings, window
from firmtrail.rules.control import Control, is_withdrawn
from firmtrail.rules.plan import PlanClock
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.rollout import BUCKETS, PlanTime, Recent, RolloutState
from firmtrail.rules.settings import RolloutWindow

type Windows = Sequence[Window]
"""Windows outside of which no device of a rollout is offered anything; none: always."""


class Counted(NamedTuple):
    """Counts the devices of a rollout, and the outcomes of its present phase."""

    matching: int
    done: int = 0
    """Devices that have no outcome to come: they installed the version, or used up their
    attempts."""
    recent: Recent = Recent()
    there: int = 0
    """Devices that run the version, or a higher one."""
    offered: int = 0
    """Devices that were offered the version, whatever came of it."""

    @property
    def to_come(self) -> int:
        """Returns the number of matching devices, without those that came to the version, or to a
        higher one, in another way: the rollout offers nothing to them."""
        return max(0, self.matching - max(0, self.there - self.done))


class Outlook(NamedTuple):
    """Holds what the forecast of a rollout depends on besides time."""

    windows: Windows = ()
    endless: Mapping[int, str] = {}
    """Why a phase may never end, in a sentence, by its number from 0."""
    is_over: bool = False
    """Whether nothing more is expected of the rollout."""
    doubts: Sequence[str] = ()
    """Why phases may reach too few devices by chance, in sentences: those that have not begun, and
    the current one before the rollout has offered anything."""


def outlook(control: Control, found: RolloutState, at: PlanTime, counted: Counted) -> Outlook:
    """Returns what the forecast of a rollout depends on at a time."""
    if ended_at_ms(control, found) is not None:
        return Outlook(windows_of(control, found), is_over=True)
    unmet = dict(_endless(found, at, counted))
    doubts = tuple(_doubts(found, at, counted, unmet))
    return Outlook(windows_of(control, found), unmet, doubts=doubts)


def window_of(control: Control, found: RolloutState) -> RolloutWindow:
    """Returns the window of a rollout, or the one that it inherits. Rollbacks inherit none."""
    if found.is_rollback:
        return RolloutWindow("Its window", found.window_times)
    return settings.window_of(control.settings, found.window_times, found.model, found.cohort)


def windows_of(control: Control, found: RolloutState) -> Windows:
    """Returns the windows that may count for the devices of a rollout. It is empty if some of them
    may be offered something at any time."""
    _, times, of_cohorts = window_of(control, found)
    return () if times is None else (times, *of_cohorts.values())


def opens_at_ms(control: Control, found: RolloutState, now_ms: int) -> int | None:
    """Returns when the first device of a running rollout may be offered something, if its windows
    are closed for all of them now, and one opens within 50 years."""
    opening_ms = window.first_open(windows_of(control, found), now_ms)
    return None if opening_ms == now_ms else opening_ms


def ended_at_ms(control: Control, found: RolloutState) -> int | None:
    """Returns when a rollout ended, because it was aborted or rejected, or its release was
    withdrawn. Returns None if it is not over."""
    ends = [found.phase_at_ms] if found.phase == "aborted" else []
    if found.version is not None and is_withdrawn(control, found.model, found.version):
        withdrawn_at_ms = control.releases[ReleaseKey(found.model, found.version)].withdrawn_at_ms
        assert withdrawn_at_ms is not None, "a withdrawn release has a time"
        ends.append(withdrawn_at_ms)
    return min(ends, default=None)


def last_time(control: Control, found: RolloutState, now_ms: int) -> PlanTime:
    """Returns the time at which a rollout is shown: now, or when it ended. A plan does not continue
    after its end."""
    return PlanTime(min(now_ms, ended_at_ms(control, found) or now_ms), control.halts)


def _endless(found: RolloutState, at: PlanTime, counted: Counted) -> Iterator[tuple[int, str]]:
    """Yields the phases whose condition is not met even if each device that has no outcome yet
    installs the version, with the reason."""
    clock, begun = _present(found, at)
    current = None if clock is None or begun == clock.phase else clock
    reached = [0, *(ceil(counted.to_come * each.reach / BUCKETS) for each in found.plan)]
    for n, phase in enumerate(found.plan[:-1]):
        if current is not None and n == current.phase:
            fault = None
            if not current.is_met:
                left = max(0, max(reached[n + 1], counted.offered) - counted.done)
                is_certain = counted.done >= _most(counted.to_come, phase.reach / BUCKETS)
                recent = counted.recent.in_phase(n)
                fault = _fault(phase, recent, left, is_certain=is_certain)
        else:
            fault = None if n < begun else _fault(phase, Recent(), reached[n + 1] - reached[n])
        if fault is not None:
            yield n, f"Phase {n + 1} {fault}: it may never end."


def _doubts(
    found: RolloutState, at: PlanTime, counted: Counted, unmet: Mapping[int, str]
) -> Iterator[str]:
    """Yields the phases that ask for more reports than they surely reach new devices. The share of
    a phase is the chance of each device, so the number is binomial: two standard deviations less
    than expected is rare."""
    _, begun = _present(found, at)
    first = begun if counted.offered else begun - 1
    before = 0
    for n, phase in enumerate(found.plan[:-1]):
        chance, before = (phase.reach - before) / BUCKETS, phase.reach
        expected = counted.to_come * chance
        fewest = ceil(expected - _deviation(expected, chance))
        if phase.min_reports is None or n < first or n in unmet:
            continue
        if phase.min_reports > fewest:
            new = f"{round(expected)} new device{'' if round(expected) == 1 else 's'}"
            yield (
                f"Phase {n + 1} waits for {_reports(phase.min_reports)}, but reaches about {new}: "
                "by chance they may be too few, and it may never end."
            )


def _deviation(expected: float, chance: float) -> float:
    """Returns how many more or fewer devices than expected a share rarely reaches."""
    return 2 * sqrt(expected * (1 - chance))


def _most(devices: int, chance: float) -> float:
    """Returns how many of the devices a share reaches at most, but for rare cases."""
    expected = devices * chance
    return min(devices, expected + _deviation(expected, chance))


def _present(found: RolloutState, at: PlanTime) -> tuple[PlanClock | None, int]:
    """Returns the clock of a plan at a time, and how many phases have begun."""
    clock = rollout.clock_at(found, at)
    return clock, rollout.begun_phases(replace(found, clock=clock), at.now_ms)


def _fault(phase: PlanPhase, recent: Recent, left: int, *, is_certain: bool = True) -> str | None:
    """Returns why the condition of a phase can't be met, if so many devices are left. It is certain
    that none is left, unless the phase may have reached more devices than expected."""
    installed, failed = recent.phase_installed, recent.phase_failed
    if phase.installed_percent is None or plan.is_met(phase, installed + left, failed):
        return None
    more = "no more devices" if is_certain else "more devices only by chance"
    if left:
        more = f"only about {left} more device{'' if left == 1 else 's'}"
    outcomes = installed + failed
    if phase.min_reports is not None and outcomes + left < phase.min_reports:
        has = f" and has {outcomes}" if outcomes else ""
        return f"waits for {_reports(phase.min_reports)}{has}, but reaches {more}"
    return (
        f"waits for {phase.installed_percent} % installs, but {failed} of {outcomes} outcomes "
        f"failed, and it reaches {more}"
    )


def _reports(number: int) -> str:
    return f"{number} report{'' if number == 1 else 's'}"
