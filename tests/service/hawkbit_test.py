"""Tests hawkBit's protocol for devices: polls, actions, feedback, cancellations."""

import pytest

from firmtrail.rules.action import GIVEN_UP_MS
from tests.service.continued import go_on
from tests.service.ddi import Ddi, add_artifact, events, reports, size
from tests.service.site import D, P
from tests.service.steered import post, roll_out

DONE = {"cnt": 1, "of": 1}
BEGUN = {"cnt": 0, "of": 1}


async def test_an_install_is_five_events_however_much_the_client_says(ddi: Ddi) -> None:
    site = ddi.site
    assert await ddi.shown() == set()
    await roll_out(site)
    before = await size(site)
    described = await ddi.deployment()
    assert described["id"] == "1"
    assert await ddi.say(1, "proceeding", progress=BEGUN, details=["Installing"]) == 200
    for n in range(20):
        assert await ddi.say(1, "proceeding", details=[f"{n} % done"]) == 200
    assert await ddi.say(1, "proceeding", progress=DONE, details=["Installed Chunk."]) == 200
    assert await ddi.say(1, "proceeding", progress=DONE, details=["All Chunks Installed."]) == 200
    assert await ddi.shown() == {"deploymentBase"}
    for _ in range(2):
        assert await ddi.say(1, "closed", "success") == 200
    assert await reports(site) == ["downloading", "installing", "rebooting", "installed"]
    assert await size(site) - before == 5
    assert await ddi.shown() == set()
    assert (await site.get(D)).json["version"] == "1.1.0"
    assert set(await ddi.links()) == {"installedBase", "configData"}
    installed = await ddi.call("GET", "/installedBase/1")
    assert installed.json == described


async def test_a_poll_with_nothing_new_writes_nothing(ddi: Ddi) -> None:
    await roll_out(ddi.site)
    await ddi.poll()
    before = await size(ddi.site)
    for _ in range(3):
        await ddi.deployment()
    assert await size(ddi.site) == before


async def test_a_poll_has_an_interval_and_an_etag_that_does_not_depend_on_it(ddi: Ddi) -> None:
    first = await ddi.call("GET")
    sleep = first.json["config"]["polling"]["sleep"]
    assert len(sleep) == 8 and sleep[:4] == "00:0"
    assert 240 <= int(sleep[3:5]) * 60 + int(sleep[6:]) <= 360
    again = await ddi.call("GET", If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    await roll_out(ddi.site)
    assert (await ddi.call("GET", If_None_Match=first.headers["ETag"])).status == 200
    await ddi.site.call("PATCH", P, caller="admin", json={"poll_after_s": 7 * 86_400})
    assert (await ddi.poll())["config"]["polling"]["sleep"] == "23:59:59"


@pytest.mark.one_back_end
@pytest.mark.parametrize("tenant", ["acme", "ACME", "default", "DEFAULT"])
@pytest.mark.parametrize("mount", ["", "/api/v0/hawkbit"])
async def test_links_repeat_the_path_as_the_request_spells_it(
    ddi: Ddi, mount: str, tenant: str
) -> None:
    await roll_out(ddi.site)
    here = Ddi(ddi.site, f"{mount}/{tenant}/controller/v1/d1")
    base = str(ddi.site.client.make_url(here.base))
    assert (await here.links())["deploymentBase"] == f"{base}/deploymentBase/1?c=1"
    [file] = (await here.deployment())["deployment"]["chunks"][0]["artifacts"]
    assert file["_links"]["download-http"]["href"].startswith(f"{base}/softwaremodules/1/")
    assert (await here.call("GET", file["_links"]["download"]["href"])).status == 200


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    ("base", "authorization"),
    [
        ("/acme/controller/v1/d1", "TargetToken wrong"),
        ("/acme/controller/v1/d1", "targettoken {device}"),
        ("/acme/controller/v1/d1", "TargetToken"),
        ("/acme/controller/v1/d2", "TargetToken {device}"),
        ("/acme/controller/v1/nobody", "TargetToken {device}"),
        ("/other/controller/v1/d1", "TargetToken {device}"),
        ("/nowhere/controller/v1/d1", "TargetToken {device}"),
        ("/default/controller/v1/d2", "TargetToken {device}"),
    ],
)
async def test_wrong_credentials_get_the_same_401(ddi: Ddi, base: str, authorization: str) -> None:
    sent = authorization.format(**ddi.site.credentials)
    for method, path, body in (
        ("GET", "", None),
        ("GET", "/deploymentBase/1", None),
        ("POST", "/deploymentBase/1/feedback", {"status": {"execution": "closed"}}),
        ("PUT", "/configData", {"data": {}}),
        ("GET", "/softwaremodules/1/artifacts/app.swu", None),
    ):
        answer = await Ddi(ddi.site, base, sent).call(method, path, body)
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")


