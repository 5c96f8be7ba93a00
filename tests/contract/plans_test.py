"""Postgres finds the rows that a commit names by their keys, whatever its statistics are.

A plan that reads all of a log for each commit gives the right rows, but takes longer the longer the
log is. So these tests count the rows that a transaction fetched, and not its time.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from firmtrail import projections, rebuilding
from firmtrail.database.database import Database, Statement
from firmtrail.eventstore import log
from firmtrail.projections import (
    check_in,
    device_asks,
    device_current,
    device_history,
    device_pages,
    fleet_labels,
    fleet_past,
    fleet_versions,
    fold,
    history_lines,
    history_pages,
    releases,
    rollout_failures,
    rollouts,
)
from firmtrail.projections.fleet_past import Past
from firmtrail.projections.history_pages import HistoryRequest
from firmtrail.rebuilding import generations
from firmtrail.rebuilding.rebuild import rebuild
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.rollout import RolloutState
from tests.databases import new_log, opened, write
from tests.fleet import NOON_MS, register, report
from tests.postgres_server import PostgresServer

DEVICES = [f"d{number}" for number in range(20)]
REPORTS = 1_000
NAMED = DEVICES[:12]

_FETCHED = Statement("""\
SELECT CAST(coalesce(sum(coalesce(idx_tup_fetch, 0) + seq_tup_read), 0) AS bigint)
FROM pg_stat_xact_user_tables
WHERE relname IN ('events', 'device_current', 'device_history')""")
"""Counts the rows that this connection has fetched so far. They may include rows of earlier
transactions, so a test subtracts two counts."""


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[Database]:
    """Opens a Postgres: SQLite keeps no statistics that these tests could spoil."""
    async with opened(postgres_url) as db:
        yield db


def of_a_commit(log_id: int, generation: int) -> dict[str, Statement]:
    """Returns the reads with which a commit begins."""
    late = [(device, NOON_MS) for device in NAMED]
    return {
        "identities": log.find(log_id, [(f"device/{device}", "s.1") for device in NAMED]),
        "devices": device_current.load(log_id, generation, NAMED),
        "later": device_history.later(log_id, generation, late),
    }


async def fill(recorder: Recorder, log_id: int) -> None:
    await register(recorder, log_id, *DEVICES)
    for start in range(0, REPORTS, 100):
        sent = [
            report(device=DEVICES[n % len(DEVICES)], occurred_at_ms=NOON_MS + n + 1)
            for n in range(start, start + 100)
        ]
        await recorder.report(log_id, sent)


async def fetched(db: Database, log_id: int, generation: int = 1) -> dict[str, int]:
    """Returns how many rows each statement fetches, each in a transaction of its own."""
    counts = {}
    for name, statement in of_a_commit(log_id, generation).items():
        async with db.transaction() as tx:
            [[before]], _, [[after]] = await tx.run(_FETCHED, statement, _FETCHED)
            counts[name] = after - before
    return counts


def are_few(counts: dict[str, int]) -> bool:
    """Returns whether at most two rows were fetched for each device: the wanted one, and one that
    identifies it."""
    return max(counts.values()) <= 2 * len(NAMED)


async def test_plans_made_before_the_first_row_are_good_when_there_are_many(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    for _ in range(6):  # six times, after which Postgres may use a generic plan
        await fetched(db, log_id)
    await fill(recorder, log_id)
    counts = await fetched(db, log_id)
    assert are_few(counts), counts


async def test_a_log_without_statistics_is_not_read_whole(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    await fill(recorder, log_id)
    await write(db, "ANALYZE")
    unknown = await new_log(db, "other")
    await fill(recorder, unknown)
    counts = await fetched(db, unknown)
    assert are_few(counts), counts


async def test_a_generation_without_statistics_is_not_read_whole(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    await fill(recorder, log_id)
    await write(db, "ANALYZE")
    build = await db.play(generations.claim, log_id, frozenset(fold.REVISIONS), "me", 0)
    async for _ in rebuild(db, build):
        pass
    counts = await fetched(db, log_id, build.generation)
    assert are_few(counts), counts


async def test_a_page_of_devices_is_not_sorted_from_all_devices(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    for start in range(0, 3_000, 1_000):
        await register(recorder, log_id, *[f"d{n}" for n in range(start, start + 1_000)])
    async with db.snapshot() as snapshot:
        [[before]] = await snapshot.read(_FETCHED)
        found = (
            await device_pages.page(
                snapshot, (log_id, "acme"), device_current.Filter(), after="", limit=10
            )
        ).devices
        [[after]] = await snapshot.read(_FETCHED)
    assert len(found) == 10
    assert after - before <= 2 * len(found)


DEVICES_OF_MANY, REPORTS_EACH = 6_000, 10
PAGES_EACH_MAX = 150
"""How many index and table pages an answer may read for each of its devices: a few times those of
its reports. The index of all reports has several times as many."""

_MANY = (
    """\
