"""Decides what a device is shown whose client confirms each update by an id. Pure.

The id of such an action is the number of the offer. An action is open until the device closes it,
or it ends in another way. It is sticky once the device installs it: then it stays visible whatever
is decided, so that the outcome is not lost. Before that, an open action that is no longer decided
is shown as one to cancel. A device that does not answer for a day gave its action up.
"""

from typing import NamedTuple

from msgspec.structs import replace

from firmtrail.events.times import DAY_MS
from firmtrail.rules import offer
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState, Refused
from firmtrail.rules.offer import Offer, Offers
from firmtrail.rules.report import ReportCommand
from firmtrail.rules.silence import last_call_ms
from firmtrail.rules.situation import Decision, Situation

GIVEN_UP_MS = DAY_MS
"""The time after which a device that installs, or should cancel, no longer counts as at work."""


NOT_AT_WORK = "action_over"
"""The code of a report that is about no offer that the device is at work on."""


class ShownOffer(NamedTuple):
    """Holds an offer as an action of its device."""

    offer: Offer
    is_cancelling: bool
    """Whether the device should give it up."""


def is_sticky(of: Offer) -> bool:
    """Returns whether the device installs the version, and has not said how that ended."""
    return of.installing_place >= 0 and not of.is_over


def open_offer(offers: Offers) -> Offer | None:
    """Returns the offer that the device may be at work on, if there is one; `offers` are of its
    model. A newer offer replaces one that the device does not install."""
    if sticky := [each for each in offers if is_sticky(each)]:
        return offer.latest(sticky)
    newest = offer.latest(offers)
    return None if newest is None or newest.is_over else newest


def shown(case: Situation, decision: Decision) -> ShownOffer | None:
    """Returns the action that the device is shown; None if there is none, or if the decision leads
    to an offer that is not made yet."""
    offers = case.offers
    at_work = open_offer(offers)
    if at_work is not None:
        is_wanted = at_work.key == _wanted(case, decision)
        return ShownOffer(at_work, not (is_sticky(at_work) or is_wanted))
    if decision.version is None:
        return None
    made = offer.made(offers, decision.source, decision.version)
    return None if made is None or made.is_over else ShownOffer(made, is_cancelling=False)


def _wanted(case: Situation, decision: Decision) -> tuple[str, str] | None:
    """Returns the key that an offer of the decision has."""
    if decision.version is None:
        return None
    has_model = decision.reason in {"rollout", "rollback"}
    source = decision.source if has_model else f"{decision.source}/{case.device.model or ''}"
    return source, decision.version


def is_given_up(
    action: ShownOffer, device: DeviceState, seen_at_ms: int | None, now_ms: int
) -> bool:
    """Returns whether the device gave up the action without a word: it installs and did not call
    for a day, or it should cancel and reported nothing for a day."""
    made = action.offer
    if not (action.is_cancelling or is_sticky(made)):
        return False
    seen = None if action.is_cancelling else seen_at_ms
    return now_ms - last_call_ms(made.offered_at_ms, device.recorded_at_ms, seen) > GIVEN_UP_MS


def of_offer(report: ReportCommand, offers: Offers, control: Control) -> ReportCommand:
    """Returns the report with the version and the rollout of the offer that it names; `offers` are
    those of its device. Raises `Refused` with `NOT_AT_WORK` if there is no such offer, if the
    device is done with it, or if it was made again since: then the status alone does not say what
    to record. Raises it too for an install in a project that waits for the version that the device
    then runs."""
    named = offer.numbered(offers, report.offer or 0)
    is_at_work = named is not None and named.ordinal == report.offer and not named.is_over
    waits = report.awaits_version and control.settings.version_attribute is not None
    if named is None or not is_at_work or waits:
        detail = f"Device {report.device} is not at work on offer {report.offer}."
        raise Refused(NOT_AT_WORK, detail)
    rollout = offer.rollout_of(named)
    return replace(report, version=named.version, rollout=rollout)