async def test_a_gateway_speaks_for_each_device(ddi: Ddi) -> None:
    await roll_out(ddi.site)
    token = f"GatewayToken {ddi.site.credentials['gateway']}"
    for tenant in ("acme", "default"):
        for device in ("d1", "d2"):
            here = Ddi(ddi.site, f"/{tenant}/controller/v1/{device}", token)
            assert await here.shown() == {"deploymentBase"}


async def test_an_action_is_small_enough_for_zephyr(ddi: Ddi) -> None:
    name = "nrf52840dk-nrf52840-0123456789abcdef"
    site = ddi.site
    added = await post(site, "devices", {"device": name, "model": "m"})
    await site.report({"version": "1.0.0"}, caller="operator", path=f"{P}/devices/{name}")
    await site.call("PATCH", P, caller="admin", json={"hawkbit_parts": {"m": "bApp"}})
    await roll_out(site)
    token = f"TargetToken {added.json['secret']}"
    zephyr = Ddi(site, f"/DEFAULT/controller/v1/{name}", token)
    href = (await zephyr.links())["deploymentBase"]
    assert len(href.rpartition("/v1/")[2].removeprefix(f"{name}/")) < 50
    answer = await zephyr.call("GET", href)
    assert len(answer.body) < 1_100
    [chunk] = answer.json["deployment"]["chunks"]
    assert chunk["part"] == "bApp"
    [file] = chunk["artifacts"]
    download = file["_links"]["download-http"]["href"]
    assert "/DEFAULT/controller/v1" in download
    assert len(download) < 200
    assert len(file["hashes"]["sha256"]) == 64


async def test_without_one_clear_file_there_is_no_action(ddi: Ddi) -> None:
    site = ddi.site
    await add_artifact(site, name="other.swu")
    await roll_out(site)
    before = await size(site)
    assert await ddi.shown() == set()
    assert await size(site) == before
    await site.call("PATCH", P, caller="admin", json={"artifact_names": {"hawkbit": "app.swu"}})
    assert await ddi.shown() == {"deploymentBase"}


async def test_a_pause_cancels_an_action_that_is_not_begun(ddi: Ddi) -> None:
    rollout = await roll_out(ddi.site)
    await ddi.deployment()
    assert await ddi.say(1, "proceeding", progress=BEGUN) == 200
    await post(ddi.site, f"rollouts/{rollout}/pause")
    assert await ddi.shown() == {"cancelAction"}
    assert (await ddi.call("GET", "/deploymentBase/1")).status == 404
    order = await ddi.call("GET", (await ddi.links())["cancelAction"])
    assert order.json == {"id": "1", "cancelAction": {"stopId": "1"}}
    for _ in range(2):
        assert await ddi.say(1, "closed", "success", to="cancelAction") == 200
    [(_, ended)] = await events(ddi.site, "OfferEnded")
    assert ended == {"version": "1.1.0", "ordinal": 1, "ending": "cancelled", "rollout": rollout}
    assert await ddi.shown() == set()
    assert (await ddi.call("GET", "/cancelAction/1")).status == 404
    assert await ddi.say(1, "proceeding") == 410
    assert await ddi.say(1, "closed", "failure") == 410
    progress = (await ddi.site.get(f"{P}/rollouts/{rollout}")).json["progress"]
    assert (progress["failed"], progress["installed"]) == (0, 0)
    await post(ddi.site, f"rollouts/{rollout}/resume")
    assert (await ddi.deployment())["id"] == "2"
    assert await ddi.say(2, "closed", "success") == 200
    assert (await ddi.site.get(f"{P}/rollouts/{rollout}")).json["progress"]["installed"] == 1


