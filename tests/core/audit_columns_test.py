"""What stands beside an entry, and whether it is what the entry says."""

from firmtrail.audit.columns import Columns, Stored, salted
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import Log
from firmtrail.events.entry import encode
from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import FirmwareInstalled, SettingsChanged
from firmtrail.events.log import TextErased

SALT = "00ff"


def stored(position: int, event: Event, text: str | None = None, **columns: object) -> Stored:
    """The row of an event recorded at its position's second."""
    recorded = Recorded(position, position * 1000, "device/d1", f"r.{position}", "system", event)
    row = Stored(
        position,
        recorded.recorded_at_ms,
        recorded.stream,
        recorded.event_id,
        encode("acme", recorded),
        SALT if text is not None else None,
        text,
    )
    return row._replace(**columns)


def seen(*rows: Stored, start: int = 0) -> tuple[list[tuple[str, str]], Columns]:
    findings = Findings()
    log = Log(None, 1, "acme", 1, "firmtrail/acme/1")  # type: ignore[arg-type] # nothing is read
    columns = Columns(log, start, findings)
    for row in rows:
        columns.see(row)
    return [(found.where, found.what) for found in findings.kept], columns


def with_text(text: str) -> FirmwareInstalled:
    return FirmwareInstalled("1.0.0", detail=salted(SALT, text))


def test_rows_that_are_what_their_entries_say_are_well() -> None:
    rows = (
        stored(0, SettingsChanged(poll_after_s=1)),
        stored(1, FirmwareInstalled("1.0.0")),
        stored(2, with_text("why"), "why"),
    )
    found, columns = seen(*rows)
    assert found == []
    assert (columns.recorded_at_ms, columns.control_count) == (2000, 1)
    assert columns.unexplained() == set()


def test_each_column_is_held_against_the_entry() -> None:
    for name, value in (("recorded_at_ms", 9), ("stream", "device/d2"), ("event_id", "r.x")):
        [(where, what)], _ = seen(stored(1, FirmwareInstalled("1.0.0"), **{name: value}))
        assert (where, what.split()[0]) == ("position 1", name)


def test_an_entry_of_another_project_or_none_of_ours_is_found() -> None:
    row = stored(1, FirmwareInstalled("1.0.0"))
    for entry in (row.entry.replace("/acme/", "/zenith/"), "{}", "", row.entry.replace("v1", "v9")):
        [(where, _)], _ = seen(row._replace(entry=entry))
        assert where == "position 1"


def test_times_that_decrease_are_found() -> None:
    early = stored(0, FirmwareInstalled("1.0.0"))
    found, _ = seen(stored(1, FirmwareInstalled("1.0.0")), early)
    assert found == [("position 0", "its time is before that of the event before it")]


def test_a_text_is_the_one_that_was_hashed() -> None:
    for text, salt in (("other", SALT), ("why", "11"), ("why", "no hex")):
        found, _ = seen(stored(1, with_text("why"), text, salt=salt))
        assert found == [("position 1", "the text beside it is not the one that was hashed")]
    found, _ = seen(stored(1, FirmwareInstalled("1.0.0"), "why"))
    assert len(found) == 1


def test_a_text_that_is_gone_was_erased_by_an_event() -> None:
    found, columns = seen(stored(1, with_text("why")))
    assert (found, columns.unexplained()) == ([], {1})
    found, columns = seen(stored(1, with_text("why")), stored(2, TextErased(1)))
    assert (found, columns.unexplained()) == ([], set())


def test_a_text_that_is_back_after_its_erasure_is_found() -> None:
    found, _ = seen(stored(1, with_text("why"), "why"), stored(2, TextErased(1)))
    assert [where for where, _ in found] == ["position 1"]
    assert seen(stored(2, TextErased(1)), start=2)[0] == []  # it lies before what is looked at
