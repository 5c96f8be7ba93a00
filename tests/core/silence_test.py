"""Silence: when a device that was offered a version, and no longer calls, counts as failed."""

from typing import Any

import pytest
from msgspec.structs import replace

from firmtrail.events.steering import DeviceFellSilent
from firmtrail.events.times import time_text
from firmtrail.rules import offer
from firmtrail.rules.device import DeviceState
from firmtrail.rules.offer import Offer
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.silence import LAG_MS, decide_silence, is_over, last_call_ms

OFFERED_MS = 1_000_000
LIMIT_MS = 60_000
OVER_MS = OFFERED_MS + LIMIT_MS + LAG_MS + 1

DEVICE = DeviceState("d1", "m")
ROLLOUT = RolloutState(
    id="r1",
    model="m",
    version="1.0.0",
    reach=10_000,
    position=1,
    started_at_ms=0,
    phase_position=1,
    phase_at_ms=0,
    resumed_position=1,
    silent_after_s=LIMIT_MS // 1000,
)
OFFER = Offer("d1", "r1", "1.0.0", "rollout", 5, OFFERED_MS, attempt=1, attempts=0, model="m")


def decided(
    rollout: RolloutState = ROLLOUT,
    device: DeviceState = DEVICE,
    made: Offer = OFFER,
    **given: Any,
) -> DeviceFellSilent | None:
    return decide_silence(
        rollout, device, [made], **{"seen_at_ms": None, "now_ms": OVER_MS} | given
    )


def test_a_device_falls_silent_after_the_limit_and_the_lag_of_the_servers() -> None:
    assert decided(now_ms=OVER_MS - 1) is None
    assert decided() == DeviceFellSilent("1.0.0", "r1", time_text(OFFERED_MS))


@pytest.mark.parametrize("call", ["report", "check-in"])
def test_every_call_begins_the_time_again(call: str) -> None:
    at_ms = OFFERED_MS + 10_000
    device = replace(DEVICE, recorded_at_ms=at_ms) if call == "report" else DEVICE
    seen_at_ms = at_ms if call == "check-in" else None
    assert decided(device=device, seen_at_ms=seen_at_ms) is None
    later = decided(device=device, seen_at_ms=seen_at_ms, now_ms=OVER_MS + 10_000)
    assert later == DeviceFellSilent("1.0.0", "r1", time_text(at_ms))


@pytest.mark.parametrize(
    "changed",
    [
        {"rollout": replace(ROLLOUT, silent_after_s=None)},
        {"rollout": replace(ROLLOUT, phase="aborted")},
        {"made": replace(OFFER, source="r2")},
        {"made": replace(OFFER, outcome="failed", outcome_position=6)},
        {"device": replace(DEVICE, decommissioned=True)},
        {"device": replace(DEVICE, model="n")},
    ],
    ids=["no limit", "aborted", "another's offer", "an outcome", "decommissioned", "another model"],
)
def test_silence_counts_for_no_other_device(changed: dict[str, Any]) -> None:
    assert decided(**changed) is None


def test_a_device_without_an_offer_is_not_silent() -> None:
    assert decide_silence(ROLLOUT, DEVICE, [], seen_at_ms=None, now_ms=OVER_MS) is None


def test_a_paused_rollout_still_counts_silence() -> None:
    assert is_over(replace(ROLLOUT, phase="paused"), OFFERED_MS, OVER_MS)


def test_the_last_call_is_the_latest_of_all() -> None:
    assert last_call_ms(3, None, None) == 3
    assert last_call_ms(3, 5, 4) == 5
    assert last_call_ms(3, 4, 5) == 5


def test_silence_is_an_outcome_and_no_attempt() -> None:
    other = replace(OFFER, source="r2")
    event = DeviceFellSilent("1.0.0", "r1", time_text(OFFERED_MS))
    [silent] = offer.silenced([OFFER, other], event, 9)
    assert (silent.is_silent, silent.is_pending, silent.attempts) == (True, False, 0)
    assert (silent.outcome, silent.outcome_position) == ("failed", 9)
