"""Reads the devices as they were after the log's first N events, and the versions that they ran at
a time.

It has no table of its own: it reads device_attributes and device_history, which keep every past.
Each function answers for the log as it was at a size. That never changes again, so its queries need
no common snapshot.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from firmtrail.database.database import Given, Reader, Statement, Value
from firmtrail.projections import device_pages, history_pages
from firmtrail.projections.device_attributes import ATTRIBUTES, registered
from firmtrail.projections.device_current import Filter
from firmtrail.projections.history_pages import HistoryRequest
from firmtrail.projections.view import generation_of, selected
from firmtrail.rules.device import FAILING, DeviceState

CHUNK_DEVICES = 500
CHUNKS_MAX = 4
"""Limits the chunks whose past one page reads; the first is as large as the page."""

_ATTRIBUTES = f"""\
SELECT
    given.device, {selected(ATTRIBUTES, "known")}
FROM given
CROSS JOIN device_attributes AS known
WHERE known.log_id = $1
    AND known.generation = {generation_of("device_attributes")}
    AND known.device = given.device
    AND known.position = (
        SELECT max(last.position)
        FROM device_attributes AS last
        WHERE last.log_id = $1
            AND last.generation = known.generation
            AND last.device = given.device
            AND last.position < $2)"""

_CANDIDATES = f"""\
{device_pages.LOOKED}
SELECT looked.last, found.device
FROM looked
LEFT JOIN (
    SELECT DISTINCT {{place}} AS device
    FROM {{ids}}
    WHERE {{conditions}}
        AND {{place}} >= {{begin}}
        AND {{place}} <= coalesce((SELECT last FROM looked), {{end}})
    ORDER BY {{place}}
    LIMIT {{limit}}) AS found ON TRUE
ORDER BY found.device"""

_EVER_RAN = f"""\
EXISTS (
        SELECT 1
        FROM device_history AS report
        WHERE report.log_id = $1
            AND report.generation = {generation_of("device_history")}
            AND report.device = {{place}}
            AND report.moves = 1
            AND report.version = $n)"""


class Past(NamedTuple):
    """Selects a past of a log: its first `stop` events, and in them the versions that ran at
    `at_ms`."""

    log_id: int
    stop: int
    at_ms: int | None = None


class PastPage(NamedTuple):
    """Holds devices as they were; `last` is the device after which the next page begins, None at
    the end of the list."""

    devices: list[DeviceState]
    last: str | None
    looked_at: int = 0
    """How many devices it looked at, at least, if it ended because these are as many as it may."""


async def states(db: Reader, past: Past, devices: Sequence[str]) -> dict[str, DeviceState]:
    """Returns the devices that were registered by then, as they were. Members that only rules need
    stay unset."""
    if not devices:
        return {}
    given = Given("device text", [(name,) for name in devices])
    rows = await db.read(Statement(_ATTRIBUTES, (past.log_id, past.stop), given))
    known = {state.device: state for state in map(registered, rows)}
    names = list(known)
    requests = [HistoryRequest(past.log_id, name, past.stop, past.at_ms) for name in names]
    latest = await history_pages.pages(db, requests)
    moves = 0 if past.at_ms is None else 1
    lasts = await db.read(
        history_pages.last_reports([one._replace(moves=moves) for one in requests])
    )
    for name, shown in zip(names, latest, strict=True):
        for entry in shown.entries:
            version, since_ms, previous = entry.version, entry.time_ms, entry.previous_version
            known[name] = replace(
                known[name], version=version, since_ms=since_ms, previous_version=previous
            )
    for n, status, clock in lasts:
        known[names[n]] = replace(known[names[n]], status=status, clock=clock)
    return known


async def page(db: Reader, past: Past, which: Filter, *, after: str, limit: int) -> PastPage:
    """Returns the next devices after `after`, by id, that the filter selects as of then. Looks at a
    bounded number of devices, so a page may have fewer than `limit`, or none, and still name a next
    one. `silent_since_ms` has no past and must not be set."""
    assert which.silent_since_ms is None
    found: list[DeviceState] = []
    looked_at = 0
    for number in range(CHUNKS_MAX):
        size = CHUNK_DEVICES if number else min(limit + 1, CHUNK_DEVICES)
        names, last = await _candidates(db, past.log_id, which, after, limit=size)
        then = await states(db, past, names)
        found += [then[name] for name in names if name in then and matches(which, then[name])]
        if len(found) > limit:
            return PastPage(found[:limit], found[limit - 1].device)
        if last is None:
            return PastPage(found, None)
        if len(names) < size:
            return PastPage(found, last, device_pages.LOOKED_AT_MAX)
        after, looked_at = last, looked_at + len(names)
    return PastPage(found, after, looked_at)


async def _candidates(
    db: Reader, log_id: int, which: Filter, after: str, *, limit: int
) -> tuple[list[str], str | None]:
    """Returns the next devices that the filter may select, those that it can't rule out by facts
    that never change; and the last one that was looked at, if more may follow."""
    args: list[Value] = [log_id]
    source = device_pages.source_of(Filter(cohort=which.cohort), args)
    conditions = [source.drive]
    if which.version is not None:
        args.append(which.version)
        conditions.append(_EVER_RAN.format(place=source.place).replace("$n", f"${len(args)}"))
    look = (after, device_pages.LOOKED_AT_MAX)
    parts = device_pages.looked_parts(source, which.prefix, look, args)
    args.append(limit)
    selecting = {"conditions": " AND ".join(conditions), "limit": f"${len(args)}"}
    text = _CANDIDATES.format(**parts, **selecting)
    rows = await db.read(Statement(text, tuple(args)))
    names = [device for _, device in rows if device is not None]
    return names, names[-1] if len(names) == limit else rows[0][0]


def matches(which: Filter, state: DeviceState) -> bool:
    """Returns whether the filter selects a device in this state; `_candidates` checks `prefix`."""
    wanted = (
        (which.version, state.version),
        (which.model, state.model),
        (which.cohort, state.cohort),
        (which.failing, state.status in FAILING),
        (which.decommissioned, state.decommissioned),
    )
    if which.tag is not None and which.tag not in state.tags:
        return False
    if which.outdated is not None and not which.outdated.finds(state):
        return False
    return all(value is None or value == actual for value, actual in wanted)
