"""The view of a project's rollouts and rollbacks: the state that the rules fold, one row a rollout.

`recent_…` count the devices that the rollout is meant for by their latest outcome since its start
or last resume, as long as it may pause itself over them: kept in the row, so that a commit needs no
recount. A device that is decommissioned or moves away is no longer counted, until it comes back.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from firmtrail.database.database import Database, Given, Reader, Row, Statement, Value
from firmtrail.events.entry import decode
from firmtrail.events.steering import RolloutPaused
from firmtrail.eventstore import continued
from firmtrail.projections.view import Table, generation_of
from firmtrail.rules.rollout import Recent, RolloutState

NAME = "rollouts"
REVISION = 2
TABLES: tuple[Table, ...] = (Table(NAME, ("rollout",)),)

_STATE = """\
rollout.rollout, rollout.model, rollout.version, rollout.reach, rollout.cohort, rollout.tag,
    rollout.failed_percent, rollout.min_reports, rollout.bad_version, rollout.fallback,
    rollout.phase, rollout.position, rollout.started_at_ms, rollout.phase_position,
    rollout.phase_at_ms, rollout.resumed_position, rollout.silent_after_s"""
"""A rollout's columns, in the order of `Rollout`."""

_LOAD = f"""\
SELECT {_STATE}, rollout.recent_installed, rollout.recent_failed
FROM rollouts AS rollout
WHERE rollout.log_id = $1 AND rollout.generation = $2
ORDER BY rollout.position"""

_RECENT = """\
SELECT rollout, recent_installed, recent_failed
FROM rollouts
WHERE log_id = $1 AND generation = $2 AND min_reports IS NOT NULL AND phase = 'running'
ORDER BY rollout"""

_SAVE = """\
INSERT INTO rollouts (
    log_id, generation, rollout, model, version, reach, cohort, tag, failed_percent, min_reports,
    bad_version, fallback, phase, position, started_at_ms, phase_position, phase_at_ms,
    resumed_position, silent_after_s, recent_installed, recent_failed)
SELECT
    $1, $2, given.rollout, given.model, given.version, given.reach, given.cohort, given.tag,
    given.failed_percent, given.min_reports, given.bad_version, given.fallback, given.phase,
    given.position, given.started_at_ms, given.phase_position, given.phase_at_ms,
    given.resumed_position, given.silent_after_s, given.recent_installed, given.recent_failed
FROM given
WHERE TRUE
ON CONFLICT (log_id, generation, rollout) DO UPDATE SET
    reach = excluded.reach,
    phase = excluded.phase,
    phase_position = excluded.phase_position,
    phase_at_ms = excluded.phase_at_ms,
    resumed_position = excluded.resumed_position,
    recent_installed = excluded.recent_installed,
    recent_failed = excluded.recent_failed"""

_COLUMNS = """\
rollout text, model text, version text, reach bigint, cohort text, tag text, \
failed_percent bigint, min_reports bigint, bad_version text, fallback text, phase text, \
position bigint, started_at_ms bigint, phase_position bigint, phase_at_ms bigint, \
resumed_position bigint, silent_after_s bigint, recent_installed bigint, recent_failed bigint"""

_TEXTS = f"""\
SELECT
    log_heads.size,
    rollout.rollout,
    CASE WHEN start.entry LIKE '%"reason":"%' THEN coalesce(start_text.text, 'erased') END,
    CASE WHEN phase.entry LIKE '%"reason":"%' THEN coalesce(phase_text.text, 'erased') END,
    CASE WHEN phase.entry LIKE '%"failed":%' THEN phase.entry END
FROM log_heads
LEFT JOIN rollouts AS rollout
    ON rollout.log_id = $1 AND rollout.generation = {generation_of(NAME)}
{continued.joined("events", "start", "rollout.position")}
{continued.joined("events", "phase", "rollout.phase_position")}
{continued.joined("texts", "start_text", "rollout.position")}
{continued.joined("texts", "phase_text", "rollout.phase_position")}
WHERE log_heads.log_id = $1
ORDER BY rollout.rollout"""


_WATCHED = f"""\
SELECT log_heads.log_id, log_heads.project, rollout.rollout, rollout.silent_after_s
FROM log_heads
JOIN rollouts AS rollout
    ON rollout.log_id = log_heads.log_id
    AND rollout.generation = {generation_of(NAME, "log_heads.log_id")}
WHERE log_heads.closed = 0
    AND rollout.silent_after_s IS NOT NULL
    AND rollout.phase <> 'aborted'
ORDER BY log_heads.log_id, rollout.rollout"""


class Waiting(NamedTuple):
    """A rollout that waits only so long for the devices that it was offered to."""

    log_id: int
    project: str
    rollout: str
    silent_after_s: int


class Texts(NamedTuple):
    """Why a rollout was started, and why it is in its phase; "erased" where that was erased."""

    started: str | None
    phase: str | None


def load(log_id: int, generation: int) -> Statement:
    """All rollouts of the log; read it with `state` and `recent`."""
    return Statement(_LOAD, (log_id, generation))


def state(rows: Iterable[Row]) -> dict[str, RolloutState]:
    return {
        row[0]: RolloutState(**dict(zip(RolloutState.__struct_fields__, row, strict=False)))
        for row in rows
    }


def recent(rows: Iterable[Row]) -> dict[str, Recent]:
    """Out of the rows of `load` or `load_recent`."""
    return {row[0]: Recent(*row[-2:]) for row in rows}


def load_recent(log_id: int, generation: int) -> Statement:
    """Reads the counts of the rollouts that may pause themselves; read it with `recent`."""
    return Statement(_RECENT, (log_id, generation))


def save(
    log_id: int, generation: int, changed: Iterable[RolloutState], counts: Mapping[str, Recent]
) -> Statement:
    rows = [_row(each, counts.get(each.id, Recent())) for each in changed]
    return Statement(_SAVE, (log_id, generation), Given(_COLUMNS, sorted(rows)))


def _row(rollout: RolloutState, counts: Recent) -> tuple[Value, ...]:
    return (*msgspec.structs.astuple(rollout), *counts)


async def waiting(db: Database) -> list[Waiting]:
    """Returns the rollouts of all projects' newest logs that count silent devices as failed."""
    return [Waiting(*row) for row in await db.read(Statement(_WATCHED))]


async def texts(db: Reader, log_id: int) -> tuple[int, dict[str, Texts]]:
    """Returns the log's size, and what people said of each rollout."""
    rows = await db.read(Statement(_TEXTS, (log_id,)))
    found = {
        name: Texts(started, _over(own_pause) if own_pause else phase)
        for _, name, started, phase, own_pause in rows
        if name is not None
    }
    return rows[0][0], found


def _over(entry: str) -> str:
    """Why a rollout paused itself."""
    pause = decode(0, entry).event
    assert isinstance(pause, RolloutPaused)
    failed, installed = pause.failed or 0, pause.installed or 0
    return f"{failed} of {failed + installed} outcomes failed"
