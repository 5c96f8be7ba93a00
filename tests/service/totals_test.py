"""The total of a list of devices is exact, or says that it is not."""

from typing import Any

import pytest

from firmtrail.http import device_lists, lists
from tests.service.site import D2, D, P, Site
from tests.service.steered import roll_out


async def totals(site: Site, path: str) -> dict[str, Any]:
    """Returns the members of an answer that are about its total."""
    listed = (await site.get(f"{P}/{path}&count=true")).json
    return {name: value for name, value in listed.items() if name.startswith("total")}


@pytest.fixture
async def labelled(fleet: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """d1 and d2 are in a cohort and have a tag; a total looks at one device, of one page."""
    for path in (D, D2):
        labels = {"cohort": "beta", "tags": ["lab", "eu"]}
        await fleet.call("PATCH", path, caller="operator", json=labels)
    monkeypatch.setattr(device_lists, "TOTAL_MAX", 1)
    monkeypatch.setattr(lists, "PAGE_ITEMS_MAX", 1)
    monkeypatch.setattr(lists, "COUNTED_PAGES_MAX", 1)
    return fleet


COUNTED = (
    "",
    "cohort=beta",
    "tag=lab",
    "tag=lab&model=m",
    "cohort=beta&version=1.0.0",
    "cohort=beta&model=m&version=1.0.0&outdated=true",
)


async def test_a_total_that_views_count_is_exact(labelled: Site) -> None:
    for filters in COUNTED:
        assert await totals(labelled, f"devices?{filters}") == {"total": 2}, filters


LOOKED_AT = (
    "q=d",
    "cohort=beta&tag=lab",
    "failing=false",
    "silent_for=0",
    "pending=false",
    "outdated=true&q=d",
)


async def test_a_total_that_looked_at_some_devices_says_so(labelled: Site) -> None:
    for filters in LOOKED_AT:
        found = await totals(labelled, f"devices?{filters}")
        assert found == {"total": 1, "total_is_at_least": True}, filters


async def test_a_total_that_looked_at_all_devices_is_exact(
    labelled: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lists, "TOTAL_MAX", 3)
    assert await totals(labelled, "devices?q=d&outdated=true") == {"total": 2}
    assert await totals(labelled, "devices?q=d&outdated=false") == {"total": 0}


async def test_a_total_of_the_past_is_that_of_its_counts(labelled: Site) -> None:
    size = (await labelled.get(f"{P}/versions")).headers["Firmtrail-Log-Size"]
    await labelled.report({"version": "1.1.0"})
    then = f"devices?as_of=@{size}"
    assert await totals(labelled, f"{then}&version=1.0.0") == {"total": 2}
    assert await totals(labelled, f"{then}&outdated=true") == {"total": 2}
    some = {"total": 1, "total_is_at_least": True}
    assert await totals(labelled, f"{then}&cohort=beta") == some


async def test_the_total_of_a_rollouts_devices_is_its_size(labelled: Site) -> None:
    path = f"rollouts/{await roll_out(labelled, tag='lab')}/devices"
    assert await totals(labelled, f"{path}?limit=1") == {"total": 2}
    assert await totals(labelled, f"{path}?state=installed") == {"total": 0}
    some = {"total": 1, "total_is_at_least": True}
    assert await totals(labelled, f"{path}?state=pending") == some


async def test_a_total_of_a_long_history_says_so(labelled: Site) -> None:
    path = f"{D.removeprefix(f'{P}/')}/history?"
    assert await totals(labelled, path) == {"total": 1}
    await labelled.report({"version": "1.1.0"})
    assert await totals(labelled, path) == {"total": 1, "total_is_at_least": True}
