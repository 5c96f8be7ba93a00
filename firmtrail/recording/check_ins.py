"""Records one commit of check-ins: each device is decided on again, as nothing can come in between
here, and its offer is recorded if it is a new one.

An offer is recorded once for each device, target, cause and attempt, so a device that asks again
writes nothing. A crash loses nothing: a device that asks again is decided on again.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.database.database import Script
from firmtrail.events.steering import UpdateOffered
from firmtrail.projections import device_history
from firmtrail.projections.check_in import with_way_back
from firmtrail.projections.device_history import Runs
from firmtrail.recording.commit import Committed, Draft, LogContext, opened
from firmtrail.rules import offer, target
from firmtrail.rules.device import Refused
from firmtrail.rules.target import Decision, Situation


class CheckIn(NamedTuple):
    """A device asks what it should run; `running` is the version that it says it runs, if any."""

    device: str
    actor: str
    running: str | None = None


def offering(
    log_id: int, before: LogContext, batch: Sequence[CheckIn]
) -> Script[tuple[Committed, list[Decision | Refused]]]:
    """Plays the commit from the head's lock on; returns each decision too."""
    paper = yield from opened(log_id, before)
    names = {each.device for each in batch}
    devices, *told = yield [paper.load_devices(names), *paper.load_told(names)]
    paper.take_devices(devices)
    paper.take_told(told)
    runs: Runs = {}
    if wanted := _ways_wanted(paper, batch):
        [rows] = yield [paper.load_runs(wanted)]
        runs = device_history.runs_of(wanted, rows)
    decisions = [_decide(paper, each, runs) for each in batch]
    yield paper.statements()
    return paper.committed, decisions


def _ways_wanted(paper: Draft, batch: Sequence[CheckIn]) -> list[tuple[str, str]]:
    """Returns each (device, bad version) whose previous version a rollback asks for."""
    cases = (_case(paper, each) for each in batch)
    return list({way: None for case in cases if case and (way := target.way_wanted(case))})


def _case(paper: Draft, check_in: CheckIn) -> Situation | None:
    steering, state = paper.fold.steering, paper.fold.states.get(check_in.device)
    if state is None or state.decommissioned:
        return None
    offers = list(steering.offers.get(check_in.device, {}).values())
    return target.case_of(paper.control, state, offers, check_in.running)


def _decide(paper: Draft, check_in: CheckIn, runs: Runs) -> Decision | Refused:
    case = _case(paper, check_in)
    if case is None:
        return Refused("unknown_device", f"there is no device {check_in.device}", status=404)
    case = with_way_back(case, runs)
    decision = target.decide(case)
    if (version := decision.version) is None or offer.is_made(
        case.offers, decision.source, version
    ):
        return decision
    recorded = paper.fold.states[check_in.device].version
    made = UpdateOffered(
        version,
        target.cause_of(decision),
        offer.attempts(case.offers, version) + 1,
        decision.rollout,
        None if case.version == recorded else case.version,
    )
    paper.record(f"device/{check_in.device}", made, actor=check_in.actor)
    return decision
