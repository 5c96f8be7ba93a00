"""Devices that run less than the latest release of their model are found and counted."""

from datetime import datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from firmtrail.database.database import Database
from firmtrail.http import fleet_metrics
from firmtrail.projections import outdated
from tests.fleet import register, report
from tests.service.site import P, Site

RUNNING: dict[str, dict[str, str | None]] = {
    "m": {"a": "1.0.0", "b": "1.1.0-rc.1", "c": "1.1.0", "d": "1.1.0+b", "e": "2.0.0", "f": None},
    "n": {"g": "1.0.0"},
}


@pytest.fixture(autouse=True)
async def devices_of_two_models(site: Site) -> None:
    """Registers devices of the models m and n; only m has releases."""
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


def ms(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


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
    registered = (await site.get(f"{P}/devices?count=true")).json["total"]
    assert totals == [2, registered - 2]


async def test_pages_of_outdated_devices_are_the_list(site: Site) -> None:
    first = (await site.get(f"{P}/devices?outdated=true&limit=1")).json
    second = (await site.get(f"{P}/devices?outdated=true&limit=1&cursor={first['next']}")).json
    assert [page["items"][0]["device"] for page in (first, second)] == ["a", "b"]
    assert second["next"] is None


async def listed(site: Site, query: str) -> list[Any]:
    answer = await site.get(f"{P}/devices?outdated=true&count=true&{query}", "viewer")
    assert answer.json["total"] == len(answer.json["items"])
    items: list[Any] = answer.json["items"]
    return items


async def scraped(site: Site, path: str = f"{P}/metrics") -> dict[tuple[str, str], float]:
    """Returns the metrics of the fleet by (name, model or "")."""
    answer = await site.get(path, "viewer")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    return {
        (sample.name.removeprefix("firmtrail_"), sample.labels.get("model", "")): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


async def withdraw(site: Site, version: str) -> None:
    path = f"{P}/releases/m/{version}/withdraw"
    await site.call("POST", path, caller="operator", json={"reason": "x"})


async def test_a_models_metrics_agree_with_the_list(site: Site) -> None:
    await assert_agree(site, devices=6, outdated=2)
    await add(site, "3.0.0-rc.1")
    await assert_agree(site, devices=6, outdated=2)
    await withdraw(site, "1.1.0")
    await assert_agree(site, devices=6, outdated=0)
    await add(site, "3.0.0")
    await assert_agree(site, devices=6, outdated=5)
    await site.call("DELETE", f"{P}/devices/a", caller="operator")
    await assert_agree(site, devices=5, outdated=4)
    assert b'project="acme"' in (await site.get(f"{P}/metrics")).body


async def assert_agree(site: Site, devices: int, outdated: int) -> None:
    since = [ms(device["outdated_since"]) for device in await listed(site, "model=m")]
    assert len(since) == outdated
    longest = {("model_outdated_since_timestamp_seconds", "m"): min(since) / 1000} if since else {}
    latest = (await site.get(f"{P}/releases")).json["items"]
    [added] = [ms(each["added_at"]) for each in latest if each["latest"]]
    assert await scraped(site) == {
        ("model_devices", "m"): devices,
        ("model_devices_outdated", "m"): outdated,
        ("model_latest_release_timestamp_seconds", "m"): added / 1000,
        ("models_left_out", ""): 0,
        **longest,
    }


async def test_a_device_is_outdated_since_there_is_a_higher_release(site: Site) -> None:
    added = {
        release["version"]: release["added_at"]
        for release in (await site.get(f"{P}/releases")).json["items"]
    }
    before = await add(site, "1.3.0")
    assert {device["outdated_since"] for device in await listed(site, "q=a")} == {added["1.1.0"]}
    device = (await site.get(f"{P}/devices/a")).json
    assert device["outdated_since"] == added["1.1.0"]
    assert (await site.get(f"{P}/devices/f")).json["outdated_since"] is None, "runs nothing known"
    await withdraw(site, "1.1.0")
    [later] = await listed(site, "q=a")
    assert later["outdated_since"] > added["1.1.0"]
    then = [await site.get(f"{P}/devices{path}as_of=@{before}") for path in ("/a?", "?q=a&")]
    assert [then[0].json["outdated_since"], then[1].json["items"][0]["outdated_since"]] == [
        added["1.1.0"]
    ] * 2
    await site.call("DELETE", f"{P}/devices/a", caller="operator")
    assert (await site.get(f"{P}/devices/a")).json["outdated_since"] is None


async def test_sums_are_shown_without_names_and_are_cached(site: Site) -> None:
    outdated_now, found = await listed(site, ""), await scraped(site, "/metrics")
    registered = (await site.get(f"{P}/devices?count=true")).json["total"]
    assert found["devices", ""] == registered
    assert found["devices_outdated", ""] == len(outdated_now)
    since = min(ms(device["outdated_since"]) for device in outdated_now)
    assert found["outdated_since_timestamp_seconds", ""] == since / 1000
    body = (await site.call("GET", "/metrics")).body
    assert b"acme" not in body
    assert b"model=" not in body
    await add(site, "3.0.0")
    assert (await scraped(site, "/metrics"))["devices_outdated", ""] == len(outdated_now)


async def test_a_scrape_shows_the_models_with_the_most_outdated_devices(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_metrics, "MODELS_MAX", 1)
    await site.call(
        "POST", f"{P}/releases", caller="operator", json={"version": "1.0.0", "model": "a"}
    )
    found = await scraped(site)
    assert [model for name, model in found if name == "model_devices"] == ["m"]
    assert found["models_left_out", ""] == 1


async def test_a_withdrawn_latest_release_outdates_no_device(site: Site) -> None:
    await withdraw(site, "1.1.0")
    assert await found(site, "outdated=true") == ""


async def test_the_past_is_compared_with_the_latest_release_of_then(site: Site) -> None:
    before = await add(site, "1.9.0")
    await add(site, "3.0.0")
    await withdraw(site, "1.9.0")
    assert await found(site, "outdated=true") == "abcde"
    assert await found(site, f"outdated=true&as_of=@{before}") == "abcd"
    assert await found(site, f"outdated=true&as_of=@{before - 1}") == "ab"
    assert await found(site, f"outdated=false&as_of=@{before - 1}") == "cdefg"


async def test_a_fleet_of_more_versions_than_a_statement_may_name_is_listed(
    site: Site, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adds so many cells, of two arguments each, that either driver takes fewer."""
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


async def test_a_version_that_appeared_meanwhile_is_compared_too(
    site: Site, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Makes the query know none of the fleet's versions."""
    now = outdated.now

    async def knowing_nothing(
        db: Database, log_id: int, *, wanted: bool
    ) -> tuple[int, outdated.Outdated]:
        size, which = await now(db, log_id, wanted=wanted)
        return size, which._replace(others=())

    monkeypatch.setattr(outdated, "now", knowing_nothing)
    assert await found(site, "outdated=true") == "ab"
    assert await found(site, "outdated=false") == "cdefg"
