"""Computes a project's settings: the fold of its SettingsChanged events."""

from collections.abc import Iterable

from firmtrail.database.database import Database
from firmtrail.events.entry import decode
from firmtrail.events.event import Event
from firmtrail.events.fleet import SettingsChanged
from firmtrail.eventstore import short_streams
from firmtrail.rules.settings import INITIAL, Settings, evolve


def stream(project: str) -> str:
    return f"project/{project}"


async def current(db: Database, log_id: int, project: str) -> Settings:
    """Returns the project's settings as its log has them."""
    rows = await short_streams.read(db, log_id, stream(project))
    return fold(decode(position, text).event for position, _, text in rows)


def fold(history: Iterable[Event]) -> Settings:
    settings = INITIAL
    for event in history:
        if isinstance(event, SettingsChanged):
            settings = evolve(settings, event)
    return settings
