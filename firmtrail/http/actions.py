"""Shows a device its action, and takes its word about one, for protocols whose clients confirm each
update by an id.

An action is an offer; its id is the offer's number. `rules/action.py` says which action a device is
shown. `current` answers a poll: it records an offer as a check-in does, and nothing else unless an
action has to end. `find` finds the action that a device names, without a decision: its word counts
whatever is decided. `now` decides, for those that depend on it. The other functions record what the
device says of it, each under a report_id that the protocol and the action give, so that a repeated
word is recorded once.
"""

from typing import Literal, NamedTuple

from msgspec import Struct

from firmtrail.commands import actions
from firmtrail.events.fleet import Status
from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import (
    RECORDED_KINDS,
    DecidedDevice,
    KnownDevice,
    decide,
    known_device,
    look_at,
    recorded,
)
from firmtrail.http.errors import Gone, NotFound
from firmtrail.http.scalars import cut
from firmtrail.rules import action, offer
from firmtrail.rules.artifact import Protocol
from firmtrail.rules.device import Refused
from firmtrail.rules.offer import Offer
from firmtrail.rules.report import ReportCommand

ORDINAL_DIGITS_MAX = 9
"""Each number of that many digits fits into an int32, which clients read."""


class Current(Struct, frozen=True, gc=False):
    """Holds a device as it is, and the action that it is shown, if any."""

    decided: DecidedDevice
    action: Offer | None = None
    is_cancelling: bool = False
    """Whether the device should give the action up."""

    def shows(self, ordinal: int) -> bool:
        """Returns whether the device is shown this action to install it."""
        return not self.is_cancelling and self._names(ordinal)

    def cancels(self, ordinal: int) -> bool:
        """Returns whether the device is shown this action to give it up."""
        return self.is_cancelling and self._names(ordinal)

    def _names(self, ordinal: int) -> bool:
        return self.action is not None and self.action.ordinal == ordinal


class ActionReport(NamedTuple):
    """Holds what a device says of an action."""

    status: Status
    detail: str | None = None


class NamedAction(Struct, frozen=True, gc=False):
    """Holds an action that the device names by its id."""

    protocol: Protocol
    """Begins the report_id of what the device says of it."""
    known: KnownDevice
    offer: Offer
    ordinal: int

    @property
    def is_latest(self) -> bool:
        """Returns whether the offer was not made again since."""
        return self.offer.ordinal == self.ordinal

    @property
    def is_over(self) -> bool:
        return self.offer.is_over or not self.is_latest

    def ended_as(self, outcome: Literal["installed", "failed"]) -> bool:
        """Returns whether it is over with this outcome."""
        has_outcome = self.offer.outcome_position > self.offer.position
        return self.is_latest and has_outcome and self.offer.outcome == outcome


async def current(call: AnyCall, running: str | None, protocol: Protocol) -> Current:
    """Returns what the device of the path is shown. A new offer is recorded first; so is the end of
    an action that the device gave up without a word."""
    return await settled(call, await shown(call, running, protocol), running)


async def settled(call: AnyCall, now: Current, running: str | None) -> Current:
    """Returns what the device is shown, once what `now` makes necessary is recorded: an offer, or
    the end of an action."""
    protocol = now.decided.case.protocol
    if now.action is not None and _is_given_up(call, now):
        await _end(call, now.action, "cancelled")
        now = await shown(call, running, protocol)
    if now.action is not None or now.decided.decision.version is None:
        return now
    return _as_shown(await recorded(call, now.decided, running))


async def shown(call: AnyCall, running: str | None, protocol: Protocol) -> Current:
    """Returns what the device of the path is shown, without recording anything."""
    return _as_shown(await look_at(call, running, protocol=protocol))


async def now(call: AnyCall, named: NamedAction) -> Current:
    """Returns what the device that names an action is shown."""
    return _as_shown(await decide(call, named.known, protocol=named.protocol))


def _as_shown(decided: DecidedDevice) -> Current:
    found = action.shown(decided.case, decided.decision)
    return Current(decided) if found is None else Current(decided, *found)


