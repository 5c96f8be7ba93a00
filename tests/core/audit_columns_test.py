"""The columns and the text of an event are compared with its entry."""

from typing import Any

from firmtrail.audit.columns import ColumnCheck, salted
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.events.entry import encode
from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import FirmwareInstalled, SettingsChanged
from firmtrail.events.log import TextErased
from firmtrail.eventstore.stored_events import StoredEvent

SALT = "00ff"


def stored(position: int, event: Event, text: str | None = None, **columns: Any) -> StoredEvent:
    """Returns the row of an event that is recorded at the second of its position."""
    recorded = Recorded(position, position * 1000, "device/d1", f"r.{position}", "system", event)
    row = StoredEvent(
        position,
        recorded.recorded_at_ms,
        recorded.stream,
        recorded.event_id,
        encode("acme", recorded),
        SALT if text is not None else None,
        text,
    )
    return row._replace(**columns)


def seen(*rows: StoredEvent, start: int = 0) -> tuple[list[tuple[str, str]], ColumnCheck]:
    findings = Findings()
    log = AuditedLog(None, 1, "acme", 1, "firmtrail/acme/1")  # type: ignore[arg-type] # nothing is read
    columns = ColumnCheck(log, start, findings)
    for row in rows:
        columns.check(row)
    return [(found.where, found.what) for found in findings.kept], columns


def with_text(text: str) -> FirmwareInstalled:
    return FirmwareInstalled("1.0.0", detail=salted(SALT, text))


def test_rows_that_agree_with_their_entries_give_no_finding() -> None:
    rows = (
        stored(0, SettingsChanged(poll_after_s=1)),
        stored(1, FirmwareInstalled("1.0.0")),
        stored(2, with_text("why"), "why"),
    )
    found, columns = seen(*rows)
    assert found == []
    assert (columns.recorded_at_ms, columns.control_count) == (2000, 1)
    assert columns.unexplained() == set()


def test_each_column_is_compared_with_the_entry() -> None:
    changes: dict[str, Any] = {"recorded_at_ms": 9, "stream": "device/d2", "event_id": "r.x"}
    for name, value in changes.items():
        [(where, what)], _ = seen(stored(1, FirmwareInstalled("1.0.0"), **{name: value}))
        assert (where, what.split()[0]) == ("position 1", name)


def test_an_entry_of_another_project_or_format_is_found() -> None:
    row = stored(1, FirmwareInstalled("1.0.0"))
    for entry in (row.entry.replace("/acme/", "/zenith/"), "{}", "", row.entry.replace("v1", "v9")):
        [(where, _)], _ = seen(row._replace(entry=entry))
        assert where == "position 1"


def test_times_that_decrease_are_found() -> None:
    early = stored(0, FirmwareInstalled("1.0.0"))
    found, _ = seen(stored(1, FirmwareInstalled("1.0.0")), early)
    assert found == [("position 0", "its time is earlier than that of the event before it")]


def test_a_text_must_match_the_hash_in_its_entry() -> None:
    for text, salt in (("other", SALT), ("why", "11"), ("why", "no hex")):
        found, _ = seen(stored(1, with_text("why"), text, salt=salt))
        assert found == [("position 1", "its stored text does not match the hash in its entry")]
    found, _ = seen(stored(1, FirmwareInstalled("1.0.0"), "why"))
    assert len(found) == 1


def test_a_missing_text_is_explained_by_an_erasure_event() -> None:
    found, columns = seen(stored(1, with_text("why")))
    assert (found, columns.unexplained()) == ([], {1})
    found, columns = seen(stored(1, with_text("why")), stored(2, TextErased(1)))
    assert (found, columns.unexplained()) == ([], set())


def test_a_text_that_is_back_after_its_erasure_is_found() -> None:
    found, _ = seen(stored(1, with_text("why"), "why"), stored(2, TextErased(1)))
    assert [where for where, _ in found] == ["position 1"]
    assert seen(stored(2, TextErased(1)), start=2)[0] == []  # position 1 is not checked
