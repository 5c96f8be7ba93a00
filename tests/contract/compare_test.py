"""Two builds of the views are compared row for row, whatever the sizes of the pages."""

import pytest

from firmtrail.database.database import Database
from firmtrail.projections import fold
from firmtrail.rebuilding import compare
from firmtrail.rebuilding.refold import Views, refold
from firmtrail.recording.recorder import Recorder
from tests.databases import new_log, write
from tests.fleet import NOON_MS, register, report
from tests.replay import generations

DEVICES = [f"d{number}" for number in range(7)]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "PAGE_ROWS", 3)


async def two_builds(db: Database, recorder: Recorder) -> tuple[Views[Database], Views[Database]]:
    """Returns the live views of a log, and the same views built from it as those of another log."""
    log_id = await new_log(db, "one")
    await register(recorder, log_id, *DEVICES)
    for device in DEVICES:
        sent = [report(device=device), report("1.1.0", device=device, occurred_at_ms=NOON_MS)]
        await recorder.report(log_id, sent)
    built = Views(db, await new_log(db, "other"), dict.fromkeys(fold.REVISIONS, 1))
    assert [stop async for stop in refold(db, log_id, built, range(21))] == [21]
    return Views(db, log_id, await generations(db, log_id)), built


async def found(
    one: Views[Database], other: Views[Database]
) -> list[tuple[str, dict[str, object], bool, bool]]:
    return [
        (table, dict(key), expected is not None, found is not None)
        async for table, key, expected, found in compare.differences(one, other)
    ]


async def test_a_build_equals_the_rows_that_were_written_live(
    db: Database, recorder: Recorder
) -> None:
    one, other = await two_builds(db, recorder)
    assert await found(one, other) == []


@pytest.mark.parametrize("device", ["d0", "d2", "d3", "d6"])
async def test_missing_surplus_and_changed_rows_are_named_by_their_keys(
    db: Database, recorder: Recorder, device: str
) -> None:
    one, other = await two_builds(db, recorder)
    where = f"WHERE device = '{device}' AND log_id = {other.log_id}"
    await write(db, f"DELETE FROM device_current {where}")
    await write(db, f"UPDATE device_attributes SET model = 'x' {where}")
    position = DEVICES.index(device)
    assert await found(one, other) == [
        ("device_current", {"device": device}, True, False),
        ("device_attributes", {"device": device, "position": position}, True, True),
    ]
    assert await found(other, one) == [
        ("device_current", {"device": device}, False, True),
        ("device_attributes", {"device": device, "position": position}, True, True),
    ]
