"""Decides when a device that was offered a version counts as silent.

A rollout with a limit counts a device that no longer calls as failed, once for each offer. Servers
write the times of calls in batches, so the rule waits `LAG_MS` longer than the limit.
"""

from firmtrail.events.steering import DeviceFellSilent
from firmtrail.events.times import time_text
from firmtrail.rules import offer, rollout
from firmtrail.rules.device import DeviceState
from firmtrail.rules.offer import Offers
from firmtrail.rules.rollout import RolloutState

LAG_MS = 60_000
"""The time after a call at which every server knows of it, at the latest."""


def last_call_ms(offered_at_ms: int, recorded_at_ms: int | None, seen_at_ms: int | None) -> int:
    """Returns the time of a device's last known call. Getting an offer and reporting are calls."""
    return max(offered_at_ms, recorded_at_ms or 0, seen_at_ms or 0)


def is_over(of: RolloutState, called_at_ms: int, now_ms: int) -> bool:
    """Returns whether a device whose last known call was at this time has been silent for too
    long."""
    if of.silent_after_s is None or of.phase == "aborted":
        return False
    return now_ms - called_at_ms > of.silent_after_s * 1000 + LAG_MS


def decide_silence(
    of: RolloutState, device: DeviceState, offers: Offers, *, seen_at_ms: int | None, now_ms: int
) -> DeviceFellSilent | None:
    """Returns the event of the device's silence, if it counts: the last offer that the device got
    is the rollout's, and waits for its outcome."""
    made = offer.latest(offers)
    if made is None or made.source != of.id or not made.is_pending:
        return None
    called_at_ms = last_call_ms(made.offered_at_ms, device.recorded_at_ms, seen_at_ms)
    if not rollout.counts(of, device) or not is_over(of, called_at_ms, now_ms):
        return None
    return DeviceFellSilent(made.version, of.id, time_text(called_at_ms))
