"""Checks the attributes of devices over HTTP: what they hold, what they mean, who may see them."""

from pathlib import Path
from typing import Any

import pytest

from firmtrail.recording.reports import ReportReceipt
from firmtrail.rules.attributes import ATTRIBUTES_MAX
from firmtrail.rules.report import ReportCommand
from tests.databases import read
from tests.people import recorded
from tests.service.routes import assert_is_problem
from tests.service.site import D2, D, P, Site
from tests.service.steered import roll_out
from tests.serving import Answer

A = f"{D}/attributes"


async def put(
    site: Site, data: Any, mode: str = "merge", caller: str = "device", path: str = A
) -> Answer:
    return await site.call("PUT", path, caller=caller, json={"mode": mode, "data": data})


async def said(site: Site, path: str = A) -> Any:
    return (await site.get(path)).json["data"]


async def events(site: Site, since: int = 0) -> list[str]:
    return [repr(event) for _, event in (await recorded(site.services.db, site.log_id))[since:]]


async def size(site: Site) -> int:
    return len(await recorded(site.services.db, site.log_id))


async def found(site: Site, *attributes: str, rest: str = "") -> list[str]:
    query = "&".join(f"attribute={each}" for each in attributes)
    answer = await site.get(f"{P}/devices?{query}{rest}")
    assert answer.status == 200, answer.body
    return [each["device"] for each in answer.json["items"]]


async def test_attributes_are_merged_replaced_and_removed(site: Site) -> None:
    assert (await site.get(A)).json == {"data": {}, "changed_at": None}
    first = await put(site, {"site": "lyon", "hw": "2"})
    assert first.status == 200
    assert first.json["data"] == {"site": "lyon", "hw": "2"}
    assert (await site.get(A)).json == first.json
    await put(site, {"hw": "3"})
    assert await said(site) == {"site": "lyon", "hw": "3"}
    await put(site, {"site": "", "never": ""}, "remove")
    assert await said(site) == {"hw": "3"}
    await put(site, {"os": "linux"}, "replace")
    assert await said(site) == {"os": "linux"}
    assert (await site.get(D)).json["attributes"] == {"os": "linux"}


async def test_a_change_that_changes_nothing_writes_nothing(site: Site) -> None:
    first = await put(site, {"site": "lyon"})
    assert (await put(site, {"site": "lyon"})).json == first.json
    assert (await put(site, {"other": ""}, "remove")).json == first.json
    etag = (await site.get(A)).headers["ETag"]
    assert (await site.get(A, If_None_Match=etag)).status == 304


async def test_attributes_are_outside_the_log(site: Site) -> None:
    before = await size(site)
    await put(site, {"owner": "Ann"})
    await put(site, {"owner": "Bob"})
    assert await size(site) == before


async def test_the_list_finds_devices_by_all_attributes_named(site: Site) -> None:
    await put(site, {"site": "lyon", "mac:eth0": "aa:bb c"})
    await put(site, {"site": "lyon", "os": "linux"}, caller="operator", path=f"{D2}/attributes")
    assert await found(site, "site:lyon") == ["d1", "d2"]
    assert await found(site, "site:lyon", "os:linux") == ["d2"]
    assert await found(site, "mac:eth0:aa:bb%20c") == ["d1"]
    assert await found(site, "site:lyo") == []
    assert await found(site, "site:lyon", "site:paris") == []
    assert await found(site, "site:lyon", rest="&q=d2&count=true") == ["d2"]
    await put(site, {"site": "paris"})
    assert await found(site, "site:lyon") == ["d2"]
    assert await found(site, "site:paris") == ["d1"]


async def test_a_filtered_list_is_paged_and_counted(site: Site) -> None:
    for path in (D, D2):
        await put(site, {"site": "lyon"}, caller="gateway", path=f"{path}/attributes")
    first = await site.get(f"{P}/devices?attribute=site:lyon&limit=1&count=true")
    assert first.json["total"] == 2
    second = await site.get(first.headers["Link"].partition(">")[0].removeprefix("<"))
    assert [each["device"] for each in second.json["items"]] == ["d2"]
    other = f"{P}/devices?attribute=site:paris&cursor={first.json['next']}"
    assert assert_is_problem(await site.get(other), 400)["code"] == "bad_cursor"


async def test_there_is_no_past_of_attributes(site: Site) -> None:
    await put(site, {"site": "lyon"})
    for moment in ("as_of=@1", "at=2026-01-01T00:00:00Z"):
        answer = await site.get(f"{P}/devices?attribute=site:lyon&{moment}")
        assert assert_is_problem(answer, 422)["errors"][0]["parameter"] == "attribute"
    then = await site.get(f"{D}?as_of=@{await size(site)}")
    assert then.status == 200
    assert "attributes" not in then.json


