"""Which devices run less than the latest release of their model."""

import pytest

from firmtrail.eventstore.database import Database
from firmtrail.projections import outdated
from tests.fleet import register, report
from tests.service.site import P, Site

RUNNING = {
    "m": {"a": "1.0.0", "b": "1.1.0-rc.1", "c": "1.1.0", "d": "1.1.0+b", "e": "2.0.0", "f": None},
    "n": {"g": "1.0.0"},
}


@pytest.fixture(autouse=True)
async def fleet(site: Site) -> None:
    """Models m and n; only m has releases."""
    recorder = site.services.recorder
    for model, running in RUNNING.items():
        await register(recorder, site.log_id, *running, model=model)
        versions = {name: version for name, version in running.items() if version}
        await recorder.report(
            site.log_id, [report(version, device=name) for name, version in versions.items()]
        )
    for version in ("1.0.0", "1.1.0", "1.2.0-rc.1"):
        await add(site, version)


async def add(site: Site, version: str) -> int:
    body = {"version": version, "model": "m"}
    answer = await site.call("POST", f"{P}/releases", caller="operator", json=body)
    assert answer.status == 201
    return int((await site.get(f"{P}/releases")).headers["Firmtrail-Log-Size"])


async def found(site: Site, query: str) -> str:
    answer = await site.get(f"{P}/devices?{query}", "viewer")
    assert answer.status == 200, answer.body
    return "".join(item["device"] for item in answer.json["items"] if len(item["device"]) == 1)


async def test_outdated_is_lower_than_the_models_latest(site: Site) -> None:
    assert await found(site, "outdated=true") == "ab"
    assert await found(site, "outdated=false") == "cdefg"
    assert await found(site, "outdated=true&version=1.0.0") == "a"
    assert await found(site, "outdated=true&model=n") == ""


async def test_outdated_devices_are_counted(site: Site) -> None:
    totals = [
        (await site.get(f"{P}/devices?count=true&outdated={wanted}")).json["total"]
        for wanted in ("true", "false")
    ]
    everybody = (await site.get(f"{P}/devices?count=true")).json["total"]
    assert totals == [2, everybody - 2]


async def test_pages_of_outdated_devices_are_the_list(site: Site) -> None:
    first = (await site.get(f"{P}/devices?outdated=true&limit=1")).json
    second = (await site.get(f"{P}/devices?outdated=true&limit=1&cursor={first['next']}")).json
    assert [page["items"][0]["device"] for page in (first, second)] == ["a", "b"]
    assert second["next"] is None


async def test_a_withdrawn_latest_outdates_nobody(site: Site) -> None:
    path = f"{P}/releases/m/1.1.0/withdraw"
    await site.call("POST", path, caller="operator", json={"reason": "x"})
    assert await found(site, "outdated=true") == ""


async def test_the_past_is_judged_by_the_latest_of_then(site: Site) -> None:
    before = await add(site, "1.9.0")
    await add(site, "3.0.0")
    path = f"{P}/releases/m/1.9.0/withdraw"
    await site.call("POST", path, caller="operator", json={"reason": "x"})
    assert await found(site, "outdated=true") == "abcde"
    assert await found(site, f"outdated=true&as_of=@{before}") == "abcd"
    assert await found(site, f"outdated=true&as_of=@{before - 1}") == "ab"
    assert await found(site, f"outdated=false&as_of=@{before - 1}") == "cdefg"


async def test_a_fleet_of_more_versions_than_a_statement_names_is_listed_and_counted(
    site: Site, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as make two arguments each more than either driver takes."""
    now = outdated.now
    cells = tuple(("m", f"0.0.{n}") for n in range(40_000))

    async def knowing_many(
        db: Database, log_id: int, *, wanted: bool
    ) -> tuple[int, outdated.Outdated]:
        size, which = await now(db, log_id, wanted=wanted)
        return size, which._replace(others=(*cells, *which.others))

    monkeypatch.setattr(outdated, "now", knowing_many)
    assert await found(site, "outdated=true") == "ab"
    counted = await site.get(f"{P}/devices?count=true&outdated=true")
    assert counted.json["total"] == 2


async def test_a_version_that_came_meanwhile_is_judged_too(
    site: Site, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if none of the fleet's versions had been known when the query was made."""
    now = outdated.now

    async def knowing_nothing(
        db: Database, log_id: int, *, wanted: bool
    ) -> tuple[int, outdated.Outdated]:
        size, which = await now(db, log_id, wanted=wanted)
        return size, which._replace(others=())

    monkeypatch.setattr(outdated, "now", knowing_nothing)
    assert await found(site, "outdated=true") == "ab"
    assert await found(site, "outdated=false") == "cdefg"
