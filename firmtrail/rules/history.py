"""Classifies the lines of a device's history: upgrade, downgrade, revert, … Pure."""

from typing import Literal

from msgspec import Struct

from firmtrail.rules import version

type Ordered = Literal["rollback", "offered"]
"""The kind of offer that a report's version follows: a rollback's, or another."""
type ChangeKind = Literal["first", "rollback", "revert", "upgrade", "downgrade", "build"]


class Intent(Struct, frozen=True, gc=False):
    """Holds what we wanted of a device when it reported: its pin, and whether an open offer ordered
    the version that it reported."""

    pinned: str | None = None
    ordered: Ordered | None = None


def change_of(
    current: str, previous: str | None, before_previous: str | None, intent: Intent
) -> ChangeKind:
    """Returns how the current version follows the previous one, and the one before that.

    A revert is the device's own return to the version before the previous one. A lower version that
    the device is pinned to, or was offered by anything but a rollback, is a downgrade.
    """
    if previous is None:
        return "first"
    order = version.order(current, previous)
    if order < 0 and intent.ordered == "rollback":
        return "rollback"
    is_own = intent.ordered is None and current != intent.pinned
    if order < 0 and current == before_previous and is_own:
        return "revert"
    if order == 0:
        return "build"
    return "upgrade" if order > 0 else "downgrade"
