"""Tests the meaning of a report: its identity, whether it repeats another, and its refusals."""

import pytest

from firmtrail.events.fleet import (
    REPORTS,
    FirmwareInstalled,
    FirmwareRunning,
    ReportEvent,
    Status,
    UpdateFailed,
    UpdateProgressed,
)
from firmtrail.events.times import time_ms
from firmtrail.rules import device
from firmtrail.rules.device import DeviceState, Duplicate, Refused
from firmtrail.rules.history import Intent, Ordered, change_of
from firmtrail.rules.report import Claim, KnownReport, ReportCommand, claim, claim_of, identity
from tests.fleet import NOON_MS, report

UNSET_MS = time_ms("2014-12-31T23:59:59.999Z")
EARLIEST_MS = time_ms("2015-01-01T00:00:00Z")

SAME = [
    ("report_id over seq", {"report_id": "a", "seq": 1}, {"report_id": "a", "seq": 2}),
    ("report_id over content", {"report_id": "a"}, {"report_id": "a", "version": "2.0.0"}),
    ("seq over content", {"seq": 1}, {"seq": 1, "version": "2.0.0"}),
    ("seq over time", {"seq": 1}, {"seq": 1, "occurred_at_ms": NOON_MS}),
    ("content", {"occurred_at_ms": NOON_MS}, {"occurred_at_ms": NOON_MS}),
    ("never detail", {"seq": 1, "detail": "x"}, {"seq": 1, "question": "q", "rollout": "r"}),
]
DIFFERENT = [
    ("report_id", {"report_id": "a"}, {"report_id": "b"}),
    ("seq", {"seq": 0}, {"seq": 1}),
    ("with and without report_id", {"seq": 1}, {"seq": 1, "report_id": "1"}),
    ("version", {"occurred_at_ms": NOON_MS}, {"occurred_at_ms": NOON_MS, "version": "2.0.0"}),
    ("status", {"occurred_at_ms": NOON_MS}, {"occurred_at_ms": NOON_MS, "status": "running"}),
    ("time", {"occurred_at_ms": NOON_MS}, {"occurred_at_ms": NOON_MS + 1}),
]
BARE = [
    ("nothing", {}, True),
    ("a clock never set", {"occurred_at_ms": UNSET_MS}, True),
    ("the earliest believed time", {"occurred_at_ms": EARLIEST_MS}, False),
    ("seq 0", {"seq": 0}, False),
    ("seq with a clock never set", {"seq": 0, "occurred_at_ms": UNSET_MS}, False),
    ("question, rollout and detail", {"question": "q", "rollout": "r", "detail": "d"}, True),
]


@pytest.mark.parametrize(("case", "one", "other"), SAME)
def test_reports_of_one_identity(
    case: str, one: dict[str, object], other: dict[str, object]
) -> None:
    assert identity(report(**one)) == identity(report(**other)) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(("case", "one", "other"), DIFFERENT)
def test_reports_of_two_identities(
    case: str, one: dict[str, object], other: dict[str, object]
) -> None:
    assert identity(report(**one)) != identity(report(**other))  # type: ignore[arg-type]


@pytest.mark.parametrize(("case", "members", "is_bare"), BARE)
def test_a_bare_report_has_no_identity(
    case: str, members: dict[str, object], is_bare: bool
) -> None:
    assert (identity(report(**members)) is None) == is_bare  # type: ignore[arg-type]


def test_an_identity_is_the_event_id_that_the_interface_names() -> None:
    assert identity(report(report_id="b7c9")) == "r.b7c9"
    assert str(identity(report(seq=4711))).startswith("c.")


def reported(version: str, status: Status, *, last_position: int = 5) -> DeviceState:
    """Returns a device whose report at position 5 was recorded last."""
    return DeviceState(
        "d1",
        last_position=last_position,
        last_version=version,
        status=status,
        recorded_position=5,
        recorded_at_ms=NOON_MS,
    )


@pytest.mark.parametrize(
    ("state", "sent", "repeats"),
    [
        (reported("1.0.0", "installed"), report("1.0.0", "installed"), True),
        (reported("1.0.0", "installed"), report("1.0.0", "running"), True),
        (reported("1.0.0", "running"), report("1.0.0", "installed"), True),
        (reported("1.0.0", "failed"), report("1.0.0", "failed"), True),
        (reported("1.0.0", "installed"), report("1.0.0", "failed"), False),
        (reported("1.0.0", "failed"), report("1.0.0", "rejected"), False),
        (reported("1.0.0", "failed"), report("1.0.0", "installed"), False),
        (reported("1.0.0", "downloading"), report("1.0.0", "downloaded"), False),
        (reported("1.0.0", "installed"), report("1.1.0", "installed"), False),
        (reported("1.0.0", "installed"), report("1.0.0+b", "installed"), False),
        (reported("1.0.0", "installed"), report("1.0.0", occurred_at_ms=UNSET_MS), True),
        (reported("1.0.0", "installed"), report("1.0.0", occurred_at_ms=NOON_MS), False),
        (reported("1.0.0", "installed"), report("1.0.0", seq=1), False),
        (reported("1.0.0", "installed"), report("1.0.0", report_id="a"), False),
        (reported("1.0.0", "installed", last_position=4), report("1.0.0"), False),
        (DeviceState("d1"), report("1.0.0"), False),
    ],
)
def test_a_bare_report_repeats_only_the_last_one(
    state: DeviceState, sent: ReportCommand, repeats: bool
) -> None:
    decided = device.decide_report(state, sent, None)
    assert decided == Duplicate(5, NOON_MS) if repeats else isinstance(decided, REPORTS)


