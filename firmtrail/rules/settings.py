"""The rules of a project's settings: what a new one has, and what a change makes of them. Pure."""

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace

from firmtrail.events.fleet import SettingsChanged


class Settings(msgspec.Struct, frozen=True):
    """A new project's settings."""

    follow_latest: bool = False
    poll_after_s: int = 300
    max_attempts: int = 3
    public_checkpoint: bool = False


INITIAL = Settings()


def evolve(settings: Settings, event: SettingsChanged) -> Settings:
    """Return the settings with those that the event names set."""
    members = asdict(event).items()
    return replace(settings, **{name: value for name, value in members if value is not UNSET})
