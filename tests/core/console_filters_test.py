"""Checks how pages write text that comes from devices and people."""

import pytest

from firmtrail.console import filters


@pytest.mark.parametrize("mark", "\u2066\u2067\u2068\u2069")
def test_a_mark_of_an_isolate_cannot_end_the_isolation_of_its_text(mark: str) -> None:
    assert filters.words(f"a{mark}b") == "<bdi>a\ufffdb</bdi>"


def test_text_that_is_written_from_right_to_left_stays_as_it_is() -> None:
    assert (
        filters.words("\u05e9\u05dc\u05d5\u05dd <1>")
        == "<bdi>\u05e9\u05dc\u05d5\u05dd &lt;1&gt;</bdi>"
    )
