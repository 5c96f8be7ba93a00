"""Pages of a history are together all of it, and cost as much for a device of many reports."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmtrail.database import sqlite_connection
from firmtrail.database.database import Database, Given, Row, Statement
from firmtrail.database.sqlite import SQLite
from firmtrail.eventstore import log
from firmtrail.projections import device_history, history_pages, view
from firmtrail.projections.history_lines import HistoryEntry
from firmtrail.projections.history_pages import EVERY_LINE, Histories, HistoryRequest
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.history import Intent, change_of
from tests.databases import new_log, read
from tests.fleet import Step, live, register
from tests.strategies import DEVICES, ordered_lives

EXAMPLES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

_REPORTS = """\
SELECT place, position, version, moves, pinned, ordered, order_position
FROM device_history
WHERE log_id = $1 AND device = $2 AND position < $3 AND moves >= $4
ORDER BY place, position
LIMIT 1000"""


@pytest.fixture
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes looks so short that a page needs several, and SQL merges the later ones."""
    monkeypatch.setattr(history_pages, "SHARED_REPORTS_MAX", 3)
    monkeypatch.setattr(history_pages, "MORE_REPORTS", 1)
    monkeypatch.setattr(history_pages, "_NEXT_LOOK", 2)
    monkeypatch.setattr(history_pages, "_MERGED_BEYOND", 4)


async def plainly(db: Database, asked: HistoryRequest) -> list[tuple[object, ...]]:
    """Returns (position, version before, change) of each line, the newest first, by reading all."""
    lines: list[tuple[object, ...]] = []
    followed: set[int] = set()
    before: list[str] = []
    reports = await read(db, _REPORTS, asked.log_id, asked.device, asked.stop, asked.moves)
    for _, position, version, moves, pinned, ordered, order_position in reports:
        intent = Intent(pinned, None if order_position in followed else ordered)
        followed.add(order_position)
        if not moves:
            lines.append((position, None, None))
        elif before[-1:] != [version]:
            previous, before_previous = [None, None, *before][:-3:-1]
            change = change_of(version, previous, before_previous, intent)
            lines.append((position, previous, change))
            before.append(version)
    return lines[::-1]


def shown(entry: HistoryEntry) -> tuple[object, ...]:
    return entry.position, entry.previous_version, entry.change


@pytest.mark.usefixtures("short_looks")
@EXAMPLES
@given(life=ordered_lives(), lines_max=st.integers(1, 4), data=st.data())
async def test_pages_of_any_size_are_together_all_lines(
    db: Database, recorder: Recorder, life: list[Step], lines_max: int, data: st.DataObject
) -> None:
    log_id = await new_log(db)
    await register(recorder, log_id, *DEVICES, model="m")
    await live(recorder, log_id, life)
    size = (await log.head(db, log_id)).size
    stop = data.draw(st.integers(3, size))
    histories = Histories(db)
    for device, moves in product(DEVICES, (0, 1)):
        asked = HistoryRequest(log_id, device, stop, moves=moves, lines_max=lines_max)
        expected = await plainly(db, asked)
        [whole] = await history_pages.pages(db, [asked._replace(lines_max=EVERY_LINE)])
        assert [shown(entry) for entry in whole.entries] == expected
        found: list[HistoryEntry] = []
        while page := (await histories.page(asked)).entries:
            assert len(page) <= lines_max
            found += page
            asked = asked._replace(place=page[-1].place, position=page[-1].position)
        assert found == whole.entries


LONG, SHORT = 20_000, 60
LINES = 11
SPENT = 1.5
"""How many times as much as a page of a short history one of a long history may cost: an index of
more rows is deeper. PostgreSQL before 18 also reads the index to the end of the place."""

KINDS: dict[str, Callable[[int], tuple[int, str, int]]] = {
    "by time": lambda n: (n, f"1.0.{n}", 1),
    "at one place": lambda n: (7, f"1.0.{n}", 1),
    "with progress": lambda n: (n, f"1.0.{n // 2}", n % 2),
    "as of": lambda n: (n, f"1.0.{n}", 1),
    "at a time": lambda n: (n, f"1.0.{n}", 1),
    "steady": lambda n: (n, f"1.0.{n // (LONG // 2)}", 1),
}
"""Each kind of device gets from a number the (place, version, moves) of a report."""