KNOWN = KnownReport(3, NOON_MS, Claim("1.0.0", "installed", 7, NOON_MS))


@pytest.mark.parametrize(
    ("case", "members"),
    [
        ("version", {"version": "1.0.1"}),
        ("status", {"status": "running"}),
        ("seq", {"seq": 8}),
        ("no seq", {"seq": None}),
        ("occurred_at", {"occurred_at_ms": NOON_MS + 1}),
        ("no occurred_at", {"occurred_at_ms": None}),
    ],
)
def test_a_report_id_used_for_something_else_is_refused(
    case: str, members: dict[str, object]
) -> None:
    sent = report(**{"report_id": "a", "seq": 7, "occurred_at_ms": NOON_MS, **members})  # type: ignore[arg-type]
    with pytest.raises(Refused) as refused:
        device.decide_report(DeviceState("d1"), sent, KNOWN)
    assert (refused.value.code, refused.value.status) == ("report_id_reused", 409)


@pytest.mark.parametrize("state", [DeviceState("d1"), DeviceState("d1", decommissioned=True)])
def test_a_resent_report_is_answered_in_every_state_of_the_device(state: DeviceState) -> None:
    same = report(report_id="a", seq=7, occurred_at_ms=NOON_MS, detail="another", question="q")
    by_seq = report(seq=7, occurred_at_ms=NOON_MS, detail="another")
    assert device.decide_report(state, same, KNOWN) == Duplicate(3, NOON_MS)
    assert device.decide_report(state, by_seq, KNOWN) == Duplicate(3, NOON_MS)


@pytest.mark.parametrize(
    ("state", "code", "status"),
    [
        (None, "unknown_device", 404),
        (DeviceState("d1", decommissioned=True), "device_decommissioned", 409),
    ],
)
def test_unknown_and_decommissioned_devices_may_not_report(
    state: DeviceState | None, code: str, status: int
) -> None:
    with pytest.raises(Refused) as refused:
        device.decide_report(state, report(), None)
    assert (refused.value.code, refused.value.status) == (code, status)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("installed", FirmwareInstalled),
        ("running", FirmwareRunning),
        *((status, UpdateProgressed) for status in
          ("downloading", "downloaded", "installing", "rebooting")),
        ("failed", UpdateFailed),
        ("rejected", UpdateFailed),
    ],
)  # fmt: skip
def test_a_status_becomes_its_event(status: Status, kind: type[ReportEvent]) -> None:
    sent = report("1.0.0", status, seq=1, occurred_at_ms=UNSET_MS, question="q", rollout="r")
    decided = device.decide_report(DeviceState("d1"), sent, None)
    assert isinstance(decided, kind)
    assert decided.status == status
    assert claim_of(decided) == claim(sent)
    assert (decided.question, decided.rollout, decided.detail) == ("q", "r", None)


@pytest.mark.parametrize(
    ("current", "previous", "before_previous", "pinned", "ordered", "change"),
    [
        ("1.0.0", None, None, None, None, "first"),
        ("1.1.0", "1.0.0", None, None, None, "upgrade"),
        ("1.0.0", "1.0.0-rc.1", None, None, None, "upgrade"),
        ("1.10.0", "1.9.0", "1.10.0", None, None, "upgrade"),
        ("1.0.0", "1.1.0", None, None, None, "downgrade"),
        ("1.0.0", "1.1.0", "0.9.0", None, None, "downgrade"),
        ("1.0.0", "1.1.0", "1.0.0", None, None, "revert"),
        ("1.0.0", "1.1.0", "1.0.0", "1.1.0", None, "revert"),
        ("1.0.0", "1.1.0", "1.0.0", "1.0.0", None, "downgrade"),
        ("1.0.0", "1.1.0", "1.0.0+b", None, None, "downgrade"),
        ("1.0.0+b", "1.0.0+a", None, None, None, "build"),
        ("1.0.0+a", "1.0.0+b", "1.0.0+a", None, None, "build"),
        ("1.0.0", "1.0.0+a", None, None, None, "build"),
        ("1.0.0", "1.1.0", "1.0.0", None, "rollback", "rollback"),
        ("1.0.0", "1.1.0", "0.9.0", "1.0.0", "rollback", "rollback"),
        ("1.0.0", "1.1.0", "1.0.0", None, "offered", "downgrade"),
        ("1.2.0", "1.1.0", "1.2.0", None, "rollback", "upgrade"),
    ],
)
def test_a_change_has_one_kind(
    current: str,
    previous: str | None,
    before_previous: str | None,
    pinned: str | None,
    ordered: Ordered | None,
    change: str,
) -> None:
    wish = Intent(pinned, ordered)
    assert change_of(current, previous, before_previous, wish) == change
