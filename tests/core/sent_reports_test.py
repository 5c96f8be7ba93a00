"""Reports and their outcomes reach another process, and come back, as they are."""

import pickletools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from firmtrail.database import messages
from firmtrail.database.entry_archive import Stub
from firmtrail.recording.crossing import SentOutcomes, SentUnits
from firmtrail.recording.reports import (
    EntriesNeeded,
    IdentifiedUnit,
    ReportReceipt,
    UnitOutcome,
    identified,
)
from firmtrail.rules.device import Refused
from firmtrail.rules.report import ReportCommand
from tests.fleet import report
from tests.strategies import any_reports

STUB = Stub(1, 7, "ab" * 32)
RECEIPT = ReportReceipt(1, 1 << 40, duplicate=False, recorded_at_ms=1_784_628_000_000)
HALF = "half \ud800 of a pair"


def crossed(content: object) -> object:
    return messages.decode(messages.encode(content)[1])


def structs_of(content: object) -> set[object]:
    """Returns the names of the structs that pickle calls."""
    calls = (arg for _, arg, _ in pickletools.genops(messages.encode(content)[1]))
    return {each for each in calls if each in {"ReportCommand", "ReportReceipt"}}


def sent(units: Sequence[IdentifiedUnit]) -> Sequence[IdentifiedUnit]:
    there = crossed(SentUnits(units))
    assert isinstance(there, SentUnits)
    return there()


@given(st.lists(st.lists(any_reports("d1"), max_size=3), max_size=3))
def test_all_reports_arrive_as_they_were_sent(reports: list[list[ReportCommand]]) -> None:
    units = [IdentifiedUnit([identified(each) for each in unit], {}) for unit in reports]
    assert sent(units) == units
    assert not structs_of(SentUnits(units))


def test_texts_half_of_a_pair_and_a_long_number_arrive_too() -> None:
    full = report(detail="☃", question="q1", rollout="r1", report_id="r1", sent="1.0")
    for each in (full, replace(full, detail=HALF), replace(full, seq=1 << 70)):
        units = [IdentifiedUnit([identified(each)], {STUB: "text"})]
        assert sent(units) == units


def test_outcomes_of_every_kind_come_back() -> None:
    receipts: list[UnitOutcome] = [[RECEIPT, RECEIPT], []]
    assert crossed(SentOutcomes(receipts)) == receipts
    assert not structs_of(SentOutcomes(receipts))
    refused = Refused("code", "detail", 404, member="/a")
    needed = EntriesNeeded([STUB])
    found = crossed(SentOutcomes([[RECEIPT, refused], needed]))
    assert isinstance(found, list)
    [[receipt, error], stubs] = found
    assert (receipt, stubs, vars(error)) == (RECEIPT, needed, vars(refused))
