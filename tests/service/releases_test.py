"""Checks how users add, list and withdraw releases."""

import csv
from typing import Any

from tests.service.site import P, Site
from tests.serving import Answer

RELEASES = f"{P}/releases"
M1 = f"{RELEASES}/m/1.0.0"


async def add(site: Site, version: str = "1.0.0", model: str = "m", **members: Any) -> Answer:
    body = {"version": version, "model": model, **members}
    return await site.call("POST", RELEASES, caller="operator", json=body)


async def withdraw(site: Site, path: str = M1, reason: str = "it bricks") -> Answer:
    body = {"reason": reason}
    return await site.call("POST", f"{path}/withdraw", caller="operator", json=body)


async def versions(site: Site, query: str = "") -> list[str]:
    answer = await site.get(f"{RELEASES}{query}", "viewer")
    return [item["version"] for item in answer.json["items"]]


async def test_a_release_is_shown_as_it_was_added(site: Site) -> None:
    answer = await add(site, notes="Ü: first")
    assert answer.status == 201
    shown = answer.json
    assert shown.pop("added_at").endswith("Z")
    assert shown.pop("rollout") is None
    assert shown == {
        "version": "1.0.0",
        "model": "m",
        "notes": "Ü: first",
        "latest": True,
        "withdrawn": False,
        "withdrawn_at": None,
        "reason": None,
        "artifacts": [],
    }
    read = await site.get(M1, "viewer")
    assert {**read.json, "rollout": None} == answer.json
    assert (
        read.headers["Firmtrail-Log-Size"]
        == (await site.get(RELEASES)).headers["Firmtrail-Log-Size"]
    )


async def test_a_withdrawn_release_shows_the_reason_and_is_no_longer_the_latest(site: Site) -> None:
    await add(site, "1.0.0")
    await add(site, "1.1.0", notes="faster")
    answer = await withdraw(site, f"{RELEASES}/m/1.1.0")
    assert answer.status == 200
    assert answer.json == (await site.get(f"{RELEASES}/m/1.1.0")).json
    assert {name: answer.json[name] for name in ("withdrawn", "reason", "notes", "latest")} == {
        "withdrawn": True,
        "reason": "it bricks",
        "notes": "faster",
        "latest": False,
    }
    assert (await site.get(M1)).json["latest"] is True


async def test_a_version_with_build_metadata_can_be_named_in_a_path(site: Site) -> None:
    await add(site, "1.0.0+b.7")
    for path in ("1.0.0+b.7", "1.0.0%2Bb.7"):
        assert (await site.get(f"{RELEASES}/m/{path}")).json["version"] == "1.0.0+b.7"


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("POST", "", {"version": "1.0.0", "model": "m"}, 409, "release_exists"),
    ("POST", "", {"version": "1.0", "model": "m"}, 422, "invalid"),
    ("POST", "", {"version": "1.0.0"}, 422, "invalid"),
    ("POST", "", {"version": "2.0.0", "model": "m", "notes": "ü" * 2049}, 422, "invalid"),
    ("POST", "", {"version": "2.0.0", "model": "m", "note": "x"}, 422, "invalid"),
    ("POST", "/m/1.0.0/withdraw", {}, 422, "invalid"),
    ("POST", "/m/1.0.0/withdraw", {"reason": ""}, 422, "invalid"),
    ("POST", "/m/9.0.0/withdraw", {"reason": "x"}, 404, "unknown_release"),
    ("POST", "/n/1.0.0/withdraw", {"reason": "x"}, 404, "unknown_release"),
    ("POST", "/m/0.9.0/withdraw", {"reason": "x"}, 409, "release_withdrawn"),
    ("GET", "/m/9.0.0", None, 404, "not_found"),
    ("GET", "/m/1.0", None, 404, "not_found"),
]


async def test_a_refused_release_leaves_no_event(site: Site) -> None:
    await add(site)
    await add(site, "0.9.0")
    await withdraw(site, f"{RELEASES}/m/0.9.0")
    before = (await site.get(RELEASES)).json
    for method, path, body, status, code in REFUSED:
        answer = await site.call(method, f"{RELEASES}{path}", caller="operator", json=body)
        assert (answer.status, answer.json["code"]) == (status, code), (path, body)
    assert (await site.get(RELEASES)).json == before


async def test_a_release_of_another_project_is_not_found(site: Site) -> None:
    await add(site)
    path = M1.replace("acme", "other")
    assert (await site.call("GET", path, caller="stranger")).status == 404


async def test_the_list_is_ordered_by_model_and_precedence(site: Site) -> None:
    for version in ("1.9.0", "1.10.0-rc.1", "1.10.0", "1.10.0+b", "1.2.0"):
        await add(site, version)
    await add(site, "3.0.0", "a")
    expected = ["3.0.0", "1.10.0+b", "1.10.0", "1.10.0-rc.1", "1.9.0", "1.2.0"]
    assert await versions(site) == expected
    assert await versions(site, "?model=m") == expected[1:]
    items = (await site.get(RELEASES)).json["items"]
    assert [each["version"] for each in items if each["latest"]] == ["3.0.0", "1.10.0+b"]


async def test_the_pages_together_are_the_list_while_it_grows_too(site: Site) -> None:
    for minor in range(5):
        await add(site, f"1.{minor}.0")
    first = (await site.get(f"{RELEASES}?limit=2&count=true")).json
    assert first["total"] == 5
    await add(site, "1.3.5")
    second = (await site.get(f"{RELEASES}?limit=2&cursor={first['next']}")).json
    third = (await site.get(f"{RELEASES}?limit=2&cursor={second['next']}")).json
    found = [item["version"] for page in (first, second, third) for item in page["items"]]
    assert found == ["1.4.0", "1.3.0", "1.2.0", "1.1.0", "1.0.0"]
    assert third["next"] is None


async def test_the_whole_list_can_be_read_as_csv(site: Site) -> None:
    await add(site, notes='"quoted", with a comma')
    answer = await site.get(RELEASES, Accept="text/csv")
    [row] = csv.DictReader(answer.body.decode().splitlines())
    assert (row["version"], row["latest"], row["notes"], row["artifacts"]) == (
        "1.0.0",
        "true",
        '"quoted", with a comma',
        "",
    )


async def test_a_repeated_key_gets_the_first_answer(site: Site) -> None:
    headers = {"Idempotency-Key": "k1"}
    for path, body in (
        (RELEASES, {"version": "1.0.0", "model": "m"}),
        (f"{M1}/withdraw", {"reason": "x"}),
    ):
        asked = [
            await site.call("POST", path, caller="operator", json=body, headers=headers)
            for _ in range(2)
        ]
        assert asked[0].status == asked[1].status < 300
        assert asked[0].json == asked[1].json
        headers = {"Idempotency-Key": "k2"}
