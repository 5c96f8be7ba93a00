"""What are a project's settings? The fold of its SettingsChanged events."""

from collections.abc import Iterable

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace

from firmtrail import events
from firmtrail.events import SettingsChanged
from firmtrail.eventstore import log
from firmtrail.eventstore.database import Database


class Settings(msgspec.Struct, frozen=True):
    """A new project's settings."""

    follow_latest: bool = False
    poll_after_s: int = 300
    max_attempts: int = 3
    public_checkpoint: bool = False


INITIAL = Settings()


def stream(project: str) -> str:
    return f"project/{project}"


def evolve(settings: Settings, event: SettingsChanged) -> Settings:
    """Return the settings with those that the event names set."""
    members = asdict(event).items()
    return replace(settings, **{name: value for name, value in members if value is not UNSET})


async def current(db: Database, log_id: int, project: str) -> Settings:
    """Return the project's settings as its log has them."""
    rows = await log.read_stream(db, log_id, stream(project))
    return fold(events.decode(position, text).event for position, _, text in rows)


def fold(history: Iterable[events.Event]) -> Settings:
    settings = INITIAL
    for event in history:
        if isinstance(event, SettingsChanged):
            settings = evolve(settings, event)
    return settings
