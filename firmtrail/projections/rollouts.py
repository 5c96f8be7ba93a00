"""Keeps the view of a project's rollouts and rollbacks: the state that the rules fold, one row a
rollout.

The columns `recent_…` count the devices that the rollout is meant for, by their latest outcome
since its start or last resume. They are kept as long as the rollout may pause itself over them, so
that a commit need not count again. A device that is decommissioned or moves to another model,
cohort or tag is not counted until it comes back.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, get_origin

import msgspec
from msgspec.structs import astuple

from firmtrail.database.database import Database, Given, Reader, Row, Statement
from firmtrail.events.entry import decode
from firmtrail.events.steering import PlanPhase, RolloutPaused, Window
from firmtrail.eventstore import lineage
from firmtrail.projections import view
from firmtrail.projections.view import Column, Table, columns_of, generation_of
from firmtrail.rules.plan import PlanClock
from firmtrail.rules.rollout import Recent, RolloutState

NAME = "rollouts"
REVISION = 3


def _json(kind: Any, *, is_fixed: bool = False) -> Column:
    """Returns a column that stores a value as JSON; NULL stands for the empty one."""
    return Column("text", _json_text, partial(_json_value, kind), is_fixed)


def _json_text(value: Any) -> str | None:
    return msgspec.json.encode(value).decode() if value else None


def _json_value(kind: Any, text: str | None) -> Any:
    if text is None:
        return () if get_origin(kind) is tuple else None
    return msgspec.json.decode(text, type=kind)


TABLE = Table(
    NAME,
    ("rollout",),
    columns_of("""
        rollout text, model text fixed, version text fixed, reach bigint, cohort text fixed,
        tag text fixed, failed_percent bigint fixed, min_reports bigint fixed,
        bad_version text fixed, fallback text fixed, phase text, position bigint fixed,
        started_at_ms bigint fixed, phase_position bigint, phase_at_ms bigint,
        resumed_position bigint, silent_after_s bigint fixed""")
    | {
        "plan": _json(tuple[PlanPhase, ...]),
        "clock": _json(PlanClock | None),
        "start_at_ms": Column("bigint", is_fixed=True),
        "window_times": _json(Window | None, is_fixed=True),
        "approvals": Column("bigint"),
        "approved_by": _json(tuple[str, ...]),
    }
    | columns_of("""
        started_by text fixed, release_position bigint fixed, changed_by text,
        recent_installed bigint, recent_failed bigint, recent_phase bigint,
        recent_phase_installed bigint, recent_phase_failed bigint"""),
)
"""Its columns are the members of `RolloutState`, in their order, and those of `Recent`."""
TABLES: tuple[Table, ...] = (TABLE,)

_LOAD = f"""\
SELECT {view.selected(TABLE.columns, "rollout")}
FROM rollouts AS rollout
WHERE rollout.log_id = $1 AND rollout.generation = $2
ORDER BY rollout.position"""

_RECENT = """\
SELECT
    rollout, recent_installed, recent_failed, recent_phase, recent_phase_installed,
    recent_phase_failed
FROM rollouts
WHERE log_id = $1
    AND generation = $2
    AND (min_reports IS NOT NULL AND phase = 'running' OR plan IS NOT NULL AND phase <> 'aborted')
ORDER BY rollout"""

_RECENT_OF = f"""\
SELECT
    rollout.recent_installed, rollout.recent_failed, rollout.recent_phase,
    rollout.recent_phase_installed, rollout.recent_phase_failed
