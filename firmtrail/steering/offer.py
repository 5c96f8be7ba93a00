"""The rules of offers: what a device was told to go to, and how each attempt at it ended.

An offer stands for a device, the source of the order (a rollout, a rollback, its pin,
follow_latest) and a version. Each time a new attempt is ordered, the offer is made again.

An attempt is over when the device reports `failed` or `rejected`, or, after `installing` or
`rebooting`, that another version runs. It counts once an offer. The device's next install of the
version, or a person's retry, sets the count back. Attempts belong to device and version: every
offer of that version has the same count. Outcomes follow the order of recording, but for a report
whose place is before that of the outcome: it came late and changes nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from firmtrail.change import Ordered
from firmtrail.device import MOVING, Placed
from firmtrail.events import Recorded, ReportEvent
from firmtrail.orders import AttemptsCleared, Cause, DeviceFellSilent, UpdateOffered

type Outcome = Literal["installed", "failed"]
type Offers = Sequence["Offer"]
"""All offers of one device."""


class Offer(msgspec.Struct, frozen=True, gc=False):
    """What a device was told, and how it went."""

    device: str
    source: str
    """The rollout's id, or the cause where there is none."""
    version: str
    cause: Cause
    position: int
    """The event that made it last."""
    offered_at_ms: int
    attempt: int
    """The one that it was made for last; 0 once the count was set back."""
    attempts: int
    """Of the device at this version, by whichever offer."""
    has_failed: bool = False
    """An attempt since the last install of the version; a retry does not change it."""
    is_counted: bool = False
    """Its attempt is over."""
    installing_place: int = -1
    """Of the report that the device is at it; -1: it is not."""
    outcome: Outcome | None = None
    outcome_position: int = -1
    outcome_place: int = -1
    silent_position: int | None = None
    """The event that the device fell silent after it."""

    @property
    def is_silent(self) -> bool:
        """Whether it counts as failed because the device fell silent."""
        return self.outcome == "failed" and self.outcome_position == self.silent_position

    @property
    def is_pending(self) -> bool:
        """Whether no outcome came since it was made last."""
        return self.outcome is None or self.outcome_position < self.position

    @property
    def key(self) -> tuple[str, str]:
        return self.source, self.version

    @property
    def is_open(self) -> bool:
        """Whether an install of the version still follows from it."""
        return self.outcome != "installed" or self.outcome_position < self.position


def source_of(event: UpdateOffered) -> str:
    return event.rollout or event.cause


def attempts(offers: Offers, version: str) -> int:
    """How many attempts of the device at this version count."""
    return next((offer.attempts for offer in offers if offer.version == version), 0)


def latest(offers: Iterable[Offer]) -> Offer | None:
    """The one made last."""
    return max(offers, key=lambda offer: offer.position, default=None)


def is_made(offers: Offers, source: str, version: str) -> bool:
    """Whether the device was told of this already, for the attempt that comes next."""
    attempt = attempts(offers, version) + 1
    return any(offer.key == (source, version) and offer.attempt == attempt for offer in offers)


def ordered(offers: Offers, version: str) -> Ordered | None:
    """Which open offer a report of this version follows, before it is folded."""
    causes = {offer.cause for offer in offers if offer.version == version and offer.is_open}
    if not causes:
        return None
    return "rollback" if "rollback" in causes else "offered"


def offered(offers: Offers, device: str, recorded: Recorded) -> list[Offer]:
    """The offers that an UpdateOffered changes: the one that it makes first."""
    event = recorded.event
    assert isinstance(event, UpdateOffered)
    others = [offer for offer in offers if offer.version == event.version]
    made = Offer(
        device,
        source_of(event),
        event.version,
        event.cause,
        recorded.position,
        recorded.recorded_at_ms,
        event.attempt,
        attempts(offers, event.version),
        any(offer.has_failed for offer in others),
        installing_place=max((offer.installing_place for offer in others), default=-1),
    )
    under_way = [  # what is under way counts for the offer made last
        replace(offer, installing_place=-1)
        for offer in others
        if offer.key != made.key and offer.installing_place >= 0
    ]
    return [_with_outcome_of(made, others), *under_way]


def _with_outcome_of(made: Offer, others: Offers) -> Offer:
    """The latest outcome stays until the next."""
    for before in others:
        if before.key == made.key:
            return replace(
                made,
                outcome=before.outcome,
                outcome_position=before.outcome_position,
                outcome_place=before.outcome_place,
                silent_position=before.silent_position,
            )
    return made


def silenced(offers: Offers, event: DeviceFellSilent, position: int) -> list[Offer]:
    """The offers that a device's silence changes. It is an outcome and no attempt: a report that
    comes later, of whatever place, says how it really went."""
    return [
        replace(each, outcome="failed", outcome_position=position, silent_position=position)
        for each in offers
        if each.key == (event.rollout, event.version)
    ]


def cleared(offers: Offers, event: AttemptsCleared) -> list[Offer]:
    """The offers that a retry changes."""
    return [
        replace(offer, attempt=0, attempts=0)
        for offer in offers
        if offer.version == event.version and (offer.attempt or offer.attempts)
    ]


def reported(offers: Offers, event: ReportEvent, at: Placed) -> list[Offer]:
    """The offers that a report changes."""
    same = [offer for offer in offers if offer.version == event.version]
    if event.status in MOVING:
        return [*_installed(same, at), *_left(offers, event.version, at)]
    newest = latest(same)
    if newest is None or at.place < newest.outcome_place:
        return []
    if event.status in {"failed", "rejected"}:
        return _failed(same, newest, at)
    if event.status in {"installing", "rebooting"} and not newest.is_counted:
        place = max(newest.installing_place, at.place)
        return [replace(newest, installing_place=place)] if place > newest.installing_place else []
    return []


def _installed(same: Offers, at: Placed) -> list[Offer]:
    """The version runs: whatever was tried before, it is there."""
    newest = latest(same)
    if newest is None or at.place < newest.outcome_place or _is_settled(same, newest):
        return []
    return [
        replace(
            offer,
            attempt=0,
            attempts=0,
            has_failed=False,
            is_counted=True,
            installing_place=-1,
            outcome="installed" if offer is newest else offer.outcome,
            outcome_position=at.position if offer is newest else offer.outcome_position,
            outcome_place=at.place if offer is newest else offer.outcome_place,
        )
        for offer in same
    ]


def _is_settled(same: Offers, newest: Offer) -> bool:
    """Whether it was known that the version runs, so that a heartbeat writes nothing."""
    return not newest.is_open and not any(
        offer.attempt or offer.attempts or offer.has_failed for offer in same
    )


def _left(offers: Offers, running: str, at: Placed) -> list[Offer]:
    """Another version runs: what was being installed did not get there.

    At the same place the later position is behind: a report in one array with the one before it,
    or one without a seq from a device that sends them.
    """
    changed: list[Offer] = []
    for offer in offers:
        if offer.version != running and 0 <= offer.installing_place <= at.place:
            same = [each for each in offers if each.version == offer.version]
            changed += _failed(same, offer, at)
    return changed


def _failed(same: Offers, newest: Offer, at: Placed) -> list[Offer]:
    """Counts an attempt for all offers of the version; once for the one that was made last."""
    if newest.is_counted:
        return []
    return [
        replace(
            offer,
            attempts=offer.attempts + 1,
            has_failed=True,
            is_counted=True,
            installing_place=-1,
            outcome="failed" if offer is newest else offer.outcome,
            outcome_position=at.position if offer is newest else offer.outcome_position,
            outcome_place=at.place if offer is newest else offer.outcome_place,
        )
        for offer in same
    ]
