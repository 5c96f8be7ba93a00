"""Tests what devices that speak hawkBit's protocol say of themselves, and how they join."""

from typing import Any

from tests.service.ddi import Ddi, size
from tests.service.enrolling import let_join, set_enrolment
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


async def test_no_number_of_attributes_hides_the_version(ddi: Ddi) -> None:
    site = ddi.site
    await site.call("PATCH", P, caller="admin", json={"version_attribute": "sw"})
    many = {f"k{n}": "x" for n in range(150)}
    for mode, data, version in (
        ("merge", many | {"sw": "1.0.0"}, "1.0.0"),
        ("merge", {"more": "y", "sw": "1.2.0"}, "1.2.0"),
        ("replace", many | {"sw": "1.1.0"}, "1.1.0"),
    ):
        body = {"mode": mode, "data": data}
        assert (await ddi.call("PUT", "/configData", body)).status == 200, mode
        assert (await site.get(D)).json["version"] == version
        said = (await site.get(f"{D}/attributes")).json["data"]
        assert list(said.items()) == sorted((each, "x") for each in list(many)[:100])
    assert (await ddi.call("PUT", "/configData", {"data": {"k7": "z"}})).status == 200
    assert (await site.get(f"{D}/attributes")).json["data"]["k7"] == "z"


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


async def test_a_device_that_installs_is_not_asked_what_it_is(ddi: Ddi) -> None:
    """Its old version would look like the end of the install."""
    await ddi.call("PUT", "/configData", {"data": {"version": "1.0.0"}})
    await roll_out(ddi.site)
    action = (await ddi.deployment())["id"]
    assert (await ddi.site.call("DELETE", f"{D}/attributes", caller="operator")).status < 300
    assert "configData" in await ddi.links()
    assert await ddi.say(action, "proceeding") == 200
    assert "configData" not in await ddi.links()
    assert await ddi.say(action, "closed", "success") == 200
    assert "configData" in await ddi.links()


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


async def test_an_action_repeats_what_the_device_said_of_it(ddi: Ddi) -> None:
    await roll_out(ddi.site)
    path = "/deploymentBase/1?c=1&actionHistory="
    described = await ddi.deployment()
    assert (await ddi.call("GET", f"{path}-1")).json == described
    assert await ddi.say(1, "proceeding", details=["first", "second"]) == 200
    assert await ddi.say(1, "proceeding", progress={"cnt": 1, "of": 1}) == 200
    said = ["Update Server: the device reported rebooting.", "second", "first"]
    for wanted, messages in ((-1, said), (2, said[:2]), (500, said)):
        answer = (await ddi.call("GET", f"{path}{wanted}")).json
        past = {"status": "RUNNING", "messages": messages}
        assert answer == described | {"actionHistory": past}
    assert (await ddi.call("GET", f"{path}0")).json == described
    assert (await ddi.call("GET", f"{path}some")).status == 422
    assert await ddi.say(1, "closed", "success", details=["done"]) == 200
    assert await ddi.say(1, "closed", "success", details=["done again"]) == 200
    installed = (await ddi.call("GET", "/installedBase/1?actionHistory=1")).json
    assert installed["actionHistory"] == {"status": "FINISHED", "messages": ["done"]}


async def test_a_second_attempt_repeats_only_its_own_messages(ddi: Ddi) -> None:
    await roll_out(ddi.site)
    await ddi.deployment()
    assert await ddi.say(1, "closed", "failure", details=["no space"]) == 200
    action = (await ddi.deployment())["id"]
    assert action == "2"
    assert await ddi.say(action, "proceeding", details=["again"]) == 200
    answer = await ddi.call("GET", f"/deploymentBase/{action}?actionHistory=-1")
    assert answer.json["actionHistory"]["messages"] == ["again"]


async def test_actions_are_confirmed_automatically(ddi: Ddi) -> None:
    answer = await ddi.call("GET", "/confirmationBase")
    assert (answer.status, answer.json) == (200, {"autoConfirm": {"active": True}})
    path = "/confirmationBase/{}activateAutoConfirm"
    said = {"initiator": "me", "remark": "for a test"}
    for body in (None, said):
        assert (await ddi.call("POST", path.format(""), body)).status == 200
        refused = await ddi.call("POST", path.format("de"), body)
        assert (refused.status, refused.json["code"]) == (409, "always_confirmed")
    for method, to in (("GET", "/1"), ("POST", "/1/feedback")):
        body = {"confirmation": "confirmed"} if method == "POST" else None
        assert (await ddi.call(method, f"/confirmationBase{to}", body)).status == 404
    stranger = Ddi(ddi.site, authorization="TargetToken wrong")
    for method, to in (("GET", "/confirmationBase"), ("POST", path.format(""))):
        assert (await stranger.call(method, to)).status == 401


async def test_json_is_the_only_form_of_a_body(ddi: Ddi) -> None:
    """hawkBit's CBOR is not served: the answer says so by its type, and a body in it is refused."""
    answer = await ddi.call("GET", Accept="application/cbor")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    sent = {
        "Authorization": f"TargetToken {ddi.site.credentials['device']}",
        "Content-Type": "application/cbor",
    }
    refused = await ddi.site.call("PUT", f"{ddi.base}/configData", data=b"\xa0", headers=sent)
    assert refused.status == 415, refused.body


async def test_a_log_of_an_install_may_be_long(ddi: Ddi) -> None:
    await roll_out(ddi.site)
    await ddi.deployment()
    details = [f"{n} " + "x" * 2_000 for n in range(100)]
    assert await ddi.say(1, "closed", "failure", details=details) == 200
    [line] = (await ddi.site.get(f"{D}/history?progress=true&limit=1")).json["items"]
    assert line["detail"].endswith(details[-1]) and len(line["detail"]) <= 4096
    assert await ddi.say(1, "closed", "failure", details=details * 2) == 413
