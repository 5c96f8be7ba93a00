"""Declares a project's settings with their initial values, and folds their changes. Pure."""

from collections.abc import Mapping

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace

from firmtrail.events.fleet import Enrolment, SettingsChanged
from firmtrail.events.steering import AutoRollout, Window
from firmtrail.rules.device import DeviceState


class Settings(msgspec.Struct, frozen=True):
    """Holds a project's settings; the defaults are those of a new project."""

    follow_latest: bool = False
    poll_after_s: int = 300
    max_attempts: int = 3
    public_checkpoint: bool = False
    window: Window | None = None
    model_windows: Mapping[str, Window] = {}
    cohort_windows: Mapping[str, Window] = {}
    approvals: int = 0
    approve_from_devices: int = 0
    auto_rollout: Mapping[str, AutoRollout] = {}
    enrolment: Enrolment = "closed"
    mender_id_attribute: str | None = None
    artifact_names: dict[str, str] = {}
    version_attribute: str | None = None
    model_attribute: str | None = None
    hawkbit_parts: dict[str, str] = {}
    certificate_pattern: str | None = None


INITIAL = Settings()


def evolve(settings: Settings, event: SettingsChanged) -> Settings:
    """Returns the settings after a change of those that the event names."""
    members = asdict(event).items()
    return replace(settings, **{name: value for name, value in members if value is not UNSET})


def windows_of(settings: Settings, model: str, cohort: str | None) -> tuple[Window, ...]:
    """Returns the windows that may count for devices of a model, and of one cohort or of any, in
    rollouts that name none. It is empty if some of these devices may be offered something at any
    time."""
    of_cohort = settings.cohort_windows.get(cohort or "")
    found = of_cohort or settings.model_windows.get(model) or settings.window
    if found is None:
        return ()
    return (found, *(settings.cohort_windows.values() if cohort is None else ()))


def window_of(settings: Settings, device: DeviceState) -> Window | None:
    """Returns the window for rollouts that name none: the cohort's, else the model's, else the
    project's."""
    of_cohort = settings.cohort_windows.get(device.cohort or "")
    return of_cohort or settings.model_windows.get(device.model or "") or settings.window
