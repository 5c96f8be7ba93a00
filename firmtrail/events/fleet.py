"""Declares the events of devices, releases and the settings of a project."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from msgspec import UNSET, UnsetType

from firmtrail.events.event import Event
from firmtrail.events.steering import AutoRollout, Window

type Progress = Literal["downloading", "downloaded", "installing", "rebooting"]


type Failure = Literal["failed", "rejected"]


type Enrolment = Literal["closed", "open", "approve"]


type Status = Literal["installed", "running"] | Progress | Failure


class Reported(Event, frozen=True):
    """Holds what a device's report claims, apart from its status."""

    TEXT: ClassVar[str | None] = "detail"

    version: str
    """The reported version: a SemVer text."""
    seq: int | None = None
    """The device's own counter."""
    occurred_at: str | None = None
    """The device's clock; a claim."""
    question: str | None = None
    """The id of the question that the report answers."""
    rollout: str | None = None
    """The id of the rollout whose offer the device named."""
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
    """The step that the device has reached."""


class UpdateFailed(Reported, frozen=True, kw_only=True):
    """Records that the device did not get to this version."""

    status: Failure
    """Whether the update failed, or the device refused it."""


type ReportEvent = FirmwareInstalled | FirmwareRunning | UpdateProgressed | UpdateFailed


REPORTS = (FirmwareInstalled, FirmwareRunning, UpdateProgressed, UpdateFailed)


class DeviceRegistered(Event, frozen=True):
    """Records that the device belongs to the project; `secret_id` names its first secret."""

    model: str | None = None
    """The kind of hardware."""
    cohort: str | None = None
    """The group of the fleet that the device belongs to."""
    tags: tuple[str, ...] = ()
    """The labels of the device."""
    secret_id: str | None = None
    """The id of the first secret."""
    pending: bool = False
    """Whether the device waits to be accepted: nobody but itself named it."""


class DeviceChanged(Event, frozen=True):
    """Records that the members present were set; null removes the value."""

    IS_NUDGE: ClassVar[bool] = True

    model: str | UnsetType | None = UNSET
    """The new kind of hardware."""
    cohort: str | UnsetType | None = UNSET
    """The new group of the fleet."""
    tags: tuple[str, ...] | UnsetType = UNSET
    """All labels from now on."""
    pinned: str | UnsetType | None = UNSET
    """The version that a person wants for this device."""


class DeviceSecretIssued(Event, frozen=True):
    """Records that the device got a further secret. Earlier ones are valid until `others_until`;
    without it, they ended."""

    IS_NUDGE: ClassVar[bool] = True

    secret_id: str
    """The id of the new secret."""
    others_until: str | None = None
    """The time until which earlier secrets are valid."""
    new_counting: bool = False
    """Whether the hardware is new, or the device was restored: its seq begins again."""


class DeviceSecretRevoked(Event, frozen=True):
    """Records that all secrets of the device ended."""

    IS_NUDGE: ClassVar[bool] = True


class DeviceAccepted(Event, frozen=True):
    """Records that a person accepted a device that waited for it."""

    IS_NUDGE: ClassVar[bool] = True


class DeviceKeyOffered(Event, frozen=True):
    """Records that a public key was offered as the device's own. It is not valid: it waits to be
    accepted."""

    key: str
    """The SHA-256 of the public key, in hex."""


class DeviceKeyAccepted(Event, frozen=True):
    """Records that a public key became the device's credential. Its earlier credentials ended."""

    IS_NUDGE: ClassVar[bool] = True

    key: str
    """The SHA-256 of the public key, in hex."""
    secret_id: str
    """The id of the key among the device's secrets."""


class DeviceKeyRejected(Event, frozen=True):
    """Records that a key that waited to be accepted was refused."""

    key: str
    """The SHA-256 of the public key, in hex."""


class DeviceDecommissioned(Event, frozen=True):
    """Records that the device left the fleet: its secrets ended, its history stays."""

    IS_NUDGE: ClassVar[bool] = True


class DeviceRestored(Event, frozen=True):
    """Records that a decommissioned device came back."""


class SettingsChanged(Event, frozen=True):
    """Records that the settings present were set."""

    IS_CONTROL: ClassVar[bool] = True

    follow_latest: bool | UnsetType = UNSET
    """Whether devices follow the latest release."""
    poll_after_s: int | UnsetType = UNSET
    """The interval between two check-ins of a device."""
    max_attempts: int | UnsetType = UNSET
    """The number of failed attempts that end the offers."""
    public_checkpoint: bool | UnsetType = UNSET
    """Whether checkpoint and key need no credential."""
    window: Window | UnsetType | None = UNSET
    """The window of every rollout that names none; None: there is none."""
    model_windows: Mapping[str, Window] | UnsetType = UNSET
    """The windows for devices of these models, instead of the project's."""
    cohort_windows: Mapping[str, Window] | UnsetType = UNSET
    """The windows for devices of these cohorts, instead of the model's."""
    approvals: int | UnsetType = UNSET
    """The number of members who have to approve a rollout."""
    approve_from_devices: int | UnsetType = UNSET
    """The number of devices from which a rollout needs these approvals."""
    auto_rollout: Mapping[str, AutoRollout] | UnsetType = UNSET
    """The rollouts that new releases of these models start automatically."""
    enrolment: Enrolment | UnsetType = UNSET
    """Which devices that nobody registered may join: those that a token names, any, or any that a
    person accepts."""
    mender_id_attribute: str | UnsetType | None = UNSET
    """The member of the identities of Mender's clients that names the device; None: the service
    chooses it."""
    artifact_names: dict[str, str] | UnsetType = UNSET
    """For each protocol, which artifact of several its devices get: a name, or a suffix."""
    version_attribute: str | UnsetType | None = UNSET
    """The attribute of devices that carries the running version; null: a usual one."""
    model_attribute: str | UnsetType | None = UNSET
    """The attribute of devices that carries their model; null: a usual one, and only for devices
    without a model."""
    hawkbit_parts: dict[str, str] | UnsetType = UNSET
    """For each model, the kind of software that clients of hawkBit's protocol expect."""
    certificate_pattern: str | UnsetType | None = UNSET
    """The names in a client certificate that make it a device's credential; null: none does."""


class ReleaseAdded(Event, frozen=True):
    """Records that devices of the model can be sent to this version."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "notes"

    model: str
    """The model that the release is for."""
    version: str
    """The version of the release."""
    notes: str | None = None


class ArtifactAdded(Event, frozen=True):
    """Records that the release has a file of this name, whose bytes were stored before."""

    IS_CONTROL: ClassVar[bool] = True

    name: str
    """The name of the file in the release."""
    size: int
    """In bytes."""
    sha256: str
    """Of the bytes, in hex."""
    sha1: str | None = None
    """Of the bytes, in hex; absent for artifacts that were recorded without it."""
    md5: str | None = None
    """Of the bytes, in hex; absent for artifacts that were recorded without it."""
    provides_name: str | None = None
    """The name that a Mender artifact gives itself."""
    device_types: tuple[str, ...] = ()
    """The device types that a Mender artifact fits."""


class ReleaseWithdrawn(Event, frozen=True):
    """Records that the release is never offered again."""

    IS_CONTROL: ClassVar[bool] = True
    TEXT: ClassVar[str | None] = "reason"

    reason: str | None = None
