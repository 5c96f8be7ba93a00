"""What happens to devices, releases and the settings of a project."""

from typing import ClassVar, Literal

from msgspec import UNSET, UnsetType

from firmtrail.events.event import Event

type Progress = Literal["downloading", "downloaded", "installing", "rebooting"]


type Failure = Literal["failed", "rejected"]


type Status = Literal["installed", "running"] | Progress | Failure


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
