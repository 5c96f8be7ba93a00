"""Folds the offers of a device, and decides how each attempt at them ended.

An offer belongs to a device, its model, the source of the order (a rollout, a rollback, its pin,
follow_latest) and a version. Each time a new attempt is ordered, the offer is made again.

An offer has a place in the device's order: the device's last place when the offer was made. A
report with an earlier place came late. It says how the device was before the offer, so it does not
change the offer.

An attempt is over when the device reports a status of `FAILING`, or, after one of `INSTALLING`,
that another version runs. It counts once for each offer. The device's next install of the version,
or a person's retry, resets the count. Attempts belong to device, model and version: every offer of
that version has the same count. The outcome of an offer is the last one in the device's order.

The offers of a device are numbered from 1, in the order in which they were made. An offer that is
made again has a new number, and no number is used twice, also in a log that continues another one.
A device can give an offer up: it is then cancelled, which is no outcome and no attempt. If the same
version is wanted later, it is offered again.
"""

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from firmtrail.events.event import Recorded
from firmtrail.events.fleet import ReportEvent
from firmtrail.events.steering import (
    AttemptsCleared,
    Cause,
    DeviceFellSilent,
    OfferEnded,
    OfferEnding,
    UpdateOffered,
)
from firmtrail.rules.device import FAILING, INSTALLING, MOVING, DeviceState, LaterReport, Placed
from firmtrail.rules.history import Ordered

type OfferOutcome = Literal["installed", "failed"]
type Offers = Sequence["Offer"]
"""The offers of one device."""

_POSITION = attrgetter("position")

EARLIER_ORDINALS_MAX = 16
"""How many numbers an offer keeps from when it was made before."""


class Offer(msgspec.Struct, frozen=True, gc=False):
    """Holds what a device was offered, and the outcome."""

    device: str
    source: str
    """The rollout's id, or the cause if there is no rollout."""
    version: str
    cause: Cause
    position: int
    """The position of the event that made it last."""
    offered_at_ms: int
    attempt: int
    """The attempt that it was made for last; 0 once the count was reset."""
    attempts: int
    """The number of attempts of the device at this version, by any offer."""
    has_failed: bool = False
    """Whether an attempt failed since the version was last installed; a retry does not change
    it."""
    is_counted: bool = False
    """Whether its attempt is over."""
    installing_place: int = -1
    """The place of the report that the device installs it; -1 if it does not."""
    outcome: OfferOutcome | None = None
    outcome_position: int = -1
    outcome_place: int = -1
    silent_position: int | None = None
    """The position of the event that says that the device fell silent after it."""
    model: str = ""
    """The device's model when the offer was made: one version of two models is two releases."""
    place: int = -1
    """The device's last place when the offer was made."""
    cleared_place: int = -1
    """The device's last place at the last retry: a failure before it counts no attempt."""
    ordinal: int = 0
    """Its number among all offers of the device, as it was made last."""
    earlier_ordinals: tuple[int, ...] = ()
    """The last of the numbers that it had when it was made before."""
    ending: OfferEnding | None = None
    """How the device ended it without an outcome, since it was made last."""

    @property
    def is_silent(self) -> bool:
        """Returns whether the offer counts as failed because the device fell silent."""
        return self.outcome == "failed" and self.outcome_position == self.silent_position

    @property
    def is_pending(self) -> bool:
        """Returns whether no outcome came since the offer was last made."""
        if self.ending == "cancelled":
            return False
        return self.outcome is None or self.outcome_position < self.position

    @property
    def is_over(self) -> bool:
        """Returns whether the device is done with it, or gave it up."""
        return self.is_counted or self.ending is not None

    @property
    def key(self) -> tuple[str, str]:
        """Returns the key of the offer among those of its device."""
        return source_key(self), self.version

    def is_open(self, at: Placed) -> bool:
        """Returns whether an install of the version, at this place, follows from the offer."""
        if at.place < self.place:
            return False
        is_installed = self.outcome == "installed" and self.outcome_position > self.position
        return not is_installed or at.place < self.outcome_place


def source_key(offer: Offer) -> str:
    """Returns the source, with the model if the source can have offers for several models: a
    rollout has one model, a rule all. No name of a model contains a "/"."""
    if offer.cause in {"rollout", "rollback"}:
        return offer.source
    return f"{offer.source}/{offer.model}"


def rollout_of(offer: Offer) -> str | None:
    """Returns the id of the rollout or rollback that made the offer; None if another rule did."""
    return offer.source if offer.cause in {"rollout", "rollback"} else None


