"""Says what the rollouts of a project do at a time, whichever device asks.

How far a rollout is follows from its events and the time. Between two moments at which time changes
a rollout, all of them stay as they are, so this is computed once for all devices that ask in
between. `rollout.state_at`, `reach_at` and `clock_at` are the rules; this remembers their last
answers.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from firmtrail.rules import plan, rollout
from firmtrail.rules.device import DeviceState
from firmtrail.rules.plan import Halts
from firmtrail.rules.rollout import LiveState, PlanTime, RolloutState

type Purpose = tuple[str, str | None]
"""A model, and the bad version of rollbacks (None: of other rollouts)."""
type Audience = tuple[str, str | None, str | None, bool]
"""A purpose, a cohort (None: any that no rollout names), and whether the device has tags."""


class Standing(Struct, frozen=True, gc=False):
    """Holds what a rollout does at a time."""

    rollout: RolloutState
    state: LiveState
    reach: int
    """The number of buckets that it reaches."""
    phase: int | None
    """The phase of its plan, from 0; None without a plan, and until it is approved."""
    is_over: bool
    """Whether the release that it leads to was withdrawn."""

    @property
    def has_begun(self) -> bool:
        """Returns whether the rollout is past its start and approved: until then, an older one that
        reaches the device decides."""
        return self.state not in {"waiting", "scheduled"}

    def reaches(self, device: str) -> bool:
        """Returns whether the rollout reaches the device. One that reaches every bucket needs
        none."""
        return self.reach >= rollout.BUCKETS or rollout.bucket(self.rollout.id, device) < self.reach


class _Moment(NamedTuple):
    """Holds what all rollouts do between two moments, the newest first."""

    passed: int
    """How many of the moments had passed."""
    by_purpose: Mapping[Purpose, Sequence[Standing]]
    by_audience: dict[Audience, Sequence[Standing]]
    """Those that may be meant for an audience, of the audiences that were asked for."""

    def narrowed(self, audience: Audience) -> Sequence[Standing]:
        """Returns the rollouts that may be meant for an audience, and keeps them for the next
        device, unless there are none for its model."""
        model, bad_version, cohort, has_tags = audience
        some = self.by_purpose.get((model, bad_version))
        if some is None:
            return ()
        found = [
            each
            for each in some
            if each.rollout.cohort in {None, cohort}
            if each.rollout.tag is None or has_tags
        ]
        self.by_audience[audience] = found
        return found


class Standings:
    """Remembers what these rollouts, the newest first of each purpose, do between two moments.
    `over` has the ids of those whose release was withdrawn."""

    def __init__(
        self,
        by_purpose: Mapping[Purpose, Sequence[RolloutState]],
        halts: Halts,
        over: Collection[str],
    ) -> None:
        self._by_purpose = by_purpose
        self._halts = halts
        self._over = over
        rollouts = [each for some in by_purpose.values() for each in some]
        self._cohorts = {each.cohort for each in rollouts}
        self.moments = _moments(rollouts, halts)
        """The times at which a rollout changes because time passes."""
        self._last = _Moment(-1, {}, {})

    def meant_for(
        self, device: DeviceState, now_ms: int, bad_version: str | None = None
    ) -> Iterable[Standing]:
        """Returns the rollouts that are meant for the device, the newest first: the rollbacks from
        a bad version, or all others."""
        if not self._by_purpose:
            return ()
        now, tags = self._at(now_ms), device.tags
        cohort = device.cohort if device.cohort in self._cohorts else None
        audience = device.model or "", bad_version, cohort, bool(tags)
        rollouts = now.by_audience.get(audience)
        if rollouts is None:
            rollouts = now.narrowed(audience)
        if not tags:
            return rollouts
        return (each for each in rollouts if each.rollout.tag is None or each.rollout.tag in tags)

    def _at(self, now_ms: int) -> _Moment:
        passed, last = bisect_right(self.moments, now_ms), self._last
        if last.passed == passed:
            return last
        at = PlanTime(now_ms, self._halts)
        by_purpose = {
            purpose: [self._standing(each, at) for each in rollouts]
            for purpose, rollouts in self._by_purpose.items()
        }
        self._last = found = _Moment(passed, by_purpose, {})
        return found

    def _standing(self, found: RolloutState, at: PlanTime) -> Standing:
        clock = rollout.clock_at(found, at)
        phase = None if clock is None else clock.phase
        state, reach = rollout.state_at(found, at.now_ms), rollout.reach_at(found, at)
        return Standing(found, state, reach, phase, found.id in self._over)


def _moments(rollouts: Sequence[RolloutState], halts: Halts) -> list[int]:
    starts = [each.start_at_ms for each in rollouts if each.start_at_ms is not None]
    phases = [
        began_at_ms
        for each in rollouts
        if each.clock is not None and each.is_ticking
        for began_at_ms in plan.beginnings(each.plan, each.clock, halts)
    ]
    return sorted({*starts, *phases})
