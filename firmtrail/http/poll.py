"""When should a device call again? A header of every answer to a check-in, also of a refusal."""

import random

from firmtrail.http.call import AnyCall
from firmtrail.rules.settings import INITIAL

POLL_AFTER = "Firmtrail-Poll-After"
JITTER = 0.2
"""Devices that were switched on together spread out over so much of the interval either way."""


def poll_after(call: AnyCall) -> str:
    """Seconds until the device should call again: the project's interval, as far as it is known."""
    known = call.services.recorder.controls.known(call.log_id)
    interval_s = (known.settings if known else INITIAL).poll_after_s
    spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (it spreads load, no secret)
    return str(max(1, round(interval_s * spread)))
