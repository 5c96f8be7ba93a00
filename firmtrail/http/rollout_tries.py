"""Describes a rollout as it would be, and asks for the approvals that a project demands of it."""

import msgspec

from firmtrail.events.event import Recorded
from firmtrail.events.steering import RollbackStarted, RolloutStarted
from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import consistent_read
from firmtrail.projections import rollout_devices
from firmtrail.rules import control, rollout
from firmtrail.rules.control import Control
from firmtrail.rules.rollout import PlanTime


def plan_time(call: AnyCall, control: Control) -> PlanTime:
    """Returns the present time, for what a plan says."""
    return PlanTime(call.services.access.now_ms(), control.halts)


def unstarted(call: AnyCall, wanted: RolloutStarted | RollbackStarted) -> rollout.RolloutState:
    """Returns the rollout as it would be, without an id."""
    now_ms = call.services.access.now_ms()
    return rollout.started(Recorded(0, now_ms, rollout.stream(""), "", "", wanted))


async def with_approvals(call: AnyCall, wanted: RolloutStarted) -> RolloutStarted:
    """Returns the rollout with the number of approvals that the project asks for, if it asks for
    any. The devices are counted before the log's head is locked."""
    async with consistent_read(call) as now:
        settings = now.control.settings
        if not settings.approvals:
            return wanted
        matching = 0
        if settings.approve_from_devices:
            tried = unstarted(call, control.decide_rollout(now.control, wanted))
            matching = await rollout_devices.matching(now.reader, call.log_id, tried)
    if matching < settings.approve_from_devices:
        return wanted
    return msgspec.structs.replace(
        wanted, approvals=settings.approvals, started_by=call.caller.actor_id
    )