INSERT INTO fleet_labels (log_id, generation, label, model, version, devices)
SELECT {log_id}, 1, 'cohort/c' || d, 'm', '1.0.' || v, 1
FROM generate_series(0, {devices} - 1) AS d, generate_series(0, 9) AS v""",
    """\
INSERT INTO device_current (
    log_id, generation, device, model, tags, decommissioned, version, run_place, run_position,
    last_place, last_position, status)
SELECT {log_id}, 1, 'd' || lpad(d::text, 6, '0'), 'm', '', 0, '1.0.1', r, r * {devices} + d,
    r, r * {devices} + d, 'installed'
FROM generate_series(0, {devices} - 1) AS d, (SELECT {reports} - 1 AS r) AS last""",
    """\
INSERT INTO device_attributes (
    log_id, generation, device, position, model, tags, decommissioned)
SELECT {log_id}, 1, 'd' || lpad(d::text, 6, '0'), 0, 'm', '', 0
FROM generate_series(0, {devices} - 1) AS d""",
    """\
INSERT INTO device_history (
    log_id, generation, device, place, position, moves, version, status, time_ms, recorded_at_ms,
    late, detailed)
SELECT {log_id}, 1, 'd' || lpad(d::text, 6, '0'), r, r * {devices} + d, 1, '1.0.' || r % 2,
    'installed', r, r, 0, 0
FROM generate_series(0, {reports} - 1) AS r, generate_series(0, {devices} - 1) AS d""",
    """\
INSERT INTO device_offers (
    log_id, generation, device, source, version, cause, position, offered_at_ms, attempt, attempts,
    has_failed, is_counted, installing_place, outcome, outcome_position, outcome_place)
SELECT {log_id}, 1, 'd' || lpad(d::text, 6, '0'), 'r', '1.0.1', 'rollout', d, d, 1, 1, 1, 1, -1,
    CASE WHEN d % 30 = 0 THEN 'failed' ELSE 'installed' END, {devices} + d, 1
FROM generate_series(0, {devices} - 1) AS d""",
    """\
INSERT INTO attribute_pairs (project, pair, device)
SELECT 'acme', pair, 'd' || lpad(d::text, 6, '0')
FROM generate_series(0, {devices} - 1) AS d,
    (VALUES ('all', 1), ('some', 300)) AS pairs (pair, every)