FAULTY: list[tuple[Any, set[str]]] = [
    ({"data": {"": "x"}}, {"/data/"}),
    ({"data": {"k" * 129: "x"}}, {f"/data/{'k' * 129}"}),
    ({"data": {"k": "x" * 513}}, {"/data/k"}),
    ({"data": {"k": 7, "l": None}}, {"/data/k", "/data/l"}),
    ({"data": {f"k{n}": "" for n in range(ATTRIBUTES_MAX + 1)}}, {"/data"}),
    ({"data": [], "mode": "mix"}, {"/data", "/mode"}),
    ({"mode": "merge"}, {"/data"}),
    ({"data": {"k": "a\0b"}}, {"/data/k"}),
    ({"data": {}, "more": 1}, {"/more"}),
]


async def test_every_fault_of_attributes_is_named(site: Site) -> None:
    for body, pointers in FAULTY:
        problem = assert_is_problem(await site.call("PUT", A, caller="device", json=body), 422)
        assert {each["pointer"] for each in problem["errors"]} == pointers
    assert await said(site) == {}


async def test_the_largest_attributes_are_stored_and_found(site: Site) -> None:
    data = {f"{n:02}{'é' * 126}": "ü" * 512 for n in range(20)}
    for start in range(0, 20, 10):
        part = dict(list(data.items())[start : start + 10])
        assert (await put(site, part)).status == 200
    assert await said(site) == data
    assert await found(site, f"00{'é' * 126}:{'ü' * 512}") == ["d1"]


async def test_more_than_a_hundred_attributes_in_all_are_refused(site: Site) -> None:
    first = {f"k{n}": "" for n in range(60)}
    await put(site, first)
    refused = await put(site, {f"l{n}": "" for n in range(60)})
    assert assert_is_problem(refused, 422)["code"] == "too_many_attributes"
    assert await said(site) == first


async def test_a_filter_is_a_pair_and_given_at_most_ten_times(site: Site) -> None:
    for text in ("site", "", ":", "%00:x", f"k:{'x' * 513}", f"{'k' * 129}:x"):
        problem = assert_is_problem(await site.get(f"{P}/devices?attribute={text}"), 422)
        assert [each["parameter"] for each in problem["errors"]] == ["attribute"]
    assert await found(site, "%ff:x") == []
    assert await found(site, *["k:v"] * 10) == []
    problem = assert_is_problem(await site.get(f"{P}/devices?{'attribute=k:v&' * 11}"), 422)
    assert problem["errors"][0]["reason"] == "is given more than 10 times"


async def test_a_changed_version_is_recorded_as_a_report(site: Site) -> None:
    await site.call("PATCH", P, caller="admin", json={"version_attribute": "fw"})
    before = await size(site)
    await put(site, {"fw": "1.0.0", "version": "9.0.0"})
    await put(site, {"fw": "1.0.0"})
    await put(site, {"site": "lyon"})
    await put(site, {"fw": "not a version"})
    await put(site, {"fw": "1.1.0"}, "replace")
    await put(site, {"fw": "1.0.0"}, "remove")
    shown = (await site.get(D)).json
    assert (shown["version"], shown["previous_version"], shown["status"]) == (
        "1.1.0",
        "1.0.0",
        "running",
    )
    history = (await site.get(f"{D}/history")).json["items"]
    assert [(each["version"], each["status"]) for each in history] == [
        ("1.1.0", "running"),
        ("1.0.0", "running"),
    ]
    assert await size(site) == before + 2


async def test_the_usual_attribute_carries_the_version_if_the_project_names_none(
    site: Site,
) -> None:
    await put(site, {"memfault__current_version": "2.0.0"})
    assert (await site.get(D)).json["version"] == "2.0.0"


