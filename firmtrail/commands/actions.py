"""Ends the offer of a device whose client confirms each update by an id."""

from firmtrail.events.steering import OfferEnded, OfferEnding
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules import device, offer


def end(name: str, ordinal: int, ending: OfferEnding, *, actor: str) -> LogCommand[bool]:
    """Ends the device's offer with this number; returns whether it was open. One that is over, or
    was made again since, stays as it is. Raises `Refused` if there is no such device."""

    async def command(commit: Commit) -> bool:
        device.active_device(await commit.devices([name]), name)
        offers = commit.draft.fold.steering.offers.get(name, {}).values()
        found = offer.numbered(offers, ordinal)
        if found is None or found.ordinal != ordinal or found.is_over:
            return False
        event = OfferEnded(found.version, ordinal, ending, offer.rollout_of(found))
        commit.draft.record(f"device/{name}", event, actor=actor)
        return True

    return command
