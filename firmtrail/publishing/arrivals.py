"""Finds the logs that were moved here from other instances, and the keys that signed them.

Such a log keeps its origin and its checkpoints. It takes no further events, so it never needs
another signature, and this instance never signs it: no log has two origins. The log that continues
it names its key (`ProjectArrived`).
"""

from collections.abc import Iterable

from firmtrail.database.database import Reader, Statement
from firmtrail.events.entry import decode
from firmtrail.events.log import ProjectArrived
from firmtrail.publishing import checkpoint
from firmtrail.publishing.checkpoint import Verifier
from firmtrail.publishing.minimum_sizes import LogName

POSITION = 1
"""The place of the event in its log, after `LogContinued`."""

STREAM = "arrival"
"""The stream of the event is this and the name of the instance."""

SIGNED_HERE = f"""\
(log_heads.closed = 0
    OR EXISTS (
        SELECT 1
        FROM projects
        WHERE projects.project = log_heads.project AND projects.log_id > 0)
    AND NOT EXISTS (
        SELECT 1
        FROM log_heads AS later
        JOIN events AS arrival ON arrival.log_id = later.log_id AND arrival.position = {POSITION}
        WHERE later.project = log_heads.project
            AND later.number > log_heads.number
            AND arrival.stream >= '{STREAM}/'
            AND arrival.stream < '{STREAM}0'))"""
"""A condition on `log_heads`: this instance signs the log. It signs neither a log that was moved
here, nor one that is still arriving, or whose arrival was undone: its project is not here."""

_ARRIVALS = f"""\
SELECT events.position, events.entry
FROM log_heads
JOIN events ON events.log_id = log_heads.log_id AND events.position = {POSITION}
WHERE log_heads.project = $1
    AND events.stream >= '{STREAM}/'
    AND events.stream < '{STREAM}0'
ORDER BY log_heads.number
LIMIT 1000"""


def stream(key: Verifier) -> str:
    """Returns the stream of the arrival of logs that this key signed."""
    return f"{STREAM}/{instance_of(key)}"


def instance_of(key: Verifier) -> str:
    """Returns the name of the instance in the origin of a log's key."""
    return key.name.rsplit("/", 2)[0]


async def of_project(reader: Reader, project: str) -> list[ProjectArrived]:
    """Returns the arrivals of a project, the oldest first."""
    rows = await reader.read(Statement(_ARRIVALS, (project,)))
    events = [decode(position, entry).event for position, entry in rows]
    return [event for event in events if isinstance(event, ProjectArrived)]


def key_of(name: LogName, arrivals: Iterable[ProjectArrived]) -> Verifier | None:
    """Returns the key of a log that was moved here; None: this instance signs the log. The first
    arrival that names a log came from the instance that signed it."""
    for arrival in arrivals:
        if name.number <= arrival.log:
            moved = checkpoint.read_key_line(arrival.key)
            origin = checkpoint.origin(instance_of(moved), *name)
            return checkpoint.verifier(origin, moved.key)
    return None


async def key_of_log(reader: Reader, name: LogName) -> Verifier | None:
    """Reads the arrivals, and returns the same as `key_of`."""
    return key_of(name, await of_project(reader, name.project))
