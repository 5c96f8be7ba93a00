"""Finds the version that a device can go back to: the last good one that it ran before.

`projections/rollout_devices.py` has the same rule as SQL (`_RETURNS`), to count all devices of a
recall: change both.
"""

from collections.abc import Iterable
from typing import NamedTuple

from firmtrail.rules.control import Control
from firmtrail.rules.offer import Offers
from firmtrail.rules.release import ReleaseKey


class PastRun(NamedTuple):
    """Holds a version that a device ran before it first ran a bad one."""

    version: str
    has_failed: bool
    """Whether the device has failed to install this version since it last ran it."""


def previous(control: Control, model: str, runs: Iterable[PastRun], offers: Offers) -> str | None:
    """Returns the version of the last good run; `runs` are in the device's order, the latest first.
    A good version is a release of the model, not withdrawn, that the device has not failed at."""
    for run in runs:
        found = control.releases.get(ReleaseKey(model, run.version))
        if found is None or found.is_withdrawn or run.has_failed:
            continue
        if not any(each.version == run.version and each.has_failed for each in offers):
            return run.version
    return None