def of_model(offers: Iterable[Offer], model: str | None) -> list[Offer]:
    """Returns the offers that count for a device while it is of this model."""
    return [offer for offer in offers if offer.model == (model or "")]


def attempts(offers: Offers, version: str) -> int:
    """Returns the number of the device's attempts at this version; `offers` are of its model."""
    for offer in offers:
        if offer.version == version:
            return offer.attempts
    return 0


def latest(offers: Iterable[Offer]) -> Offer | None:
    return max(offers, key=_POSITION, default=None)


def made(offers: Offers, source: str, version: str) -> Offer | None:
    """Returns the offer of this version that this source has made for the device's next attempt, if
    it has; `offers` are of its model."""
    attempt = attempts(offers, version) + 1
    for each in offers:
        if each.version == version and each.source == source and each.attempt == attempt:
            return each
    return None


def is_made(offers: Offers, source: str, version: str) -> bool:
    """Returns whether the device was already offered this version by this source for its next
    attempt; `offers` are of its model."""
    return made(offers, source, version) is not None


def numbered(offers: Iterable[Offer], ordinal: int) -> Offer | None:
    """Returns the offer that has, or had, this number."""
    return next(
        (each for each in offers if ordinal in {each.ordinal, *each.earlier_ordinals}), None
    )


class Follows(NamedTuple):
    """Describes the open offers that a report of a running version follows."""

    ordered: Ordered
    position: int
    """The position of the newest of them."""


def followed(offers: Offers, version: str, at: Placed) -> Follows | None:
    """Returns the open offers that a report of this version follows, before it is folded; None if
    there are none."""
    is_open = [offer for offer in offers if offer.version == version and offer.is_open(at)]
    newest = latest(is_open)
    if newest is None:
        return None
    is_rollback = any(offer.cause == "rollback" for offer in is_open)
    return Follows("rollback" if is_rollback else "offered", newest.position)


def last_place(offers: Iterable[Offer], version: str) -> int:
    """Returns the place of the newest offer of this version; -1 if there is none."""
    return max((offer.place for offer in offers if offer.version == version), default=-1)


def offered(offers: Collection[Offer], state: DeviceState, recorded: Recorded) -> list[Offer]:
    """Returns the offers that an UpdateOffered changes, beginning with the one that it makes."""
    event = recorded.event
    assert isinstance(event, UpdateOffered)
    others = _of_version(offers, state, event.version)
    made = Offer(
        state.device,
        event.rollout or event.cause,
        event.version,
        event.cause,
        recorded.position,
        recorded.recorded_at_ms,
        event.attempt,
        attempts(others, event.version),
        any(offer.has_failed for offer in others),
        installing_place=max((offer.installing_place for offer in others), default=-1),
        model=state.model or "",
        place=state.last_place,
        cleared_place=max((offer.cleared_place for offer in others), default=-1),
        ordinal=1 + max((offer.ordinal for offer in offers), default=0),
    )
    no_longer_installing = [  # an install in progress counts for the offer made last
        replace(offer, installing_place=-1)
        for offer in others
        if offer.key != made.key and offer.installing_place >= 0
    ]
    return [_continued(made, others), *no_longer_installing]


def _of_version(offers: Iterable[Offer], state: DeviceState, version: str) -> list[Offer]:
    return [offer for offer in of_model(offers, state.model) if offer.version == version]


def _continued(made: Offer, others: Offers) -> Offer:
    """Returns the offer with what it had before it was made again: its numbers, and the outcome,
    which stays until the next one."""
    for before in others:
        if before.key == made.key:
            return replace(
                made,
                outcome=before.outcome,
                outcome_position=before.outcome_position,
                outcome_place=before.outcome_place,
                silent_position=before.silent_position,
                earlier_ordinals=(*before.earlier_ordinals, before.ordinal)[-EARLIER_ORDINALS_MAX:],
            )
    return made


def silenced(offers: Iterable[Offer], event: DeviceFellSilent, position: int) -> list[Offer]:
    """Returns the offers that a device's silence changes. Silence is an outcome, but no attempt: a
    later report, at any place, has the real outcome."""
    return [
        replace(each, outcome="failed", outcome_position=position, silent_position=position)
        for each in offers
        if each.key == (event.rollout, event.version)
    ]


