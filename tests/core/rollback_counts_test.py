"""Tests what the command line says of the devices that a rollback names."""

import pytest

from firmtrail.cli.rollouts import counts_of_rollback

NAMED = {"named": 30, "pinned": 0, "silent": 0, "no_previous": 0}


@pytest.mark.parametrize(
    ("looked_at", "shown"),
    [({}, 0), ({"looked_at": 5}, 0), ({"looked_at": 0}, "not counted")],
)
def test_counts_of_a_rollback_are_shown_only_if_devices_were_looked_at(
    looked_at: dict[str, int], shown: int | str
) -> None:
    counts = counts_of_rollback({**NAMED, **looked_at})
    assert [*counts.values()] == [30, shown, shown, shown, *looked_at.values()]


def test_a_pin_that_is_counted_is_one_on_another_version() -> None:
    counts = counts_of_rollback({**NAMED, "pinned": 3})
    assert counts["of these pinned to another version"] == 3
