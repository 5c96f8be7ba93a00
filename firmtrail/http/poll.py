"""Sets the header that asks a device to call again later, on every answer to a check-in.

A refusal carries the header too.
"""

import random

from multidict import istr

from firmtrail.http.call import AnyCall
from firmtrail.rules.settings import INITIAL

POLL_AFTER: str = istr("Firmtrail-Poll-After")
JITTER = 0.2
"""Spreads calls by this fraction of the interval in either direction, so that devices that were
switched on together do not keep calling together."""


def poll_after(call: AnyCall) -> str:
    """Returns the seconds until the device should call again. It uses the project's interval if
    this process has it in memory, and otherwise the initial one."""
    known = call.services.recorder.controls.known(call.log_id)
    interval_s = (known.settings if known else INITIAL).poll_after_s
    return str(jittered_s(interval_s))


def jittered_s(interval_s: int) -> int:
    """Returns the interval, a little longer or shorter each time."""
    spread = 1 + JITTER * (2 * random.random() - 1)  # noqa: S311 (it spreads load and is no secret)
    return max(1, round(interval_s * spread))
