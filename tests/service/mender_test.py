"""A device that speaks Mender's API joins, is offered deployments, and reports them, as the rules
of every device say."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from limits import RateLimitItemPerMinute

from firmtrail.access import hashing
from tests.service.enrolling import set_enrolment
from tests.service.mender import BYTES, ONE, device, joined, offered
from tests.service.mender_device import (
    AUTH,
    DEPLOYMENTS,
    INVENTORY,
    NEXT,
    OLD_NEXT,
    MenderDevice,
    PrivateKey,
    rsa_key,
)
from tests.service.site import P, Site
from tests.service.steered import post, roll_out

__all__ = ["device"]


async def register(site: Site, name: str) -> None:
    body = {"device": name, "model": "m"}
    answer = await site.call("POST", f"{P}/devices", caller="operator", json=body)
    assert answer.status == 201, answer.body


async def reports(site: Site) -> list[str]:
    types = "FirmwareInstalled,FirmwareRunning,UpdateProgressed,UpdateFailed,UpdateOffered"
    answer = await site.get(f"{P}/events?type={types}&stream=device/one")
    return [line.decode() for line in answer.body.splitlines()]


@pytest.mark.parametrize(
    "key",
    [rsa_key(), ec.generate_private_key(ec.SECP256R1()), Ed25519PrivateKey.generate()],
    ids=["rsa", "ecdsa", "ed25519"],
)
async def test_a_device_is_known_by_its_key(device: MenderDevice, key: PrivateKey) -> None:
    device.key = key
    first = await device.authenticate()
    assert (first.status, first.headers["Content-Type"]) == (200, "application/jwt; charset=utf-8")
    assert first.body.count(b".") == 2
    assert (await device.next()).status == 204
    device.tenant = ""
    assert (await device.authenticate()).status == 200, "a known key needs no tenant"
    assert (await device.site.get(ONE)).json["model"] == "m"


async def test_every_wrong_request_gets_the_same_401(device: MenderDevice) -> None:
    await joined(device)
    site = device.site
    wrong = [
        MenderDevice(site, "nowhere"),
        MenderDevice(site, "acme", "new"),  # the project is closed
        MenderDevice(site, "ftt_" + "x" * 43),
        MenderDevice(site, site.credentials["device"], "d1"),
        MenderDevice(site, site.credentials["viewer"], "new"),
        MenderDevice(site, site.credentials["stranger"], "bad name!"),
        MenderDevice(site, "", "new"),
        MenderDevice(site, device.tenant, "bad name!"),
        MenderDevice(site, device.tenant, "weak", rsa_key(1024)),
    ]
    answers = [await each.authenticate() for each in wrong]
    answers.append(await device.authenticate(**{"X-Men-Signature": "AAAA"}))
    assert {each.status for each in answers} == {401}
    assert len({each.json["detail"] for each in answers}) == 1
    assert (await site.call("POST", AUTH, data=b"{")).status == 400


@pytest.mark.one_back_end
@pytest.mark.parametrize("token", ["", "a.b.c", "x" * 43, "{}.{}.{}"])
async def test_a_token_that_is_not_ours_opens_nothing(device: MenderDevice, token: str) -> None:
    device.token = token
    for path in (NEXT, OLD_NEXT, f"{DEPLOYMENTS}/1/status"):
        method = "PUT" if path.endswith("status") else "POST"
        assert (await device.call(method, path, {})).status == 401
    other = MenderDevice(device.site, device.tenant, "other")
    await joined(other)
    await joined(device)
    head, _, end = device.token.rpartition(".")
    device.token = f"{other.token.rpartition('.')[0]}.{end}"
    assert (await device.next()).status == 401
    device.token = head
    assert (await device.next()).status == 401


async def test_a_token_ends_with_the_key_that_it_names(device: MenderDevice) -> None:
    await joined(device)
    assert (await device.next()).status == 204
    await device.site.call("POST", f"{ONE}/secret", caller="operator", json={})
    assert (await device.next()).status == 401
    assert (await device.authenticate()).status == 401
    await device.site.call("POST", f"{ONE}/accept", caller="operator", json={})
    await joined(device)
    assert (await device.next()).status == 204


async def test_a_key_that_is_offered_for_a_device_that_called_waits(device: MenderDevice) -> None:
    await joined(device)
    await device.next()
    thief = MenderDevice(device.site, device.tenant)
    for _ in range(3):
        assert (await thief.authenticate()).status == 401
    assert (await device.site.get(f"{P}/devices?pending=true")).json["items"]
    assert (await device.next()).status == 204, "the device works on"
    kinds = await device.site.get(f"{P}/events?type=DeviceKeyOffered&stream=device/one")
    assert len(kinds.body.splitlines()) == 1


async def test_a_stranger_leaves_no_trace_in_a_closed_project(device: MenderDevice) -> None:
    site = device.site
    await joined(device)
    await register(site, "fresh")
    before = (await site.get(f"{P}/events")).body
    answers = [
        await MenderDevice(site, "acme", name).authenticate()
        for name in ("one", "d1", "fresh", "new")
        for _ in range(2)
    ]
    assert {(each.status, each.json["detail"]) for each in answers} == {
        (401, answers[0].json["detail"])
    }
    assert (await site.get(f"{P}/events")).body == before
    await joined(MenderDevice(site, device.tenant, "fresh"))


async def test_a_strangers_key_does_not_keep_out_the_first_key_through_a_token(
    device: MenderDevice,
) -> None:
    await set_enrolment(device.site, "open")
    await register(device.site, "fresh")
    assert (await MenderDevice(device.site, "acme", "fresh").authenticate()).status == 401
    assert (await device.site.get(f"{P}/devices/fresh")).json["offered_key"]
    await joined(MenderDevice(device.site, device.tenant, "fresh"))
    assert (await device.site.get(f"{P}/devices/fresh")).json["offered_key"] is None


async def test_a_strangers_waiting_key_gives_way_to_a_key_through_a_token(
    device: MenderDevice,
) -> None:
    await set_enrolment(device.site, "open")
    await joined(device)

    async def waiting() -> str:
        return str((await device.site.get(f"{P}/devices/one")).json["offered_key"])

    await MenderDevice(device.site, "acme", "one").authenticate()
    strangers = await waiting()
    new, other = (MenderDevice(device.site, device.tenant, "one") for _ in range(2))
    assert (await new.authenticate()).status == 401
    vouched = await waiting()
    assert vouched != strangers
    for late in (other, MenderDevice(device.site, "acme", "one"), new):
        assert (await late.authenticate()).status == 401
        assert await waiting() == vouched
    assert (await device.next()).status == 204
    await device.site.call("POST", f"{P}/devices/one/accept", caller="operator", json={})
    await joined(new)


async def test_a_second_key_does_not_replace_the_first(device: MenderDevice) -> None:
    await register(device.site, "fresh")
    for name in ("one", "fresh"):
        first = MenderDevice(device.site, device.tenant, name)
        await joined(first)
        assert (await MenderDevice(device.site, device.tenant, name).authenticate()).status == 401
        assert (await first.next()).status == 204
        await joined(first)


async def test_devices_that_join_through_a_token_do_not_count_as_guesses(
    device: MenderDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_PER_ADDRESS", RateLimitItemPerMinute(2))
    for n in range(4):
        await joined(MenderDevice(device.site, device.tenant, f"new-{n}"))
    await set_enrolment(device.site, "approve")
    waiting = MenderDevice(device.site, device.tenant, "waiting")
    assert {(await waiting.authenticate()).status for _ in range(4)} == {401}
    strangers = [MenderDevice(device.site, "acme", "d2") for _ in range(4)]
    assert [(await each.authenticate()).status for each in strangers] == [401, 401, 429, 429]


async def test_a_device_of_a_careful_project_waits_for_acceptance(device: MenderDevice) -> None:
    await set_enrolment(device.site, "approve")
    for tenant in (device.tenant, "acme"):
        device.tenant, device.name = tenant, f"of-{len(tenant)}"
        assert (await device.authenticate()).status == 401
        assert (await device.authenticate()).status == 401
        path = f"{P}/devices/{device.name}"
        assert (await device.site.get(path)).json["pending"]
        await device.site.call("POST", f"{path}/accept", caller="operator", json={})
        await joined(device)


async def test_an_open_project_trusts_the_first_key_of_a_new_name(device: MenderDevice) -> None:
    await set_enrolment(device.site, "open")
    device.tenant, device.name = "acme", "new"
    await joined(device)
    other = MenderDevice(device.site, "acme", "new")
    assert (await other.authenticate()).status == 401
    known = MenderDevice(device.site, "acme", "d2")
    assert (await known.authenticate()).status == 401, "d2 belongs to the fleet already"


async def test_a_whole_update_is_four_reports(device: MenderDevice) -> None:
    await joined(device)
    assert (await device.next()).status == 204
    await roll_out(device.site, percent=100)
    deployment = await offered(device)
    assert await offered(device) == deployment, "the deployment stays the same while it is open"
    described = deployment["artifact"]
    assert (described["artifact_name"], described["device_types_compatible"]) == ("1.1.0", ["m"])
    async with device.site.client.get(_path_of(described["source"]["uri"])) as response:
        assert await response.read() == BYTES + b"1.1.0"
    steps = ["downloading"] * 3 + ["installing"] * 2 + ["success", "success"]
    assert {await device.status(deployment["id"], each) for each in steps} == {204}
    device.runs = "1.1.0"
    assert (await device.next(OLD_NEXT)).status == 204
    assert (await device.site.get(ONE)).json["version"] == "1.1.0"
    kinds = [
        line.split('"type":"firmtrail.')[1].split(".")[0] for line in await reports(device.site)
    ]
    assert kinds == [
        "FirmwareRunning",
        "UpdateOffered",
        "UpdateProgressed",
        "UpdateProgressed",
        "FirmwareInstalled",
    ]


def _path_of(uri: str) -> str:
    return "/" + uri.split("/", 3)[3]


async def test_an_old_client_asks_with_a_query(device: MenderDevice) -> None:
    await joined(device)
    await roll_out(device.site, percent=100)
    asked = f"{OLD_NEXT}?artifact_name=1.0.0&device_type=m&more=x"
    before = await reports(device.site)
    assert (await device.call("HEAD", asked)).status == 204
    assert await reports(device.site) == before
    first = await device.call("GET", asked)
    assert first.status == 200, first.body
    assert first.json == (await offered(device))
    assert await device.status(first.json["id"], "success") == 204
    assert (await device.call("GET", asked.replace("1.0.0", "1.1.0"))).status == 204
    shown = (await device.site.get(ONE)).json
    assert (shown["version"], shown["status"]) == ("1.1.0", "installed")


async def test_no_id_of_a_deployment_is_a_part_of_another_id_or_of_a_small_number(
    device: MenderDevice,
) -> None:
    """The client takes a log from the first file whose name contains the id."""
    await joined(device)
    await device.next()
    await roll_out(device.site, percent=100)
    deployment = (await offered(device))["id"]
    assert deployment == "offer-000000001"
    assert await device.status(deployment, "downloading") == 204
    assert await device.status("offer-000000002", "downloading") == 404


async def test_a_failure_has_the_log_as_its_detail_and_is_one_attempt(
    device: MenderDevice,
) -> None:
    await joined(device)
    await device.next()
    rollout = await roll_out(device.site, percent=100)
    deployment = (await offered(device))["id"]
    for status in ("downloading", "installing", "failure"):
        assert await device.status(deployment, status) == 204
    log = {"messages": [{"level": "error", "message": "flash is worn", "timestamp": "x"}]}
    for _ in range(2):
        assert (await device.call("PUT", f"{DEPLOYMENTS}/{deployment}/log", log)).status == 204
    device.runs = "1.1.0_INCONSISTENT"
    assert (await offered(device))["id"] != deployment, "the next attempt is another deployment"
    shown = (await device.site.get(ONE)).json
    assert (shown["version"], shown["status"]) == ("1.0.0", "failed")
    explained = (await device.site.get(f"{ONE}/explain")).json["offers"]
    assert [each["attempts"] for each in explained if each["source"] == rollout] == [1]
    history = (await device.site.get(f"{ONE}/history?progress=true")).json["items"]
    assert "flash is worn" in str(history)


async def test_an_update_that_was_paused_before_it_began_is_given_up(device: MenderDevice) -> None:
    await joined(device)
    await device.next()
    rollout = await roll_out(device.site, percent=100)
    deployment = (await offered(device))["id"]
    assert await device.status(deployment, "downloading") == 204
    await post(device.site, f"rollouts/{rollout}/pause", {"reason": "a doubt"})
    assert [await device.status(deployment, each) for each in ("downloading", "failure")] == [
        409,
        409,
    ]
    assert (await device.next()).status == 204
    await post(device.site, f"rollouts/{rollout}/resume", {"reason": "none"})
    again = await offered(device)
    assert again["id"] != deployment
    explained = (await device.site.get(f"{ONE}/explain")).json["offers"]
    assert {each["attempts"] for each in explained} == {0}


async def test_the_next_poll_answers_what_an_operator_asked(device: MenderDevice) -> None:
    await joined(device)
    await device.next()
    await post(device.site, "devices/one/ask")
    for _ in range(2):
        assert (await device.next()).status == 204
    [asked] = (await device.site.get(f"{ONE}/asks")).json["items"]
    assert (asked["state"], asked["version"]) == ("answered", "1.0.0")
    assert len(await reports(device.site)) == 2, "each ask is answered once"


async def test_a_version_that_was_being_installed_has_been_installed(device: MenderDevice) -> None:
    await joined(device)
    await device.next()
    await roll_out(device.site, percent=100)
    deployment = (await offered(device))["id"]
    for status in ("downloading", "installing"):
        assert await device.status(deployment, status) == 204
    device.runs = "1.1.0"
    assert (await device.next()).status == 204
    shown = (await device.site.get(ONE)).json
    assert (shown["version"], shown["status"]) == ("1.1.0", "installed")


async def test_a_deployment_that_is_over_is_refused_with_what_to_do(device: MenderDevice) -> None:
    await joined(device)
    await device.next()
    rollout = await roll_out(device.site, percent=100)
    deployment = (await offered(device))["id"]
    await post(device.site, f"rollouts/{rollout}/pause", {"reason": "a doubt"})
    path = f"{DEPLOYMENTS}/{deployment}/status"
    answer = await device.call("PUT", path, {"status": "downloading"})
    assert (answer.status, answer.json["code"]) == (409, "action_over")
    assert answer.json["detail"] == (
        f"Deployment {deployment} is over: the device should give it up."
    )


async def test_an_install_that_began_is_never_lost(device: MenderDevice) -> None:
    await joined(device)
    await device.next()
    rollout = await roll_out(device.site, percent=100)
    deployment = (await offered(device))["id"]
    for status in ("downloading", "installing"):
        assert await device.status(deployment, status) == 204
    await post(device.site, f"rollouts/{rollout}/abort", {"reason": "a doubt"})
    assert [await device.status(deployment, each) for each in ("installing", "success")] == [
        204,
        204,
    ]
    assert (await device.site.get(ONE)).json["version"] == "1.1.0"


async def test_the_inventory_becomes_the_devices_attributes(device: MenderDevice) -> None:
    await joined(device)
    said = [{"name": "device_type", "value": "m"}, {"name": "ip", "value": ["a", "b"]}]
    said += [{"name": "long", "value": "x" * 5_000}, {"name": "k" * 500, "value": "left out"}]
    assert (await device.call("PUT", INVENTORY, said)).status == 200
    assert (await device.call("PATCH", INVENTORY, [{"name": "more", "value": "1"}])).status == 200
    found = (await device.site.get(f"{ONE}/attributes")).json
    kept = found.get("attributes", found.get("data", found))
    assert kept["ip"] == "a,b"
    assert set(kept) == {"device_type", "ip", "long", "more"}
    assert len(kept["long"]) == 512


async def test_a_foreign_deployment_is_not_found(device: MenderDevice) -> None:
    await joined(device)
    for name in ("1", "0", "99999999999999", "x"):
        assert await device.status(name, "success") == 404
