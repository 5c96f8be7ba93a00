"""Reports to Prometheus how far the rollouts are that this process knows, over all projects.

A process knows a project from the first call that concerns it on, and computes the states from what
it has in memory: a scrape reads no database for them. No label names a project or a rollout, so
there are as many series for one rollout as for a thousand.
"""

from collections import Counter
from collections.abc import Iterable
from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from firmtrail.rules import phases, rollout
from firmtrail.rules.control import Control
from firmtrail.rules.plan import PLAN_PHASES_MAX
from firmtrail.rules.rollout import LiveState, PlanTime

STATES: tuple[str, ...] = (*get_args(LiveState.__value__), "withdrawn")


def families(known: Iterable[Control], now_ms: int) -> list[Metric]:
    """Returns the metrics at this time. A rollout that several of the controls have, as a log
    continues another one, is counted once, as the last of them has it."""
    newest = {each.id: (each, of) for of in known for each in of.rollouts.values()}
    states, in_phase, stuck = Counter[str](), Counter[int](), 0
    for found, of in newest.values():
        at = PlanTime(now_ms, of.halts)
        state = phases.state_in(of, found, now_ms)
        states[state] += 1
        clock = rollout.clock_at(found, at)
        if state == "running" and clock is not None:
            in_phase[min(clock.phase, PLAN_PHASES_MAX)] += 1
        stuck += phases.stuck_since_ms(of, found, now_ms) is not None
    return [*_counted(states, in_phase), _stuck(stuck)]


def _counted(states: Counter[str], in_phase: Counter[int]) -> Iterable[Metric]:
    """Returns a series for each state and for each phase that there may be, also if it has none."""
    of_state = GaugeMetricFamily(
        "firmtrail_rollouts",
        "Number of rollouts and rollbacks, by state, of the projects that this process knows.",
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