FROM rollouts AS rollout
WHERE rollout.log_id = $1
    AND rollout.generation = {generation_of(NAME)}
    AND rollout.rollout = $2"""

_OF_STATE = dict(list(TABLE.columns.items())[: -len(Recent._fields)])
_members = view.encoder(_OF_STATE, astuple)


def _make(*values: Any) -> RolloutState:
    return RolloutState(**dict(zip(RolloutState.__struct_fields__, values, strict=True)))


_state_of = view.decoder(_OF_STATE, _make)
_SAVE = view.upsert(TABLE)
_COLUMNS = view.typed(TABLE.columns)

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
{lineage.join_sql("events", "start", "rollout.position")}
{lineage.join_sql("events", "phase", "rollout.phase_position")}
{lineage.join_sql("texts", "start_text", "rollout.position")}
{lineage.join_sql("texts", "phase_text", "rollout.phase_position")}
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

_EVERYWHERE = f"""\
SELECT log_heads.log_id, log_heads.control_count
FROM log_heads
WHERE log_heads.closed = 0
    AND EXISTS (
        SELECT 1
        FROM rollouts AS rollout
        WHERE rollout.log_id = log_heads.log_id
            AND rollout.generation = {generation_of(NAME, "log_heads.log_id")}
    )
ORDER BY log_heads.log_id DESC
LIMIT $1"""


class SteeredLog(NamedTuple):
    """Names the newest log of a project with rollouts, and counts its control events."""

    log_id: int
    control_count: int


class WaitingRollout(NamedTuple):
    """Names a rollout that waits a limited time for the devices to which it was offered."""

    log_id: int
    project: str
    rollout: str
    silent_after_s: int


class RolloutTexts(NamedTuple):
    """Holds the reasons given for a rollout's start and its phase; "erased" stands for an erased
    one."""

    started: str | None
    phase: str | None
    is_own_pause: bool = False
    """Whether the rollout paused itself over its failures."""


def load(log_id: int, generation: int) -> Statement:
    """Reads all rollouts of the log; `state` and `recent` decode them."""
    return Statement(_LOAD, (log_id, generation))


def state(rows: Iterable[Row]) -> dict[str, RolloutState]:
    found = [_state_of(row[: -len(Recent._fields)]) for row in rows]
    return {each.id: each for each in found}


def recent(rows: Iterable[Row]) -> dict[str, Recent]:
    """Returns the recent outcomes in the rows of `load` or `load_recent`."""
    return {row[0]: Recent(*row[-len(Recent._fields) :]) for row in rows}


def load_recent(log_id: int, generation: int) -> Statement:
    """Reads the recent outcomes of rollouts that may pause themselves; `recent` decodes them."""
    return Statement(_RECENT, (log_id, generation))


async def recent_of(db: Reader, log_id: int, rollout: str) -> Recent:
    """Returns the recent outcomes of one rollout."""
    rows = await db.read(Statement(_RECENT_OF, (log_id, rollout)))
    return Recent(*rows[0]) if rows else Recent()


def save(
    log_id: int, generation: int, changed: Iterable[RolloutState], counts: Mapping[str, Recent]
) -> Statement:
    rows = [[*_members(each), *counts.get(each.id, Recent())] for each in changed]
    rows.sort(key=lambda row: str(row[0]))
    return Statement(_SAVE, (log_id, generation), Given(_COLUMNS, rows))


async def waiting(db: Database) -> list[WaitingRollout]:
    """Returns the rollouts of all projects' newest logs that count silent devices as failed."""
    return [WaitingRollout(*row) for row in await db.read(Statement(_WATCHED))]


async def everywhere(db: Database, limit: int) -> list[SteeredLog]:
    """Returns the newest logs of the projects that have had a rollout, the newest log first."""
    return [SteeredLog(*row) for row in await db.read(Statement(_EVERYWHERE, (limit,)))]


async def texts(db: Reader, log_id: int) -> tuple[int, dict[str, RolloutTexts]]:
    """Returns the log's size, and the reasons that people gave for each rollout."""
    rows = await db.read(Statement(_TEXTS, (log_id,)))
    found = {
        name: RolloutTexts(
            started, _pause_reason(own_pause) if own_pause else phase, own_pause is not None
        )
        for _, name, started, phase, own_pause in rows
        if name is not None
    }
    return rows[0][0], found


def _pause_reason(entry: str) -> str:
    """Returns the reason of a rollout that paused itself, from the entry of its pause."""
    pause = decode(0, entry).event
    assert isinstance(pause, RolloutPaused)
    failed, installed = pause.failed or 0, pause.installed or 0
    return f"{failed} of {failed + installed} outcomes failed"
