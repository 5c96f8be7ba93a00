"""Reports to Prometheus how far the rollouts of all projects are.

Each process reports all of them, so it does not matter which one answers a scrape. It computes the
states from the `Control` of each project. No label names a project or a rollout, so there are as
many series for one rollout as for a thousand; and a scrape looks only at the rollouts that time
alone may change, however many have ended.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, get_args

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from firmtrail.database.database import Database, NoSuchTable, Unavailable
from firmtrail.http.metrics import text_of
from firmtrail.http.shared_reads import SharedReads
from firmtrail.projections import rollouts
from firmtrail.projections.controls import Controls
from firmtrail.rules import phases, rollout
from firmtrail.rules.control import Control
from firmtrail.rules.plan import PLAN_PHASES_MAX
from firmtrail.rules.rollout import LiveState, PlanTime, RolloutState

STATES: tuple[str, ...] = (*get_args(LiveState.__value__), "withdrawn")
OVER = frozenset({"aborted", "withdrawn"})

PROJECTS_MAX = 10_000
"""Limits the projects whose rollouts are counted: those with the newest logs."""

CACHED_S = 15
WAIT_S = 1
"""Limits the wait of a scrape for the database; without an answer it shows what was read before."""


@dataclass
class RolloutCounts:
    """Counts rollouts by state and by phase, and those that are stuck."""

    states: Counter[str] = field(default_factory=Counter)
    in_phase: Counter[int] = field(default_factory=Counter)
    stuck: int = 0

    def add(self, of: Control, found: RolloutState, now_ms: int) -> None:
        """Counts a further rollout as it is at this time."""
        state = phases.state_in(of, found, now_ms)
        self.states[state] += 1
        clock = rollout.clock_at(found, PlanTime(now_ms, of.halts))
        if state == "running" and clock is not None:
            self.in_phase[min(clock.phase, PLAN_PHASES_MAX)] += 1
        self.stuck += phases.stuck_since_ms(of, found, now_ms) is not None

    def add_all(self, others: "RolloutCounts") -> None:
        self.states.update(others.states)
        self.in_phase.update(others.in_phase)
        self.stuck += others.stuck


class Settled(NamedTuple):
    """Holds the counts of a project's rollouts that only an event changes, and the others."""

    of: Control
    counts: RolloutCounts
    changing: tuple[RolloutState, ...]

    def add_to(self, total: RolloutCounts, now_ms: int) -> None:
        """Counts all rollouts as they are at this time, which is not before that of `settled`."""
        total.add_all(self.counts)
        for each in self.changing:
            total.add(self.of, each, now_ms)


class RolloutTotals:
    """Counts the rollouts of all projects. It reads at most every 15 s which projects have changed,
    and reads again only those that this process does not know yet as they are. A failed read is not
    cached: the next scrape reads again."""

    def __init__(self, db: Database, controls: Controls) -> None:
        self._db = db
        self._controls = controls
        self._reads = SharedReads(CACHED_S)
        self._settled: dict[int, Settled] | None = None
        """By log; None before the first read."""

    async def text(self, now_ms: int) -> bytes:
        """Returns the metrics in Prometheus's text format, with all that this process knows at this
        time. Returns nothing as long as the database has never answered."""
        with contextlib.suppress(TimeoutError, Unavailable, NoSuchTable):
            await asyncio.wait_for(self._reads.get("", partial(self._read, now_ms)), WAIT_S)
        return b"" if self._settled is None else text_of(families(self._total(now_ms)))

    async def close(self) -> None:
        """Ends a read that is in progress, if there is one."""
        await self._reads.close()

    async def _read(self, now_ms: int) -> None:
        before, found = self._settled or {}, dict[int, Settled]()
        for each in await rollouts.everywhere(self._db, PROJECTS_MAX):
            newest = await self._controls.at(each.log_id, each.control_count)
            known = before.get(each.log_id)
            is_current = known is not None and known.of is newest
            found[each.log_id] = known if known and is_current else settled(newest, now_ms)
        self._settled = found

    def _total(self, now_ms: int) -> RolloutCounts:
        total, logs = RolloutCounts(), self._settled or {}
        for log_id in logs:
            newest = self._controls.known(log_id)
            if newest is not None and newest is not logs[log_id].of:
                logs[log_id] = settled(newest, now_ms)
            logs[log_id].add_to(total, now_ms)
        return total


def settled(of: Control, now_ms: int) -> Settled:
    """Returns the rollouts of a project, those that only an event changes from now on counted."""
    counts, changing = RolloutCounts(), []
    for each in of.rollouts.values():
        if _is_changing(of, each, now_ms):
            changing.append(each)
        else:
            counts.add(of, each, now_ms)
    return Settled(of, counts, tuple(changing))


def _is_changing(of: Control, found: RolloutState, now_ms: int) -> bool:
    """Returns whether time alone may change the state of a rollout, its phase, or that it is
    stuck."""
    state = phases.state_in(of, found, now_ms)
    clock = rollout.clock_at(found, PlanTime(now_ms, of.halts))
    has_later = clock is not None and clock.phase < len(found.plan) - 1
    return state == "scheduled" or (state not in OVER and has_later)


def families(total: RolloutCounts) -> list[Metric]:
    """Returns the metrics of these counts."""
    return [*_counted(total.states, total.in_phase), _stuck(total.stuck)]


def _counted(states: Counter[str], in_phase: Counter[int]) -> Iterable[Metric]:
    """Returns a series for each state and for each phase that there may be, also if it has none."""
    of_state = GaugeMetricFamily(
        "firmtrail_rollouts",
        "Number of rollouts and rollbacks of all projects, by state.",
        labels=["state"],
    )
    for state in STATES:
        of_state.add_metric([state], states[state])
    of_phase = GaugeMetricFamily(
        "firmtrail_rollouts_in_phase",
        "Number of running rollouts in each phase of their plans; more: in any phase after the "
        f"{PLAN_PHASES_MAX}th.",
        labels=["phase"],
    )
    for number in range(PLAN_PHASES_MAX):
        of_phase.add_metric([str(number + 1)], in_phase[number])
    of_phase.add_metric(["more"], in_phase[PLAN_PHASES_MAX])
    return of_state, of_phase


def _stuck(stuck: int) -> Metric:
    return GaugeMetricFamily(
        "firmtrail_rollouts_stuck",
        "Number of running rollouts whose phase should have ended a day ago by its time alone, and "
        "whose reports do not meet its condition.",
        stuck,
    )
