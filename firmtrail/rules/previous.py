"""Which version can a device go back to? The previous good one, out of what it ran before."""

from collections.abc import Iterable
from typing import NamedTuple

from firmtrail.rules.control import Control
from firmtrail.rules.offer import Offers
from firmtrail.rules.release import ReleaseKey


class PastRun(NamedTuple):
    """A version that a device ran before its first run of a bad one."""

    version: str
    has_failed: bool
    """It reported a failure at it since it last ran it."""


def previous(control: Control, model: str, runs: Iterable[PastRun], offers: Offers) -> str | None:
    """The version of the latest run, by the device's order, that is good; `runs` newest first.

    Good is a release of its model that is not withdrawn and that it did not fail on.
    """
    for run in runs:
        found = control.releases.get(ReleaseKey(model, run.version))
        if found is None or found.is_withdrawn or run.has_failed:
            continue
        if not any(each.version == run.version and each.has_failed for each in offers):
            return run.version
    return None
