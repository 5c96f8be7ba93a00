"""Checks that a command prints stored values unchanged, whatever they look like."""

import pytest

from firmtrail.cli import output


def test_a_cell_that_looks_like_markup_is_printed_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.show_table([{"notes": "[beta] fix [/x]", "state": "paused"}], {"paused": "red"})
    printed = capsys.readouterr().out
    assert "[beta] fix [/x]" in printed
    assert "paused" in printed


def test_a_duration_has_its_unit_and_a_missing_call_says_so() -> None:
    shown = {"silent_after_s": 600, "last_seen_at": None, "is_s": True, "status": None}
    found = {output.words(name): output.cell(name, value) for name, value in shown.items()}
    assert found == {
        "silent after": "600 s",
        "last seen": "never called",
        "is": "yes",
        "status": "",
    }


def test_no_blanks_end_the_lines_of_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "a", "notes": "long enough"}, {"id": "bcd", "notes": ""}]
    output.show_list(rows, json=False)
    output.show_members({"name": "acme", "windows_of_models": None})
    assert capsys.readouterr().out.splitlines() == [
        "id   notes",
        "a    long enough",
        "bcd",
        "name               acme",
        "windows of models",
    ]
