"""Charts have the numbers that they are given, and colours by precedence."""

import re

from hypothesis import given
from hypothesis import strategies as st

from firmtrail.console.charts import (
    BANDS_MAX,
    HEIGHT,
    OTHERS,
    TOP,
    WIDTH,
    Mark,
    SharesChart,
    Step,
    shares,
)

DAY_MS = 86_400_000


def chart(*counts: dict[str, int], marks: tuple[Mark, ...] = ()) -> SharesChart:
    steps = [Step(n * DAY_MS, each) for n, each in enumerate(counts)]
    found = shares(steps, marks, lambda text: text == "1.1.0")
    assert found is not None
    return found


def test_the_latest_version_is_the_accent_and_a_withdrawn_one_takes_no_age() -> None:
    found = chart({"1.0.0": 3, "": 1}, {"1.0.0": 1, "1.1.0": 1, "1.10.0": 1, "1.9.0": 1})
    assert found.versions == ["1.10.0", "1.9.0", "1.1.0", "1.0.0", ""]
    assert [found.kinds[name] for name in found.versions] == [
        "age-0",
        "age-1",
        "withdrawn",
        "age-2",
        "none",
    ]


def test_the_table_has_the_numbers_of_every_step() -> None:
    found = chart({"1.0.0": 3}, {"1.0.0": 1, "2.0.0": 2})
    assert [dict(row.counts) for row in found.rows] == [
        {"2.0.0": 0, "1.0.0": 3},
        {"2.0.0": 2, "1.0.0": 1},
    ]


def test_many_versions_are_drawn_together_as_others() -> None:
    counts = {f"1.{n}.0": 10 + n for n in range(BANDS_MAX + 5)}
    found = chart(counts, counts)
    assert len(found.versions) == BANDS_MAX + 1
    assert found.rows[0].counts[OTHERS] == sum(10 + n for n in range(5))


def test_marks_that_are_close_stand_on_lines_of_their_own() -> None:
    marks = tuple(Mark(DAY_MS // 2 + n, f"mark {n}") for n in range(4))
    found = chart({"1.0.0": 1}, {"1.0.0": 1}, marks=(*marks, Mark(-1, "before the chart")))
    assert [mark.y for mark in found.marks] == [40, 26, 12, TOP]
    assert [mark.is_labelled for mark in found.marks] == [True, True, True, False]


def test_nothing_is_drawn_of_nothing() -> None:
    assert shares([Step(0, {}), Step(1, {})], [], lambda _: False) is None
    assert shares([Step(0, {"1.0.0": 1})], [], lambda _: False) is None


VERSIONS = st.sampled_from(["", *(f"{n}.0.0" for n in range(9))])


@given(st.lists(st.dictionaries(VERSIONS, st.integers(1, 10**6)), min_size=2, max_size=50))
def test_areas_fill_the_chart_and_stay_in_it(counts: list[dict[str, int]]) -> None:
    found = shares([Step(n * DAY_MS, each) for n, each in enumerate(counts)], [], lambda _: False)
    if found is None:
        assert not any(counts)
        return
    for band in found.bands:
        points = [tuple(map(float, each)) for each in re.findall(r"([\d.]+),([\d.]+)", band.path)]
        assert all(0 <= x <= WIDTH and TOP <= y <= HEIGHT for x, y in points)
    for row, given_counts in zip(found.rows, counts, strict=True):
        assert sum(row.counts.values()) == sum(given_counts.values())
