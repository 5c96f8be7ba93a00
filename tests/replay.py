"""Compares a database with its log, which is folded from position 0 into a scratch database.

The scratch database is an embedded one, whatever the back end of the original is, and the events
are folded in batches of other sizes than they were recorded in. These must be the same:

- each entry's text, and the columns next to it;
- the head's size, time, control count and the frontier of the tree, and its stored subtrees;
- every row of every view's live generation.

The log must be quiet while it is compared.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

from firmtrail.database.database import Database
from firmtrail.events.entry import decode
from firmtrail.events.event import Recorded
from firmtrail.eventstore import lineage, log
from firmtrail.projections import fold
from firmtrail.rebuilding import compare
from firmtrail.rebuilding.compare import Difference
from firmtrail.rebuilding.refold import Views, refold
from tests.databases import new_log, opened, read, sqlite_template

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


async def differences(db: Database, log_id: int) -> list[str]:
    """Returns what differs from the log in its head, columns and views; empty if nothing does."""
    head = await log.head(db, log_id)
    texts = [text async for _, _, text in _entries(db, log_id, head.size)]
    recorded = [decode(position, text) for position, text in enumerate(texts)]
    return [
        *await _of_tree(db, head, recorded, texts),
        *await _of_columns(db, log_id, recorded),
        *await _of_views(db, log_id, head.size),
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
        log.NewEntry(event.stream, event.event_id, text, event.event.IS_CONTROL)
        for event, text in zip(recorded, texts, strict=True)
    ]
    times = [event.recorded_at_ms for event in recorded]
    expected, completed = log.after_append(empty, entries, times[-1] if times else 0)
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


async def _of_views(db: Database, log_id: int, size: int) -> list[str]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scratch.db"
        path.write_bytes(sqlite_template())
        async with opened(f"sqlite:///{path}") as scratch:
            views = Views[Database](scratch, await new_log(scratch), GENERATIONS)
            for span in _spans(await lineage.first_position(db, log_id), size):
                async for _ in refold(db, log_id, views, span):
                    pass
            live = Views(db, log_id, await generations(db, log_id))
            return [_line(difference) async for difference in compare.differences(views, live)]


def _spans(start: int, size: int) -> Iterator[range]:
    for batch in cycle(BATCH_SIZES):
        if start >= size:
            return
        yield range(start, min(start + batch, size))
        start += batch


async def generations(db: Database, log_id: int) -> dict[str, int]:
    """Returns the live generation of each view."""
    return {name: generation for name, _, generation in await db.read(fold.live(log_id))}


def _line(difference: Difference) -> str:
    return f"{difference.table} has {difference.found} instead of {difference.expected}"


def _compare(
    table: str, stored: Sequence[tuple[object, ...]], expected: Sequence[tuple[object, ...]]
) -> list[str]:
    missing, surplus = set(expected) - set(stored), set(stored) - set(expected)
    found = [f"{table} lacks {row}" for row in sorted(missing, key=repr)]
    found += [f"{table} has {row}" for row in sorted(surplus, key=repr)]
    if not found and stored != expected:
        found.append(f"{table} has the same row twice, or another order")
    return found