async def test_a_device_that_refuses_to_cancel_continues(ddi: Ddi) -> None:
    rollout = await roll_out(ddi.site)
    await ddi.poll()
    await post(ddi.site, f"rollouts/{rollout}/abort")
    assert await ddi.shown() == {"cancelAction"}
    assert await ddi.say(1, "rejected", to="cancelAction") == 200
    assert await ddi.shown() == {"deploymentBase"}
    assert await ddi.say(1, "closed", "success") == 200
    assert (await ddi.site.get(D)).json["version"] == "1.1.0"


async def test_an_install_wins_over_its_cancellation(ddi: Ddi) -> None:
    rollout = await roll_out(ddi.site)
    await ddi.poll()
    await post(ddi.site, f"rollouts/{rollout}/pause")
    assert await ddi.shown() == {"cancelAction"}
    assert await ddi.say(1, "closed", "success") == 200
    assert await ddi.shown() == set()
    assert (await ddi.site.get(D)).json["version"] == "1.1.0"


async def test_an_install_is_confirmed_whatever_was_ordered_meanwhile(ddi: Ddi) -> None:
    site = ddi.site
    await roll_out(site)
    [chunk] = (await ddi.deployment())["deployment"]["chunks"]
    assert await ddi.say(1, "proceeding", progress=DONE) == 200
    await post(site, "halt", {"reason": "why"})
    assert await ddi.shown() == {"deploymentBase"}
    rolled_back = {"bad_version": "1.1.0", "model": "m", "to": "1.0.0", "reason": "bad"}
    assert (await post(site, "rollbacks", rolled_back)).status == 201
    await add_artifact(site, "1.2.0")
    await roll_out(site, "1.2.0")
    assert (await ddi.deployment())["id"] == "1"
    href = chunk["artifacts"][0]["_links"]["download"]["href"]
    gone = await ddi.call("GET", href)
    assert (gone.status, gone.json["code"]) == (410, "withdrawn")
    assert (await site.get(f"{D}/update", "device")).json["version"] != "1.1.0"
    assert (await ddi.deployment())["id"] == "1"
    assert await ddi.say(1, "closed", "success") == 200
    assert (await site.get(D)).json["version"] == "1.1.0"


async def test_a_rollback_follows_when_the_install_is_closed(ddi: Ddi) -> None:
    site = ddi.site
    await add_artifact(site, "1.0.0")
    await roll_out(site)
    await ddi.poll()
    assert await ddi.say(1, "proceeding") == 200
    rolled_back = {"bad_version": "1.1.0", "model": "m", "to": "previous", "reason": "bad"}
    await post(site, "rollbacks", rolled_back)
    assert (await ddi.deployment())["id"] == "1"
    assert await ddi.say(1, "closed", "success") == 200
    described = await ddi.deployment()
    assert described["id"] == "2"
    assert described["deployment"]["chunks"][0]["version"] == "1.0.0"
    assert await ddi.say(2, "closed", "success") == 200
    history = (await site.get(f"{D}/history")).json["items"]
    assert [each["change"] for each in history] == ["rollback", "upgrade", "first"]


