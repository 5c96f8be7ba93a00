"""Tests that a lasting condition is logged once a minute."""

from firmtrail.repeats import EVERY_S, KEYS_MAX, Repeats


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_condition_is_due_once_a_minute_with_the_number_left_out() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    assert [repeats.due("unavailable", "away") for _ in range(4)] == [0, None, None, None]
    assert repeats.due("unavailable", "disk full") == 0
    clock.now_s += EVERY_S
    assert [repeats.due("unavailable", "away") for _ in range(2)] == [3, None]


def test_conditions_without_end_share_one_line() -> None:
    repeats = Repeats(Clock())
    due = [repeats.due(number) for number in range(KEYS_MAX + 50)]
    assert due.count(0) == KEYS_MAX + 1


def test_a_condition_that_is_over_gives_its_place_to_another() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    for number in range(KEYS_MAX):
        repeats.due(number)
        repeats.due(number)
    clock.now_s += EVERY_S
    assert [repeats.due("new", number) for number in range(5)] == [0] * 5
