"""Declares the events of devices, releases and the settings of a project."""

from typing import ClassVar, Literal

from msgspec import UNSET, UnsetType

from firmtrail.events.event import Event

type Progress = Literal["downloading", "downloaded", "installing", "rebooting"]


type Failure = Literal["failed", "rejected"]


type Status = Literal["installed", "running"] | Progress | Failure


class Reported(Event, frozen=True):
    """Holds what a device's report claims, apart from its status."""

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
    """The version as the device wrote it, if that was not SemVer."""


class FirmwareInstalled(Reported, frozen=True):
    """Records that the device booted into this version for the first time."""

    status: ClassVar[Status] = "installed"


class FirmwareRunning(Reported, frozen=True):
    """Records that the device runs this version; no update is implied."""

    status: ClassVar[Status] = "running"


class UpdateProgressed(Reported, frozen=True, kw_only=True):
    """Records that the device is on its way to this version."""

    status: Progress


class UpdateFailed(Reported, frozen=True, kw_only=True):
    """Records that the device did not get to this version."""

    status: Failure


type ReportEvent = FirmwareInstalled | FirmwareRunning | UpdateProgressed | UpdateFailed


REPORTS = (FirmwareInstalled, FirmwareRunning, UpdateProgressed, UpdateFailed)


class DeviceRegistered(Event, frozen=True):
    """Records that the device belongs to the project; `secret_id` names its first secret."""

    model: str | None = None
    cohort: str | None = None
    tags: tuple[str, ...] = ()
    secret_id: str | None = None


class DeviceChanged(Event, frozen=True):
    """Records that the members present were set; None removes the value."""

    IS_NUDGE: ClassVar[bool] = True

    model: str | UnsetType | None = UNSET
    cohort: str | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    pinned: str | UnsetType | None = UNSET


class DeviceSecretIssued(Event, frozen=True):
    """Records that the device got a further secret. Earlier ones are valid until `others_until`, or
    no longer if it is None."""

    IS_NUDGE: ClassVar[bool] = True

    secret_id: str
    others_until: str | None = None
    new_counting: bool = False
    """Whether the hardware is new, or the device was restored: its seq begins again."""


class DeviceSecretRevoked(Event, frozen=True):
    """Records that all secrets of the device ended."""

    IS_NUDGE: ClassVar[bool] = True


class DeviceDecommissioned(Event, frozen=True):
    """Records that the device left the fleet: its secrets ended, its history stays."""

    IS_NUDGE: ClassVar[bool] = True


class DeviceRestored(Event, frozen=True):
    """Records that a decommissioned device came back."""


class SettingsChanged(Event, frozen=True):
    """Records that the settings present were set."""

    IS_CONTROL: ClassVar[bool] = True

    follow_latest: bool | UnsetType = UNSET
    poll_after_s: int | UnsetType = UNSET
    max_attempts: int | UnsetType = UNSET
    public_checkpoint: bool | UnsetType = UNSET


class ReleaseAdded(Event, frozen=True):
    """Records that devices of the model can be sent to this version."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "notes"

    model: str
    version: str
    notes: str | None = None


class ArtifactAdded(Event, frozen=True):
    """Records that the release has a file of this name, whose bytes were stored before."""

    IS_CONTROL: ClassVar[bool] = True

    name: str
    size: int
    """In bytes."""
    sha256: str
    """Of the bytes, in hex."""


class ReleaseWithdrawn(Event, frozen=True):
    """Records that the release is never offered again."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "reason"

    reason: str | None = None
