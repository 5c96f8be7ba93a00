"""What is a line of a device's history, beside the ones before it? Pure."""

from typing import Literal, NamedTuple

from firmtrail.rules import version

type Ordered = Literal["rollback", "offered"]
"""Which offer a report's version follows: a rollback's, or another."""
type ChangeKind = Literal["first", "rollback", "revert", "upgrade", "downgrade", "build"]


class Intent(NamedTuple):
    """What was wished of a device when it reported: its pin, and whether an open offer ordered the
    version that it reported."""

    pinned: str | None = None
    ordered: Ordered | None = None


def change_of(
    current: str, previous: str | None, before_previous: str | None, wish: Intent
) -> ChangeKind:
    """What an entry of the history is, beside the runs before it.

    A revert is the device's own way back to the version before its predecessor; a lower version
    that it is pinned to, or was offered otherwise than by a rollback, is a downgrade.
    """
    if previous is None:
        return "first"
    order = version.order(current, previous)
    if order < 0 and wish.ordered == "rollback":
        return "rollback"
    is_own = wish.ordered is None and current != wish.pinned
    if order < 0 and current == before_previous and is_own:
        return "revert"
    if order == 0:
        return "build"
    return "upgrade" if order > 0 else "downgrade"