def ended(offers: Iterable[Offer], event: OfferEnded) -> list[Offer]:
    """Returns the offers that change as the device ends one. A confirmed one waits for the version
    that the device runs next. A cancelled one waits for nothing, and can be made again."""
    found = numbered(offers, event.ordinal)
    if found is None or found.ordinal != event.ordinal:
        return []
    if event.ending == "confirmed":
        return [replace(found, ending="confirmed")]
    given_up = replace(found, ending="cancelled", attempt=0, is_counted=True, installing_place=-1)
    return [given_up]


def cleared(offers: Iterable[Offer], state: DeviceState, event: AttemptsCleared) -> list[Offer]:
    return [
        replace(offer, attempt=0, attempts=0, cleared_place=state.last_place)
        for offer in _of_version(offers, state, event.version)
    ]


def reported(
    offers: Offers, event: ReportEvent, at: Placed, later: LaterReport | None = None
) -> list[Offer]:
    """Returns the offers that a report changes; `offers` are those for the device's model, and
    `later` is the next report of a running version in the device's order."""
    same = [offer for offer in offers if offer.version == event.version]
    newest = latest(offer for offer in same if offer.place <= at.place)
    if event.status in MOVING:
        return [*_installed(same, newest, at), *_left(offers, event.version, at)]
    if newest is None or at.place < newest.outcome_place:
        return []
    if event.status in FAILING:
        return _failed(same, newest, at)
    if event.status in INSTALLING and not newest.is_counted:
        return _installing(same, newest, at, later)
    return []


def _installing(same: Offers, newest: Offer, at: Placed, later: LaterReport | None) -> list[Offer]:
    """Returns the offers that change as the device installs the version. If the report arrives
    late, another version may be known to run after it."""
    if at.place <= newest.installing_place:
        return []
    if later is not None and later.version != newest.version:
        return _failed(same, newest, replace(at, place=later.place))
    return [replace(newest, installing_place=at.place)]


def _installed(same: Offers, newest: Offer | None, at: Placed) -> list[Offer]:
    """Returns the offers that change as the version runs: earlier attempts, in the device's order,
    are settled."""
    if newest is None or at.place < newest.outcome_place or _is_settled(same, newest):
        return []
    if any(at.place < max(offer.place, offer.outcome_place) for offer in same):
        return [_with_outcome(newest, "installed", at)]
    return [
        replace(
            _with_outcome(offer, "installed", at) if offer is newest else offer,
            attempt=0,
            attempts=0,
            has_failed=False,
            is_counted=True,
            installing_place=-1,
        )
        for offer in same
    ]


def _with_outcome(offer: Offer, outcome: OfferOutcome, at: Placed) -> Offer:
    return replace(
        offer,
        is_counted=True,
        installing_place=-1,
        outcome=outcome,
        outcome_position=at.position,
        outcome_place=at.place,
    )


def _is_settled(same: Offers, newest: Offer) -> bool:
    """Returns whether it is known that the version runs: then a heartbeat writes nothing."""
    is_installed = newest.outcome == "installed" and newest.outcome_position > newest.position
    return is_installed and not any(
        offer.attempt or offer.attempts or offer.has_failed for offer in same
    )


def _left(offers: Offers, running: str, at: Placed) -> list[Offer]:
    """Returns the offers that change as another version runs: an install in progress has failed.

    At the same place the later position comes later: two reports in one array, or a report without
    a seq from a device that sends seqs.
    """
    changed: list[Offer] = []
    for offer in offers:
        is_at_it = 0 <= offer.installing_place <= at.place and offer.place <= at.place
        if offer.version != running and is_at_it:
            same = [each for each in offers if each.version == offer.version]
            changed += _failed(same, offer, at)
    return changed


def _failed(same: Offers, newest: Offer, at: Placed) -> list[Offer]:
    """Returns the offers with one more attempt for each offer of the version, once for the offer
    that was made last.

    A further failure counts no attempt, but is the latest outcome: a rollout that was resumed since
    must see it. Failures before the last retry count no attempt either, nor do they end an attempt
    at an offer that has a later place.
    """
    if newest.is_counted:
        is_again = newest.outcome == "failed" and newest.outcome_position > newest.position
        return [_with_outcome(newest, "failed", at)] if is_again else []
    tried = 1 if at.place >= newest.cleared_place else 0
    return [
        replace(
            _with_outcome(offer, "failed", at) if offer is newest else offer,
            attempts=offer.attempts + tried,
            has_failed=True,
            is_counted=offer.is_counted or offer.place <= at.place,
            installing_place=-1 if offer.installing_place <= at.place else offer.installing_place,
        )
        for offer in same
    ]