_PAGES = Statement("""\
SELECT CAST(sum(pg_stat_get_xact_blocks_fetched(oid)) AS bigint)
FROM pg_class
WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace""")


async def send(db: Database, log_id: int, device: str, kind: str, count: int) -> None:
    """Writes the rows of as many reports, without a log of them."""
    columns = device_history.TABLE.columns
    empty = dict.fromkeys(columns)
    rows = []
    for n in range(count):
        place, version, moves = KINDS[kind](n)
        report = {"device": device, "place": place, "position": n, "version": version}
        times = {"time_ms": n, "recorded_at_ms": n, "late": 0, "detailed": 0}
        rows.append([*(empty | report | times | {"moves": moves, "status": "running"}).values()])
    text = view.insert(device_history.TABLE)
    async with db.transaction() as tx:
        await tx.run(
            Statement(text, (log_id, 1), Given(view.typed(columns), rows)),
            Statement("UPDATE log_heads SET size = $2 WHERE log_id = $1", (log_id, LONG)),
        )


class Counting:
    """Reads from an embedded file, and counts the instructions of SQLite's virtual machine."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite_connection.connect(path, writes=False)
        sqlite_connection.set_up(self._connection, writes=False)
        self.count = 0

    async def read(self, statement: Statement) -> list[Row]:
        sqlite_connection.select(self._connection, statement)  # prepares it
        self._connection.set_progress_handler(self._step, 1)
        try:
            return sqlite_connection.select(self._connection, statement)
        finally:
            self._connection.set_progress_handler(None, 1)

    def _step(self) -> int:
        self.count += 1
        return 0

    def close(self) -> None:
        self._connection.close()


async def cost(db: Database, asked: HistoryRequest) -> int:
    """Returns the instructions on SQLite, or the pages on Postgres, that reading a page takes."""
    if isinstance(db, SQLite):
        counting = Counting(db._path)
        try:
            await history_pages.pages(counting, [asked])
        finally:
            counting.close()
        return counting.count
    async with db.snapshot() as snapshot:
        await history_pages.pages(snapshot, [asked])  # reads the catalog, too
        [[before]] = await snapshot.read(_PAGES)
        await history_pages.pages(snapshot, [asked])
        [[after]] = await snapshot.read(_PAGES)
    return int(after - before)


@pytest.mark.parametrize("kind", ["by time", "at one place", "with progress"])
async def test_a_page_costs_as_much_for_a_device_of_many_reports(
    db: Database, log_id: int, kind: str
) -> None:
    await send(db, log_id, "long", kind, LONG)
    await send(db, log_id, "short", kind, SHORT)
    for moves, at in product((0, 1), (1.0, 0.5)):
        spent = {}
        for device, count in (("long", LONG), ("short", SHORT)):
            n = int(count * at)
            place, _, _ = KINDS[kind](n)
            asked = HistoryRequest(
                log_id, device, moves=moves, place=place, position=n, lines_max=LINES
            )
            [page] = await history_pages.pages(db, [asked])
            assert len(page.entries) == LINES
            spent[device] = await cost(db, asked)
        of_place = LONG // 200 if kind == "at one place" else 0
        assert spent["long"] <= SPENT * spent["short"] + of_place, (moves, at, spent)


@pytest.mark.parametrize(("kind", "each_max"), [("as of", 25), ("at a time", 30), ("steady", 200)])
async def test_a_report_that_a_page_skips_costs_little(
    db: Database, log_id: int, kind: str, each_max: int
) -> None:
    """Counts instructions on SQLite, and pages on Postgres, where many reports share one."""
    await send(db, log_id, "long", kind, LONG)
    asked = HistoryRequest(log_id, "long", lines_max=LINES)
    if kind == "as of":
        asked = asked._replace(stop=LINES)
    if kind == "at a time":
        asked = asked._replace(at_ms=LINES - 1)
    [page] = await history_pages.pages(db, [asked])
    assert len(page.entries) == (2 if kind == "steady" else LINES)
    most = each_max if isinstance(db, SQLite) else 0.25
    spent = await cost(db, asked)
    assert spent <= LONG * most, spent
