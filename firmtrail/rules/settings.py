"""Declares a project's settings with their initial values, and folds their changes. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace

from firmtrail.events.fleet import Enrolment, SettingsChanged
from firmtrail.events.steering import AutoRollout, Window


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


class RolloutWindow(NamedTuple):
    """Holds the window that counts for devices of a rollout, and in words whose it is."""

    title: str
    times: Window | None
    cohorts: Mapping[str, Window] = {}
    """The windows of the cohorts whose devices go by these instead."""


def window_of(
    settings: Settings, own: Window | None, model: str | None, cohort: str | None
) -> RolloutWindow:
    """Returns the window that counts for devices of a model, and of one cohort or of any: the
    rollout's own, else the cohort's, else the model's, else the project's."""
    if own is not None:
        return RolloutWindow("Its window", own)
    if of_cohort := settings.cohort_windows.get(cohort or ""):
        return RolloutWindow(f"The window of the cohort {cohort}", of_cohort)
    others = {} if cohort else settings.cohort_windows
    if of_model := settings.model_windows.get(model or ""):
        return RolloutWindow(f"The window of the model {model}", of_model, others)
    return RolloutWindow("The window of the project", settings.window, others)
