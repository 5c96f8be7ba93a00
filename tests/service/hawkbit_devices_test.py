"""Tests what devices that speak hawkBit's protocol say of themselves, and how they join."""

from typing import Any

from tests.service.ddi import Ddi, size
from tests.service.enrolment_test import let_join, set_enrolment
from tests.service.site import D, P
from tests.service.steered import post, roll_out


async def test_with_a_version_attribute_the_version_that_runs_is_the_outcome(ddi: Ddi) -> None:
    site = ddi.site
    await site.call("PATCH", P, caller="admin", json={"version_attribute": "sw"})
    rollout = await roll_out(site)
    await ddi.call("PUT", "/configData", {"data": {"sw": "1.0.0"}})
    for runs, outcome in (("1.0.0", "failed"), ("1.1.0", "installed")):
        action = (await ddi.deployment())["id"]
        assert await ddi.say(action, "closed", "success") == 200
        assert await ddi.shown() == set()
        progress = (await site.get(f"{P}/rollouts/{rollout}")).json["progress"]
        assert progress["installed"] == 0
        answer = await ddi.call("PUT", "/configData", {"data": {"sw": runs}})
        assert (answer.status, answer.body) == (200, b"")
        progress = (await site.get(f"{P}/rollouts/{rollout}")).json["progress"]
        assert progress[outcome] == 1


async def test_a_device_says_which_version_it_runs(ddi: Ddi) -> None:
    site = ddi.site
    before = await size(site)
    for version, status in (("1.0.0", 200), ("1.2.0", 201), ("1.2.0", 200)):
        said = {"name": "linux", "version": version}
        assert (await ddi.call("PUT", "/installedBase", said)).status == status
    assert await size(site) == before + 1
    device = (await site.get(D)).json
    assert (device["version"], device["status"]) == ("1.2.0", "running")
    refused = await ddi.call("PUT", "/installedBase", {"name": "linux", "version": "new"})
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/version")
    await post(site, "devices/d1/ask")
    assert (await ddi.call("PUT", "/installedBase", {"version": "1.2.0"})).status == 201
    [asked] = (await site.get(f"{D}/asks")).json["items"]
    assert (asked["state"], asked["version"]) == ("answered", "1.2.0")


async def test_an_open_question_invites_the_device_to_say_what_it_is(ddi: Ddi) -> None:
    site = ddi.site
    said = {"data": {"memfault__current_version": "1.0.0"}}
    assert (await ddi.call("PUT", "/configData", said)).status == 200
    assert "configData" not in await ddi.links()
    await post(site, "devices/d1/ask")
    assert "configData" in await ddi.links()
    assert (await ddi.call("PUT", "/configData", said)).status == 200
    [asked] = (await site.get(f"{D}/asks")).json["items"]
    assert (asked["state"], asked["version"]) == ("answered", "1.0.0")
    assert "configData" not in await ddi.links()


async def test_a_device_is_asked_what_it_is_at_first_and_after_an_outcome(ddi: Ddi) -> None:
    site = ddi.site
    assert "configData" in await ddi.links()
    sent: dict[str, Any] = {
        "id": "",
        "time": "20261128T150240",
        "status": {"result": {"finished": "success"}, "execution": "closed", "details": []},
        "data": {"memfault__current_version": "1.2.0", "board": "a", "n": 7},
        "mode": "merge",
    }
    assert (await ddi.call("PUT", "/configData", sent)).status == 200
    assert "configData" not in await ddi.links()
    assert (await site.get(D)).json["version"] == "1.2.0"
    found = (await site.get(f"{D}/attributes")).json["data"]
    assert found == {"memfault__current_version": "1.2.0", "board": "a", "n": "7"}
    before = await size(site)
    assert (await ddi.call("PUT", "/configData", sent)).status == 200
    assert await size(site) == before


async def test_memfaults_linux_device_joins_says_what_it_is_and_gets_its_update(ddi: Ddi) -> None:
    """It is SWUpdate, with the project's key as gateway token, and three attributes."""
    site = ddi.site
    await let_join(site)
    token = f"GatewayToken {site.credentials['join']}"
    new = Ddi(site, "/api/v0/hawkbit/default/controller/v1/serial-7", token)
    assert set(await new.links()) == {"configData"}
    said = {
        "memfault__current_version": "1.0.0",
        "memfault__hardware_version": "m",
        "memfault__software_type": "main",
    }
    assert (await new.call("PUT", "/configData", {"data": said})).status == 200
    device = (await site.get(f"{P}/devices/serial-7")).json
    assert (device["model"], device["version"]) == ("m", "1.0.0")
    await roll_out(site)
    assert (await new.deployment())["id"] == "1"
    assert await new.say(1, "closed", "success") == 200
    said["memfault__current_version"] = "1.1.0"
    assert (await new.call("PUT", "/configData", {"data": said})).status == 200
    assert (await site.get(f"{P}/devices/serial-7")).json["version"] == "1.1.0"


async def test_a_pending_device_is_shown_nothing(ddi: Ddi) -> None:
    site = ddi.site
    await set_enrolment(site, "approve")
    await let_join(site, model="m")
    token = f"GatewayToken {site.credentials['join']}"
    new = Ddi(site, "/default/controller/v1/new", token)
    await site.report({"version": "1.0.0"}, caller="join", path=f"{P}/devices/new")
    await roll_out(site)
    assert await new.shown() == set()
    accepted = await site.call("POST", f"{P}/devices/new/accept", caller="operator", json={})
    assert accepted.status < 300, accepted.body
    assert await new.shown() == {"deploymentBase"}
