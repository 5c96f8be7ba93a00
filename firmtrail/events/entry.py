"""Encodes an event as its one text form, an entry: a compact line of CloudEvents 1.0 JSON.

An entry is stored, hashed and replayed as it is. Members that are None or empty are left out. An
entry never contains a secret, an e-mail address or free text: users and credentials appear by their
ids, free text by `sha256(salt || text)`.

An event type carries its version. An older entry is never rewritten: `decode` lifts its data
through `UPCASTS`, one version at a time, to the struct of the newest version.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from firmtrail.events import access, fleet, log, steering, webhooks
from firmtrail.events.event import Event, Recorded
from firmtrail.events.times import time_ms, time_text

TYPES: dict[str, type[Event]] = {
    event_type.__name__: event_type
    for event_type in (
        fleet.FirmwareInstalled,
        fleet.FirmwareRunning,
        fleet.UpdateProgressed,
        fleet.UpdateFailed,
        fleet.DeviceRegistered,
        fleet.DeviceChanged,
        fleet.DeviceSecretIssued,
        fleet.DeviceSecretRevoked,
        fleet.DeviceAccepted,
        fleet.DeviceKeyOffered,
        fleet.DeviceKeyAccepted,
        fleet.DeviceKeyRejected,
        fleet.DeviceDecommissioned,
        fleet.DeviceRestored,
        access.MemberAdded,
        access.MemberChanged,
        access.MemberRemoved,
        access.TokenIssued,
        access.TokenRevoked,
        fleet.SettingsChanged,
        steering.RolloutStarted,
        steering.RollbackStarted,
        steering.RolloutAdvanced,
        steering.RolloutPaused,
        steering.RolloutResumed,
        steering.RolloutAborted,
        steering.RolloutPlanChanged,
        steering.RolloutPhaseMet,
        steering.RolloutApproved,
        steering.RolloutRejected,
        steering.Halted,
        steering.Resumed,
        steering.UpdateOffered,
        steering.AttemptsCleared,
        steering.OfferEnded,
        steering.DeviceFellSilent,
        steering.Asked,
        fleet.ReleaseAdded,
        fleet.ArtifactAdded,
        fleet.ReleaseWithdrawn,
        log.TextErased,
        access.UserErased,
        log.AccessRecordSealed,
        log.AccessRecordTrimmed,
        log.LogContinued,
        log.ProjectMoveStarted,
        log.ProjectMoveUndone,
        log.ProjectArrived,
        webhooks.WebhookAdded,
        webhooks.WebhookChanged,
        webhooks.WebhookRemoved,
    )
}


type Upcast = Callable[[dict[str, Any]], dict[str, Any]]


UPCASTS: Mapping[tuple[str, int], Upcast] = {
    ("TextErased", 1): lambda data: data,  # it was always of the same log
}
"""(event name, version) -> the function that lifts its data to the next version."""


class Envelope[Data](msgspec.Struct, frozen=True):
    """Holds an entry's CloudEvents attributes, in their order in the text."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    actor: str
    data: Data


envelope_of = msgspec.json.Decoder(Envelope[msgspec.Raw]).decode
"""Returns the attributes of an entry's text; its data stays undecoded."""


_encode = msgspec.json.Encoder().encode


def encode(project: str, recorded: Recorded) -> str:
    """Returns the entry's canonical text. The text has no position: that is its place in the
    tree."""
    event = recorded.event
    return _encode(
        Envelope(
            "1.0",
            recorded.event_id,
            f"/projects/{project}/{recorded.stream}",
            type_of(type(event)),
            recorded.stream,
            time_text(recorded.recorded_at_ms),
            recorded.actor,
            event,
        )
    ).decode()


@lru_cache
def type_of(event_type: type[Event]) -> str:
    return f"firmtrail.{event_type.__name__}.v{event_type.VERSION}"


def types_named(name: str) -> frozenset[str]:
    """Returns the types of entries that `name` means: "DeviceChanged" means every version of that
    event, "DeviceChanged.v1" one version; either may begin with "firmtrail.". The result is empty
    if there is no such event."""
    wanted = name.removeprefix("firmtrail.")
    return frozenset(
        f"firmtrail.{event_name}.v{version}"
        for event_name, event_type in TYPES.items()
        for version in range(1, event_type.VERSION + 1)
        if wanted in {event_name, f"{event_name}.v{version}"}
    )


def decode(
    position: int,
    text: str,
    types: Mapping[str, type[Event]] = TYPES,
    upcasts: Mapping[tuple[str, int], Upcast] = UPCASTS,
) -> Recorded:
    """Returns the event of an entry's text, lifted to the newest version of its type.

    Raises msgspec.MsgspecError, ValueError or KeyError if the text is not an entry that this code
    knows: the log is corrupt, or newer than this code.
    """
    envelope = envelope_of(text)
    _, name, version = envelope.type.split(".")
    event_type = types[name]
    data = envelope.data
    if (recorded_version := int(version.removeprefix("v"))) > event_type.VERSION:
        raise ValueError(f"{envelope.type} is newer than this code")
    for step in range(recorded_version, event_type.VERSION):
        data = msgspec.Raw(_encode(upcasts[name, step](msgspec.json.decode(data))))
    return Recorded(
        position,
        time_ms(envelope.time),
        envelope.subject,
        envelope.id,
        envelope.actor,
        _decoder(event_type).decode(data),
    )


@lru_cache
def _decoder(event_type: type[Event]) -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(event_type)
