"""Finds the rollout that a request names, and says how far a rollout is at this moment."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from firmtrail.database.database import Reader
from firmtrail.events.entry import decode
from firmtrail.events.event import Recorded
from firmtrail.eventstore import short_streams
from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import ConsistentRead
from firmtrail.http.errors import NotFound
from firmtrail.projections import device_offers, rollout_devices, rollouts
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules import outlook, phases, reaching
from firmtrail.rules.control import Control
from firmtrail.rules.device import Refused
from firmtrail.rules.outlook import Counted
from firmtrail.rules.phases import RolloutPast
from firmtrail.rules.reaching import Reaching
from firmtrail.rules.rollout import BUCKETS, RolloutState, reach_at, stream
from firmtrail.rules.situation import Situation


class CommandMaker(Protocol):
    """Makes a command on one rollout."""

    def __call__(
        self, name: str, *, reason: str | None, actor: str
    ) -> LogCommand[RolloutState]: ...


class Shown(NamedTuple):
    """Holds a rollout as a list shows it."""

    rollout: RolloutState
    phase: str
    reach: int
    offered: dict[str, int]
    bad: int | None = None
    """How many devices run the bad version of a recall that is not aborted; None for other
    rollouts."""
    opens_at_ms: int | None = None
    """When the window opens that it waits for now; None if it waits for none."""


def name_of(found: RolloutState) -> str:
    """Returns the name of a rollout or recall in a sentence, after "the"."""
    if found.is_rollback:
        return f"recall of {found.bad_version} from {found.model}"
    return f"rollout of {found.version} to {found.model}"


def rollout_of(call: AnyCall, control: Control) -> RolloutState:
    """Returns the rollout that the path names. Raises `NotFound`."""
    found = control.rollouts.get(call.path("id"))
    if found is None:
        raise NotFound(f"There is no rollout {call.path('id')}.")
    return found


def person_of(call: AnyCall) -> str:
    """Returns the person that calls. Raises `Refused` on the local socket, where nobody signed in:
    an approval is the word of a member."""
    if call.caller.kind != "user" or call.caller.actor_id is None:
        detail = "Only a member approves or rejects a rollout, with a credential of their own."
        raise Refused("needs_member", detail, status=403)
    return call.caller.actor_id


def phase_of(call: AnyCall, control: Control, found: RolloutState) -> str:
    """Returns the present state of a rollout, as the API names it."""
    return phases.state_in(control, found, call.services.access.now_ms())


def under_way(call: AnyCall, control: Control) -> Iterable[RolloutState]:
    """Yields the rollouts that are not over: those that run, are paused, or wait to begin."""
    for each in control.rollouts.values():
        if phase_of(call, control, each) not in {"aborted", "withdrawn"}:
            yield each


def reach_of(call: AnyCall, control: Control, found: RolloutState) -> int:
    """Returns how many of the 10 000 buckets a rollout reaches now, or reached when it ended."""
    return reach_at(found, outlook.last_time(control, found, call.services.access.now_ms()))


def opens_at_ms(call: AnyCall, control: Control, found: RolloutState) -> int | None:
    """Returns when the window opens that a rollout waits for now; None if it waits for none."""
    if phase_of(call, control, found) != "running":
        return None
    return outlook.opens_at_ms(control, found, call.services.access.now_ms())


def past_of(
    control: Control, found: RolloutState, events: Iterable[Recorded], now_ms: int
) -> RolloutPast:
    """Returns a rollout with the times of its phases, from its events up to this time: as it is
    then, or as it was when it ended."""
    at = outlook.last_time(control, found, now_ms)
    return phases.past((each for each in events if each.recorded_at_ms <= at.now_ms), at)


async def counted_of(
    now: ConsistentRead,
    log_id: int,
    found: RolloutState,
    *,
    matching: int,
    offered: int = 0,
    installed: int = 0,
    exhausted: int = 0,
) -> Counted:
    """Returns what the forecast of a rollout counts, given how many devices were offered the
    version, installed it and used up their attempts. A plan whose phases wait for no outcomes
    depends on none of this, so nothing is read."""
    if all(each.installed_percent is None for each in found.plan):
        return Counted(matching)
    recent = await rollouts.recent_of(now.reader, log_id, found.id)
    there = await rollout_devices.there(now.reader, log_id, found)
    return Counted(matching, installed + exhausted, recent, there, offered)


def grows(call: AnyCall, control: Control, found: RolloutState) -> bool:
    """Returns whether a person may let the rollout reach more devices: the next phase of its plan
    begins, or without a plan a higher percentage is given."""
    if phase_of(call, control, found) not in {"running", "paused", "scheduled"}:
        return False
    most = found.plan[-1].reach if found.plan else BUCKETS
    return reach_of(call, control, found) < most


def may_approve(call: AnyCall, found: RolloutState) -> bool:
    """Returns whether the caller's approval counts: that of a member who neither started the
    rollout nor changed its plan, and has not approved it."""
    person = call.caller.actor_id if call.caller.kind == "user" else None
    own = {found.started_by, found.changed_by}
    return person is not None and person not in {*own, *found.approved_by}


async def events_of(reader: Reader, call: AnyCall, found: RolloutState) -> list[Recorded]:
    """Returns the events of a rollout: those of its start and of commands on it, which are few."""
    rows = await short_streams.read(reader, call.log_id, stream(found.id))
    return [decode(position, text) for position, _, text in rows]


class ReachingRollout(NamedTuple):
    """Holds a rollout with a plan, and which phase of it reaches a device."""

    rollout: RolloutState
    reaching: Reaching


async def reaching_rollout(call: AnyCall, case: Situation, size: int) -> ReachingRollout | None:
    """Returns the newest rollout with a plan that is to bring a device to a higher version, as the
    first `size` events have it."""
    found = reaching.planned(case)
    if found is None:
        return None
    events = [each for each in await events_of(call.db, call, found) if each.position < size]
    times = phases.past(events, case.at).times
    of_device = reaching.reaching(found, case.device.device, case.at, times)
    return ReachingRollout(found, of_device)


async def shown(call: AnyCall, now: ConsistentRead, found: RolloutState) -> Shown:
    """Returns a rollout as it is now, with the counts of its offers."""
    max_attempts = now.control.settings.max_attempts
    _, offered = await device_offers.counts(now.reader, call.log_id, found.id, max_attempts)
    phase, reach = phase_of(call, now.control, found), reach_of(call, now.control, found)
    bad, opening = await _bad(call, now, found), opens_at_ms(call, now.control, found)
    return Shown(found, phase, reach, dict(offered), bad, opening)


async def _bad(call: AnyCall, now: ConsistentRead, found: RolloutState) -> int | None:
    if not found.is_rollback or found.phase == "aborted":
        return None
    return await rollout_devices.running_bad(now.reader, call.log_id, found)