WHERE d % every = 0""",
    "ANALYZE",
)

_PAGES = Statement("""\
SELECT CAST(sum(pg_stat_get_xact_blocks_fetched(oid)) AS bigint)
FROM pg_class
WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace""")
"""Counts the pages that this connection has read so far, from memory or not."""


type Read = Callable[[Database, int], Awaitable[object]]

FAILED_ROLLOUT = RolloutState(
    id="r",
    model="m",
    version="1",
    reach=1,
    position=0,
    started_at_ms=0,
    phase_position=0,
    phase_at_ms=0,
    resumed_position=0,
)
DEVICE = "d000007"
FEW = [f"d{n:06}" for n in range(10)]


def _reads(make: Callable[..., Statement], *args: object) -> Read:
    """Returns a read of the statement that `make` makes for one (log_id, …)."""
    return lambda db, log_id: db.read(make([(log_id, *args)]))


async def _page_saying(db: Database, log_id: int, *pairs: str) -> object:
    which = device_current.Filter(pairs=pairs)
    return await device_pages.page(db, (log_id, "acme"), which, after="d000001", limit=20)


LIVE_READS: dict[str, tuple[Read, int]] = {  # name -> the read, and how many devices it answers for
    "a list as of a size": (
        lambda db, log_id: fleet_past.page(
            db, Past(log_id, 40_000), device_current.Filter(), after="", limit=20
        ),
        fleet_past.CHUNK_DEVICES,
    ),
    "a list at a time": (
        lambda db, log_id: fleet_past.page(
            db, Past(log_id, 40_000, 5), device_current.Filter(), after="", limit=20
        ),
        fleet_past.CHUNK_DEVICES,
    ),
    "devices as of a size": (
        lambda db, log_id: fleet_past.states(db, Past(log_id, 40_000), FEW),
        len(FEW),
    ),
    "a list by an attribute that few devices have": (
        lambda db, log_id: _page_saying(db, log_id, "some"),
        20,
    ),
    "a list by an attribute that all devices have": (
        lambda db, log_id: _page_saying(db, log_id, "all"),
        20,
    ),
    "a list by two attributes": (lambda db, log_id: _page_saying(db, log_id, "some", "all"), 20),
    "a device and what it says": (_reads(check_in.load_saying, DEVICE), 1),
    "the time zones of a page of devices": (
        lambda db, log_id: check_in.zones(db, log_id, FEW),
        len(FEW),
    ),
    "a history": (
        lambda db, log_id: history_pages.pages(db, [HistoryRequest(log_id, DEVICE, lines_max=51)]),
        1,
    ),
    "last reports": (
        lambda db, log_id: db.read(
            history_pages.last_reports(
                [HistoryRequest(log_id, name, 40_000, moves=0) for name in FEW]
            )
        ),
        len(FEW),
    ),
    "the versions run before": (_reads(device_history.runs, DEVICE, "1.0.1", history_lines.END), 1),
    "a device": (_reads(device_current.load_live, DEVICE), 1),
    "a check-in": (_reads(check_in.load, DEVICE), 1),
    "releases": (lambda db, log_id: db.read(releases.load_with_texts(log_id)), 1),
    "releases of all projects": (lambda db, _: releases.everywhere(db), 1),
    "rollouts": (rollouts.texts, 1),
    "projects with rollouts": (lambda db, _: rollouts.everywhere(db, 100), 1),
    "the failures of a rollout": (
        lambda db, log_id: rollout_failures.newest(db, log_id, FAILED_ROLLOUT),
        rollout_failures.FAILURES_MAX // 10,
    ),
    "the number of failing devices": (
        lambda db, log_id: device_current.count_failing(db, log_id, devices_max=10_000),
        1,
    ),
    "a question": (lambda db, log_id: device_asks.one(db, log_id, (DEVICE, "q")), 1),
    "the devices of a label": (
        lambda db, log_id: fleet_labels.counts(db, log_id, fleet_labels.of_cohort("c77")),
        1,
    ),
    "versions of all projects": (lambda db, _: fleet_versions.everywhere(db), 1),
}


@pytest.fixture(scope="module")
async def many_url(postgres: PostgresServer, postgres_template: str) -> AsyncIterator[str]:
    """Makes a log of so many reports that a read of all of it is noticed."""
    with postgres.fresh_database(postgres_template) as url:
        async with opened(url) as db:
            log_id = await new_log(db)
            for text in _MANY:
                counts = {"log_id": log_id, "devices": DEVICES_OF_MANY, "reports": REPORTS_EACH}
                await write(db, text.format(**counts))
        yield url


@pytest.mark.parametrize("name", LIVE_READS)
async def test_a_read_of_the_live_generation_reads_no_more_than_it_answers(
    many_url: str, name: str
) -> None:
    """Counts index pages too: an index that is read to its end fetches few rows."""
    read, devices = LIVE_READS[name]
    async with opened(many_url) as db, db.snapshot() as snapshot:
        [[log_id]] = await snapshot.read(Statement("SELECT max(log_id) FROM log_heads LIMIT 1"))
        # The first read also reads the catalog, whose pages are not the answer's.
        await read(cast("Database", snapshot), log_id)
        [[before]] = await snapshot.read(_PAGES)
        await read(cast("Database", snapshot), log_id)
        [[after]] = await snapshot.read(_PAGES)
    assert after - before <= devices * PAGES_EACH_MAX, after - before


def test_no_query_joins_the_generation() -> None:
    """PostgreSQL before 18 may join it last: see `view.generation_of`."""
    rooms = [Path(room.__path__[0]) for room in (projections, rebuilding)]
    sources = {path.name: path.read_text() for room in rooms for path in room.glob("*.py")}
    joining = {name for name, text in sources.items() if re.search(r"\bJOIN views\b", text)}
    what = "they compare revisions and generations, and read no rows of a view"
    assert joining == {"controls.py", "fitness.py"}, what
