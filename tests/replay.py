"""Is a database what its log says? The log is folded from zero into a scratch database.

The scratch database is an embedded one, whatever the back end of the original is, and the events
are folded in batches of other sizes than they were recorded in. What must come out the same:

- each entry's text, and the columns beside it;
- the head's size, time, control count and the frontier of the tree, and its stored subtrees;
- every row of every view's live generation.

The log must be quiet while it is compared.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from firmtrail import device, events
from firmtrail.events import REPORTS, Recorded
from firmtrail.eventstore import log
from firmtrail.eventstore.database import Database, Row
from firmtrail.projections import device_current, device_history, fold
from tests.databases import new_log, opened, read, sqlite_template

VIEW_OF_TABLE = {
    "device_current": "device_current",
    "device_attributes": "device_attributes",
    "device_history": "device_history",
    "fleet_versions": "fleet_versions",
    "fleet_moves": "fleet_versions",
}
BATCH_SIZES = (1, 2, 3, 5, 200)
GENERATIONS = dict.fromkeys(fold.REVISIONS, 1)

_EVENTS = """\
SELECT position, recorded_at_ms, stream, event_id
FROM events
WHERE log_id = $1
ORDER BY position"""

_SUBTREES = """\
SELECT level, number, hash
FROM subtrees
WHERE log_id = $1
ORDER BY level, number"""

_ROWS = """\
SELECT *
FROM {table}
WHERE log_id = $1
    AND generation = (SELECT generation FROM views WHERE log_id = $1 AND name = '{view}')"""


async def differences(db: Database, log_id: int) -> list[str]:
    """What of the log's head, columns and views the log itself does not say; empty: all is well."""
    head = await log.head(db, log_id)
    texts = [text async for _, _, text in _entries(db, log_id, head.size)]
    recorded = [events.decode(position, text) for position, text in enumerate(texts)]
    return [
        *await _of_tree(db, head, recorded, texts),
        *await _of_columns(db, log_id, recorded),
        *await _of_views(db, log_id, recorded),
    ]


async def _entries(db: Database, log_id: int, size: int) -> AsyncIterator[tuple[int, int, str]]:
    async for page in log.read(db, log_id, 0, size):
        for entry in page:
            yield entry


async def _of_tree(
    db: Database, head: log.Head, recorded: list[Recorded], texts: list[str]
) -> list[str]:
    empty = head._replace(size=0, frontier=(), control_count=0, recorded_at_ms=0)
    entries = [
        log.Entry(event.stream, event.event_id, text, event.event.IS_CONTROL)
        for event, text in zip(recorded, texts, strict=True)
    ]
    times = [event.recorded_at_ms for event in recorded]
    expected, completed = log.extended(empty, entries, times[-1] if times else 0)
    stored = [tuple(row) for row in await read(db, _SUBTREES, head.log_id)]
    rows = sorted((level, number, node.hex()) for level, number, node in completed)
    return [
        *([f"log_heads: {head} instead of {expected}"] if head != expected else []),
        *(["events: a time is before the one before it"] if times != sorted(times) else []),
        *_compare("subtrees", stored, rows),
    ]


async def _of_columns(db: Database, log_id: int, recorded: list[Recorded]) -> list[str]:
    expected = [
        (event.position, event.recorded_at_ms, event.stream, event.event_id) for event in recorded
    ]
    return _compare("events", [tuple(row) for row in await read(db, _EVENTS, log_id)], expected)


async def _of_views(db: Database, log_id: int, recorded: list[Recorded]) -> list[str]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scratch.db"
        path.write_bytes(sqlite_template())
        async with opened(f"sqlite:///{path}") as scratch:
            scratch_id = await new_log(scratch)
            for batch in _batches(recorded):
                await _fold(scratch, scratch_id, batch)
            return [
                difference
                for table in VIEW_OF_TABLE
                for difference in _compare(
                    table, await _rows(db, log_id, table), await _rows(scratch, scratch_id, table)
                )
            ]


def _batches(recorded: list[Recorded]) -> Iterator[list[Recorded]]:
    remaining = iter(recorded)
    for size in cycle(BATCH_SIZES):
        batch = list(islice(remaining, size))
        if not batch:
            return
        yield batch


async def _fold(db: Database, log_id: int, batch: list[Recorded]) -> None:
    """Fold some events as one commit does, without its guesses at what may be late."""
    named = {event.stream.removeprefix("device/") for event in batch}
    places = [
        (name, device.placed(device.DeviceState(name), event).place)
        for event in batch
        if isinstance(event.event, REPORTS)
        for name in [event.stream.removeprefix("device/")]
    ]
    batch_fold = fold.Fold()
    async with db.transaction() as tx:
        current, later = await tx.run(
            device_current.load(log_id, 1, named), device_history.later(log_id, 1, places)
        )
        batch_fold.states.update(device_current.states(current))
        batch_fold.add_later(places, later)
        for event in batch:
            batch_fold.apply(event)
        await tx.run(*batch_fold.statements(log_id, GENERATIONS))


async def _rows(db: Database, log_id: int, table: str) -> list[tuple[object, ...]]:
    rows: list[Row] = await read(db, _ROWS.format(table=table, view=VIEW_OF_TABLE[table]), log_id)
    return sorted((tuple(row)[2:] for row in rows), key=repr)


def _compare(
    table: str, stored: Sequence[tuple[object, ...]], expected: Sequence[tuple[object, ...]]
) -> list[str]:
    missing, surplus = set(expected) - set(stored), set(stored) - set(expected)
    found = [f"{table} lacks {row}" for row in sorted(missing, key=repr)]
    found += [f"{table} has {row}" for row in sorted(surplus, key=repr)]
    if not found and stored != expected:
        found.append(f"{table} has the same row twice, or another order")
    return found
