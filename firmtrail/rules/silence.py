"""The rule of silence: a device that was offered a version and does not call any more.

A rollout that says how long it waits counts such a device as failed, once for each offer. What is
known of a device's last call lags, as servers write it in batches: that much longer is waited.
"""

from firmtrail.events.steering import DeviceFellSilent
from firmtrail.events.times import time_text
from firmtrail.rules import offer, rollout
from firmtrail.rules.device import DeviceState
from firmtrail.rules.offer import Offers
from firmtrail.rules.rollout import RolloutState

LAG_MS = 60_000
"""How much later than a call its time is known on every server, at most."""


def last_call_ms(offered_at_ms: int, recorded_at_ms: int | None, seen_at_ms: int | None) -> int:
    """Returns when a device called last: it called when it was offered something, and reported."""
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
    """Returns the device's silence, if it counts: the rollout's offer is what the device learned
    last, and waits for its outcome."""
    made = offer.latest(offers)
    if made is None or made.source != of.id or not made.is_pending:
        return None
    called_at_ms = last_call_ms(made.offered_at_ms, device.recorded_at_ms, seen_at_ms)
    if not rollout.counts(of, device) or not is_over(of, called_at_ms, now_ms):
        return None
    return DeviceFellSilent(made.version, of.id, time_text(called_at_ms))
