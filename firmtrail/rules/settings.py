"""Declares a project's settings with their initial values, and folds their changes. Pure."""

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace

from firmtrail.events.fleet import SettingsChanged


class Settings(msgspec.Struct, frozen=True):
    """Holds a project's settings; the defaults are those of a new project."""

    follow_latest: bool = False
    poll_after_s: int = 300
    max_attempts: int = 3
    public_checkpoint: bool = False


INITIAL = Settings()


def evolve(settings: Settings, event: SettingsChanged) -> Settings:
    """Returns the settings after a change of those that the event names."""
    members = asdict(event).items()
    return replace(settings, **{name: value for name, value in members if value is not UNSET})
