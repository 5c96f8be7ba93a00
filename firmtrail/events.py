"""The vocabulary: everything that can happen, as frozen structs, and their one text form.

An event becomes an entry: one compact line of CloudEvents 1.0 JSON, which is stored, hashed and
replayed as it is. Members that are None or empty are left out. An entry never holds a secret, an
e-mail address or free text: users and credentials stand by their ids, free text by
`sha256(salt || text)`.

An event type carries its version. An older entry is never rewritten: reading it, `decode` lifts
its data through `UPCASTS`, one step a version, to the struct of the newest.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, UnsetType

from firmtrail import orders
from firmtrail.event import Event as Event  # noqa: PLC0414 (a caller that names an event finds it here)

type Progress = Literal["downloading", "downloaded", "installing", "rebooting"]
type Failure = Literal["failed", "rejected"]
type Status = Literal["installed", "running"] | Progress | Failure


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Reported(Event, frozen=True):
    """What a device's report claims, apart from its status."""

    TEXT: ClassVar[str | None] = "detail"

    version: str
    seq: int | None = None
    """The device's own counter."""
    occurred_at: str | None = None
    """The device's clock; a claim."""
    question: str | None = None
    rollout: str | None = None
    detail: str | None = None
    sent: str | None = None
    """The version as the device wrote it, where that was not SemVer."""


class FirmwareInstalled(Reported, frozen=True):
    """The device booted into this version for the first time."""

    status: ClassVar[Status] = "installed"


class FirmwareRunning(Reported, frozen=True):
    """The device runs this version; no update is implied."""

    status: ClassVar[Status] = "running"


class UpdateProgressed(Reported, frozen=True, kw_only=True):
    """The device is on its way to this version."""

    status: Progress


class UpdateFailed(Reported, frozen=True, kw_only=True):
    """The device did not get to this version."""

    status: Failure


type ReportEvent = FirmwareInstalled | FirmwareRunning | UpdateProgressed | UpdateFailed
REPORTS = (FirmwareInstalled, FirmwareRunning, UpdateProgressed, UpdateFailed)


class DeviceRegistered(Event, frozen=True):
    """The device belongs to the project; `secret_id` names its first secret."""

    model: str | None = None
    cohort: str | None = None
    tags: tuple[str, ...] = ()
    secret_id: str | None = None


class DeviceChanged(Event, frozen=True):
    """The members present were set; None is "no longer any"."""

    IS_NUDGE: ClassVar[bool] = True

    model: str | UnsetType | None = UNSET
    cohort: str | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    pinned: str | UnsetType | None = UNSET


class DeviceSecretIssued(Event, frozen=True):
    """A further secret; the ones before it are valid until `others_until` or no longer."""

    IS_NUDGE: ClassVar[bool] = True

    secret_id: str
    others_until: str | None = None
    new_counting: bool = False
    """The hardware is new, or the device was restored: its seq begins again."""


class DeviceSecretRevoked(Event, frozen=True):
    """All secrets of the device are dead."""

    IS_NUDGE: ClassVar[bool] = True


class DeviceDecommissioned(Event, frozen=True):
    """The device left the fleet: its secrets are dead, its history stays."""

    IS_NUDGE: ClassVar[bool] = True


class DeviceRestored(Event, frozen=True):
    """The decommissioned device is back."""


class MemberAdded(Event, frozen=True):
    member: str
    role: str


class MemberChanged(Event, frozen=True):
    member: str
    role: str


class MemberRemoved(Event, frozen=True):
    member: str


class TokenIssued(Event, frozen=True):
    token_id: str
    holder: str
    role: str
    expires_at: str | None = None


class TokenRevoked(Event, frozen=True):
    token_id: str


class SettingsChanged(Event, frozen=True):
    """The members present were set."""

    IS_CONTROL: ClassVar[bool] = True

    follow_latest: bool | UnsetType = UNSET
    poll_after_s: int | UnsetType = UNSET
    max_attempts: int | UnsetType = UNSET
    public_checkpoint: bool | UnsetType = UNSET


class ReleaseAdded(Event, frozen=True):
    """Devices of the model can be sent to this version."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "notes"

    model: str
    version: str
    notes: str | None = None


class ArtifactAdded(Event, frozen=True):
    """The release has a file of this name, whose bytes were stored before."""

    IS_CONTROL: ClassVar[bool] = True

    name: str
    size: int
    """In bytes."""
    sha256: str
    """Of the bytes, in hex."""


class ReleaseWithdrawn(Event, frozen=True):
    """The release is never offered again."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "reason"

    reason: str | None = None


class TextErased(Event, frozen=True):
    """The text of the event at `position` is gone, and its salt."""

    VERSION: ClassVar[int] = 2

    position: int
    log: int | None = None
    """The number of an older log of the project, where the event is not in this one."""


class UserErased(Event, frozen=True):
    """The user's e-mail address, password and tokens are gone; the id stays."""

    user: str


