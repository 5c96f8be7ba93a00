"""Decides which unknown devices join a project, and which public keys become a device's own. Pure.

A device joins because a token that registers devices names it, or, where the project lets it, on
its own. With "approve" it then waits to be accepted. No token and no device can take over the name
of a device that has authenticated: a key that is offered for it waits to be accepted too.
"""

from firmtrail.events.event import Event
from firmtrail.events.fleet import (
    DeviceAccepted,
    DeviceDecommissioned,
    DeviceKeyAccepted,
    DeviceKeyOffered,
    DeviceKeyRejected,
    DeviceRegistered,
    Enrolment,
)
from firmtrail.rules.device import DeviceState, Refused, device_decommissioned


def decide_joining(
    enrolment: Enrolment, model: str | None = None, *, is_named: bool
) -> DeviceRegistered:
    """Returns the registration of an unknown device. `is_named` says that a token that registers
    devices names it. Raises `Refused`."""
    check_offer(enrolment, is_named=is_named)
    return DeviceRegistered(model, pending=enrolment == "approve")


def check_offer(enrolment: Enrolment, *, is_named: bool) -> None:
    """Raises `Refused` if nothing may be offered to the project without a token, and none names the
    device."""
    if enrolment == "closed" and not is_named:
        raise Refused(
            "enrolment_closed", "No device joins this project without a token for it.", status=403
        )


def decide_key(
    state: DeviceState, key: str, secret_id: str, *, is_first: bool, replaces: bool = False
) -> DeviceKeyAccepted | DeviceKeyOffered | None:
    """Returns the event of a key that is offered for the device; None if a key waits already.

    `is_first` says that the device has no key and never authenticated, and that the caller may name
    it: then no key that waits keeps it out. `replaces` says that the caller may name it, and that
    nobody vouched for the key that waits: then this key waits in its place. Raises `Refused` if the
    device is decommissioned.
    """
    if state.decommissioned:
        raise device_decommissioned(state.device)
    if is_first and not state.pending:
        return DeviceKeyAccepted(key, secret_id)
    is_news = state.offered_key is None or (replaces and state.offered_key != key)
    return DeviceKeyOffered(key) if is_news else None


def decide_acceptance(state: DeviceState, key: str | None, secret_id: str) -> list[Event]:
    """Returns the events that accept a waiting device, and the key that waits for it. If `key` is
    given, it must be that key. Raises `Refused`."""
    if key is not None and key != state.offered_key:
        raise Refused("other_key", "Another key waits, or none. Read the device again.")
    decided: list[Event] = [DeviceAccepted()] if state.pending else []
    if state.offered_key is not None:
        decided.append(DeviceKeyAccepted(state.offered_key, secret_id))
    if not decided:
        raise _not_pending(state)
    return decided


def decide_rejection(state: DeviceState) -> Event:
    """Returns the event that refuses a waiting device, or only the key that waits for a device that
    was accepted before. Raises `Refused`."""
    if state.pending:
        return DeviceDecommissioned()
    if state.offered_key is not None:
        return DeviceKeyRejected(state.offered_key)
    raise _not_pending(state)


def _not_pending(state: DeviceState) -> Refused:
    if state.decommissioned:
        return device_decommissioned(state.device)
    return Refused("not_pending", f"Neither device {state.device} nor a key of it waits.")