async def test_the_version_settles_an_installation(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    await fleet.get(f"{D}/update", "device")
    await fleet.report({"version": "1.1.0", "status": "installing"})
    await put(fleet, {"firmtrail.version": "1.1.0"})
    assert (await fleet.get(D)).json["status"] == "installed"
    assert (await fleet.get(f"{P}/rollouts/{rollout}")).json["progress"]["installed"] == 1


async def test_an_old_version_after_the_restart_is_a_failed_attempt(fleet: Site) -> None:
    await roll_out(fleet)
    await fleet.get(f"{D}/update", "device")
    await put(fleet, {"firmtrail.version": "1.0.0"})
    await fleet.report({"version": "1.1.0", "status": "rebooting"})
    await put(fleet, {"firmtrail.version": "1.0.0"})
    [offer] = (await fleet.get(f"{D}/explain")).json["offers"]
    assert (offer["attempts"], offer["outcome"]) == (1, "failed")


async def test_a_version_among_the_attributes_answers_an_open_question(site: Site) -> None:
    await site.report({"version": "1.0.0"})
    asked = await site.call("POST", f"{D}/ask", caller="operator", json={})
    assert asked.status in {200, 201, 202}, asked.body
    await put(site, {"version": "1.0.0"})
    assert (await site.get(f"{D}/update", "device")).json["question"] is None


async def test_a_version_that_a_decommission_overtakes_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = site.services.recorder
    report_one = recorder.report_one

    async def overtaken(log_id: int, report: ReportCommand) -> ReportReceipt:
        gone = await site.call("DELETE", D, caller="operator")
        assert gone.status in {200, 204}, gone.body
        return await report_one(log_id, report)

    monkeypatch.setattr(recorder, "report_one", overtaken)
    answer = await put(site, {"version": "1.0.0"})
    assert assert_is_problem(answer, 409)["code"] == "device_decommissioned"


async def test_a_device_without_a_model_names_it_once(site: Site) -> None:
    await put(site, {"memfault__hardware_version": "evt"})
    assert (await site.get(D)).json["model"] == "evt"
    await put(site, {"memfault__hardware_version": "secret-model"})
    assert (await site.get(D)).json["model"] == "evt"
    assert (await events(site))[-1] == (
        "DeviceChanged(model='evt', cohort=UNSET, tags=UNSET, pinned=UNSET)"
    )


async def test_a_project_that_names_the_attribute_lets_devices_change_their_model(
    site: Site,
) -> None:
    await site.call("PATCH", P, caller="admin", json={"model_attribute": "hw"})
    for model in ("evt", "dvt"):
        await put(site, {"hw": model})
        assert (await site.get(D)).json["model"] == model
    await put(site, {"hw": "no name"})
    assert (await site.get(D)).json["model"] == "dvt"


async def test_settings_of_attributes_are_set_and_unset(site: Site) -> None:
    for value in ("fw", None):
        change = {"version_attribute": value, "model_attribute": value}
        answer = await site.call("PATCH", P, caller="admin", json=change)
        assert answer.json | change == answer.json
        assert (await site.get(P)).json == answer.json
    assert_is_problem(
        await site.call("PATCH", P, caller="admin", json={"version_attribute": ""}), 422
    )


async def test_attributes_are_read_and_written_by_those_who_may(site: Site) -> None:
    for caller, status in {
        "device": 200,
        "gateway": 200,
        "operator": 200,
        "admin": 200,
        "viewer": 403,
        "auditor": 403,
        "stranger": 404,
    }.items():
        assert (await put(site, {"by": caller}, caller=caller)).status == status, caller
    for caller, status in {
        "device": 200,
        "viewer": 200,
        "operator": 200,
        "gateway": 403,
        "stranger": 404,
    }.items():
        assert (await site.get(A, caller)).status == status, caller
    for caller in ("device", "gateway", "viewer"):
        assert_is_problem(await site.call("DELETE", A, caller=caller), 403)
    assert_is_problem(await put(site, {}, path=f"{D2}/attributes"), 401)


async def test_a_device_that_is_unknown_or_decommissioned_says_nothing(site: Site) -> None:
    nobody = f"{P}/devices/nobody/attributes"
    assert_is_problem(await put(site, {"a": "b"}, caller="operator", path=nobody), 404)
    assert_is_problem(await site.get(nobody), 404)
    assert_is_problem(await site.call("DELETE", nobody, caller="operator"), 404)
    await site.call("DELETE", D2, caller="operator")
    gone = await put(site, {"a": "b"}, caller="operator", path=f"{D2}/attributes")
    assert assert_is_problem(gone, 409)["code"] == "device_decommissioned"


async def test_an_erased_attribute_leaves_nothing(site: Site, database_url: str) -> None:
    await put(site, {"owner": "Ann of 12 Long Street"})
    await put(site, {"owner": "Bob of 34 Short Street"})
    deleted = await site.call("DELETE", A, caller="operator")
    assert (deleted.status, deleted.body) == (204, b"")
    assert (await site.get(A)).json == {"data": {}, "changed_at": None}
    for table in ("reported_attributes", "attribute_pairs"):
        assert await read(site.services.db, f"SELECT project FROM {table}") == []
    if database_url.startswith("sqlite"):
        path = Path(database_url.removeprefix("sqlite:///"))
        for file in path.parent.glob(f"{path.name}*"):
            if file.is_file():
                left = file.read_bytes()
                assert b"Long Street" not in left and b"Short Street" not in left, file
