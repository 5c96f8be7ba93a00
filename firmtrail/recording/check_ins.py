"""Records one commit of check-ins. It decides again on each device, as nothing can come in between
while the head is locked, and records the offer if it is new.

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
from firmtrail.recording.commit import Committed, Draft, LogContext, begin_draft, loaded
from firmtrail.rules import device, offer, target
from firmtrail.rules.artifact import NATIVE, Protocol
from firmtrail.rules.device import Refused
from firmtrail.rules.situation import Decision, Situation, with_running


class CheckIn(NamedTuple):
    """Holds the question of a device what it should run. `running` is the version that the device
    claims to run, if any; `protocol` is the one that it asks in."""

    device: str
    actor: str
    running: str | None = None
    timezone: str | None = None
    """The time zone that the device says it is in."""
    protocol: Protocol = NATIVE


def record_check_ins(
    log_id: int, context: LogContext, batch: Sequence[CheckIn]
) -> Script[tuple[Committed, list[Decision | Refused]]]:
    """Plays the commit, beginning with the lock of the head; returns each decision too."""
    draft = yield from begin_draft(log_id, context)
    yield from loaded(draft.load_devices({each.device for each in batch}))
    runs: Runs = {}
    if wanted := _wanted_runs(draft, batch):
        [rows] = yield [draft.load_runs(wanted)]
        runs = device_history.runs_of(wanted, rows)
    decisions = [_decide(draft, each, runs) for each in batch]
    yield draft.statements()
    return draft.committed, decisions


def _wanted_runs(draft: Draft, batch: Sequence[CheckIn]) -> list[tuple[str, str]]:
    """Returns each (device, bad version) for which a rollback needs the version before."""
    situations = [found for each in batch if (found := _situation(draft, each))]
    wanted = (target.runs_wanted(each) for each in situations)
    return list(dict.fromkeys(each for each in wanted if each is not None))


def _situation(draft: Draft, check_in: CheckIn) -> Situation | None:
    """Returns the situation of the device; None if it is unknown or decommissioned."""
    steering, state = draft.fold.steering, draft.fold.states.get(check_in.device)
    if state is None or state.decommissioned:
        return None
    offers = offer.of_model(steering.offers.get(check_in.device, {}).values(), state.model)
    device = with_running(state, check_in.running)
    timezone, protocol = check_in.timezone, check_in.protocol
    return Situation(draft.control, device, offers, draft.now_ms, timezone, protocol=protocol)


def _decide(draft: Draft, check_in: CheckIn, runs: Runs) -> Decision | Refused:
    situation = _situation(draft, check_in)
    if situation is None:
        return device.unknown_device(check_in.device)
    situation = with_way_back(situation, runs)
    decision = target.decide(situation)
    if (version := decision.version) is None or offer.is_made(
        situation.offers, decision.source, version
    ):
        return decision
    recorded = draft.fold.states[check_in.device].version
    made = UpdateOffered(
        version,
        target.cause_of(decision),
        offer.attempts(situation.offers, version) + 1,
        decision.rollout,
        None if situation.version == recorded else situation.version,
    )
    draft.record(f"device/{check_in.device}", made, actor=check_in.actor)
    return decision