async def test_a_failure_keeps_its_messages_and_is_tried_again_as_another_action(
    ddi: Ddi,
) -> None:
    rollout = await roll_out(ddi.site)
    await ddi.poll()
    assert await ddi.say(1, "proceeding") == 200
    for _ in range(2):
        assert await ddi.say(1, "closed", "failure", details=["No suitable", "image"]) == 200
    page = (await ddi.site.get(f"{D}/history?progress=true")).json["items"]
    [failed] = [each for each in page if each["status"] == "failed"]
    assert failed["detail"] == "No suitable\nimage"
    assert (await ddi.deployment())["id"] == "2"
    assert await ddi.say(1, "closed", "failure") == 200
    assert (await ddi.deployment())["id"] == "2"
    assert await ddi.say(2, "rejected") == 200
    assert (await ddi.deployment())["id"] == "3"
    assert await ddi.say(3, "closed", "failure") == 200
    assert await ddi.shown() == set()
    assert (await ddi.site.get(f"{P}/rollouts/{rollout}")).json["progress"]["exhausted"] == 1


async def test_a_success_of_an_action_that_ended_is_what_runs(ddi: Ddi) -> None:
    await roll_out(ddi.site)
    await ddi.poll()
    await ddi.say(1, "closed", "failure")
    await ddi.poll()
    for ended in (1, 1):
        assert await ddi.say(ended, "closed", "success") == 200
    assert (await ddi.site.get(D)).json["version"] == "1.1.0"
    assert [name for name, _ in await events(ddi.site, "FirmwareRunning")] == ["FirmwareRunning"]


@pytest.mark.parametrize("action", ["2", "0", "-1", "x", "1.0", "9" * 40, "٣"])
async def test_an_action_that_was_never_offered_is_not_found(ddi: Ddi, action: str) -> None:
    await roll_out(ddi.site)
    await ddi.poll()
    assert (await ddi.call("GET", f"/deploymentBase/{action}")).status == 404
    assert await ddi.say(action, "closed", "success") == 404
    assert await ddi.say(action, "closed", "success", to="cancelAction") == 404


async def test_an_action_without_a_call_for_a_day_is_given_up(ddi: Ddi) -> None:
    site = ddi.site
    rollout = await roll_out(site)
    await ddi.poll()
    await ddi.say(1, "proceeding")
    await post(site, f"rollouts/{rollout}/pause")
    assert await ddi.shown() == {"deploymentBase"}
    now_ms = site.services.access.now_ms()
    site.services.access._clock = lambda: (now_ms + 2 * GIVEN_UP_MS) / 1000
    assert await ddi.shown() == set()
    [(_, ended)] = await events(site, "OfferEnded")
    assert ended["ending"] == "cancelled"


async def test_numbers_of_actions_continue_in_a_new_log(ddi: Ddi) -> None:
    await roll_out(ddi.site)
    await ddi.poll()
    await ddi.say(1, "closed", "failure")
    await go_on(ddi.site)
    assert (await ddi.deployment())["id"] == "2"
    assert await ddi.say(1, "closed", "failure") == 200
    assert await ddi.say(2, "closed", "success") == 200
    assert (await ddi.site.get(D)).json["version"] == "1.1.0"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"status":{"execution":"closed","details":["a\\u0000b"]}}', 200),
        (b'{"status":{"execution":"closed","details":[1,{"a":[2]}]}}', 200),
        (b'{"status":{"execution":"proceeding","result":{"progress":{"cnt":"x"}}}}', 200),
        (b'{"status":{"execution":"closed","details":["' + b"x" * 100_000 + b'"]}}', 200),
        (b'{"status":{"execution":"unheard"}}', 422),
        (b"{}", 422),
        (b"[]", 422),
        (b"nonsense", 400),
        (b"[" * 100_000, 422),
    ],
)
async def test_feedback_of_any_form_is_taken_or_refused(ddi: Ddi, body: bytes, status: int) -> None:
    await roll_out(ddi.site)
    await ddi.poll()
    answer = await ddi.call("POST", "/deploymentBase/1/feedback", body)
    assert answer.status == status, answer.body