class AccessRecordSealed(Event, frozen=True):
    """The first `size` rows of the project's access record chain to `head`."""

    size: int
    head: str


class LogContinued(Event, frozen=True):
    """This log continues the first `size` events of the project's log number `log`.

    `checkpoint` is the last one that was published of that log, as its signed note; where `size`
    is below the size that it signs, what is between them is lost.
    """

    log: int
    size: int
    checkpoint: str | None = None


TYPES: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        FirmwareInstalled,
        FirmwareRunning,
        UpdateProgressed,
        UpdateFailed,
        DeviceRegistered,
        DeviceChanged,
        DeviceSecretIssued,
        DeviceSecretRevoked,
        DeviceDecommissioned,
        DeviceRestored,
        MemberAdded,
        MemberChanged,
        MemberRemoved,
        TokenIssued,
        TokenRevoked,
        SettingsChanged,
        orders.RolloutStarted,
        orders.RollbackStarted,
        orders.RolloutAdvanced,
        orders.RolloutPaused,
        orders.RolloutResumed,
        orders.RolloutAborted,
        orders.Halted,
        orders.Resumed,
        orders.UpdateOffered,
        orders.AttemptsCleared,
        orders.DeviceFellSilent,
        orders.Asked,
        ReleaseAdded,
        ArtifactAdded,
        ReleaseWithdrawn,
        TextErased,
        UserErased,
        AccessRecordSealed,
        LogContinued,
    )
}

type Upcast = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTS: Mapping[tuple[str, int], Upcast] = {
    ("TextErased", 1): lambda data: data,  # it was always of the same log
}
"""(event name, version) -> its data, lifted to the next version."""


class Envelope[Data](msgspec.Struct, frozen=True):
    """The entry's CloudEvents attributes, in their order in the text."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    actor: str
    data: Data


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An event with its place in the log."""

    position: int
    recorded_at_ms: int
    stream: str
    """The CloudEvents subject: "device/<id>", "user/<id>", …"""
    event_id: str
    actor: str
    event: Event


envelope_of = msgspec.json.Decoder(Envelope[msgspec.Raw]).decode
"""The attributes that an entry's text holds, its data left as it is."""
_encode = msgspec.json.Encoder().encode


def encode(project: str, recorded: Recorded) -> str:
    """Returns the entry's canonical text. It does not hold the position: that is its place in the
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
def type_of(kind: type[Event]) -> str:
    return f"firmtrail.{kind.__name__}.v{kind.VERSION}"


def types_named(name: str) -> frozenset[str]:
    """Returns the types of entries that `name` means: "DeviceChanged" means every version of it,
    and "DeviceChanged.v1" one; "firmtrail." may stand before either. None: there is no such
    event."""
    known = {
        f"{kind}.v{version}": kind
        for kind, event in TYPES.items()
        for version in range(1, event.VERSION + 1)
    }
    wanted = name.removeprefix("firmtrail.")
    return frozenset(
        f"firmtrail.{type_}" for type_, kind in known.items() if wanted in {type_, kind}
    )


def decode(
    position: int,
    text: str,
    types: Mapping[str, type[Event]] = TYPES,
    upcasts: Mapping[tuple[str, int], Upcast] = UPCASTS,
) -> Recorded:
    """Returns the event that an entry's text holds; an old version is lifted to the newest first.

    Raises msgspec.MsgspecError, ValueError or KeyError for what is no entry of ours: the log is
    corrupt, or newer than this code.
    """
    envelope = envelope_of(text)
    _, name, version = envelope.type.split(".")
    kind = types[name]
    data = envelope.data
    if (recorded_version := int(version.removeprefix("v"))) > kind.VERSION:
        raise ValueError(f"{envelope.type} is newer than this code")
    for step in range(recorded_version, kind.VERSION):
        data = msgspec.Raw(_encode(upcasts[name, step](msgspec.json.decode(data))))
    return Recorded(
        position,
        time_ms(envelope.time),
        envelope.subject,
        envelope.id,
        envelope.actor,
        _decoder(kind).decode(data),
    )


@lru_cache
def _decoder(kind: type[Event]) -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(kind)


@lru_cache(maxsize=4096)
def time_text(time_ms: int) -> str:
    """RFC 3339, UTC, milliseconds; years 1 to 9999."""
    second, millisecond = divmod(time_ms, 1000)
    return f"{_second_text(second)}.{millisecond:03}Z"


@lru_cache(maxsize=1024)
def _second_text(second: int) -> str:
    minutes, seconds = divmod(second, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{_day_text(days)}T{hours:02}:{minutes:02}:{seconds:02}"


@lru_cache(maxsize=1024)
def _day_text(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).date().isoformat()


def time_ms(text: str) -> int:
    """Unix milliseconds of an RFC 3339 time; what is finer than a millisecond is cut."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