def _is_given_up(call: AnyCall, now: Current) -> bool:
    is_asked = call.caller.kind in RECORDED_KINDS and call.request.method != "HEAD"
    if now.action is None or not is_asked:
        return False
    seen = now.decided.seen.last_seen_at_ms
    at_work = action.ShownOffer(now.action, now.is_cancelling)
    return action.is_given_up(at_work, now.decided.state, seen, call.services.access.now_ms())


async def find(call: AnyCall, protocol: Protocol, ordinal: str) -> NamedAction:
    """Returns the action with this id. Raises `NotFound` if the device was never offered it."""
    known = await known_device(call)
    named = offer.numbered(known.seen.offers, int(ordinal)) if _is_ordinal(ordinal) else None
    if named is None:
        raise NotFound(f"Device {known.state.device} has no action with this id.")
    return NamedAction(protocol, known, named, int(ordinal))


async def is_taken(call: AnyCall, protocol: Protocol, ordinal: str, said: ActionReport) -> bool:
    """Records what the device says of the action that it is at work on, without reading the device
    first. Returns False, and records nothing, if it is at work on no such action."""
    if not _is_ordinal(ordinal):
        return False
    report = ReportCommand(
        call.path("device"),
        "",
        said.status,
        call.caller.actor,
        report_id=_report_id(protocol, int(ordinal), said.status),
        detail=cut(said.detail) if said.detail else None,
        offer=int(ordinal),
        awaits_version=said.status == "installed",
    )
    try:
        await call.services.recorder.report_one(call.log_id, report)
    except Refused as refused:
        if refused.code != action.NOT_AT_WORK:
            raise
        return False
    return True


def _is_ordinal(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= ORDINAL_DIGITS_MAX


def _report_id(protocol: Protocol, ordinal: int, status: Status) -> str:
    return f"{protocol}-{ordinal}-{status}"


async def progressed(
    call: AnyCall, named: NamedAction, status: Status, detail: str | None = None
) -> None:
    """Records a step on the way. Raises `Gone` if the action is over."""
    if named.is_over:
        raise _over(named)
    await _report(call, named, status, detail)


async def installed(call: AnyCall, named: NamedAction, detail: str | None = None) -> None:
    """Records that the version runs. It is the action's outcome; if the action is over with another
    one, only the running version is recorded. So a device is never refused its success."""
    status: Status = "running"
    if not named.is_over or named.ended_as("installed"):
        status = "installed"
    await _report(call, named, status, detail)


async def confirmed(call: AnyCall, named: NamedAction, detail: str | None = None) -> None:
    """Records that the device is done with the action, where the outcome follows with the version
    that it runs next. One that is over stays as it is."""
    if named.is_over:
        return
    await _report(call, named, "rebooting", detail)
    await _end(call, named.offer, "confirmed")


async def failed(
    call: AnyCall,
    named: NamedAction,
    status: Literal["failed", "rejected"],
    detail: str | None = None,
) -> None:
    """Records that the device did not get to the version. Raises `Gone` if the action is over and
    did not fail."""
    if not named.is_latest:
        return
    if named.is_over and not named.ended_as("failed"):
        raise _over(named)
    if not named.is_over:
        await _report(call, named, status, detail)


async def cancelled(call: AnyCall, named: NamedAction) -> None:
    """Records that the device gave the action up; one that is over stays as it is."""
    if not named.is_over:
        await _end(call, named.offer, "cancelled")


def _over(named: NamedAction) -> Gone:
    return Gone(f"Action {named.ordinal} is over.", code="action_over")


async def _end(call: AnyCall, of: Offer, ending: Literal["cancelled", "confirmed"]) -> None:
    command = actions.end(of.device, of.ordinal, ending, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, command)


async def _report(call: AnyCall, named: NamedAction, status: Status, detail: str | None) -> None:
    of = named.offer
    report = ReportCommand(
        of.device,
        of.version,
        status,
        call.caller.actor,
        report_id=_report_id(named.protocol, named.ordinal, status),
        rollout=offer.rollout_of(of),
        detail=cut(detail) if detail else None,
    )
    await call.services.recorder.report_one(call.log_id, report)
