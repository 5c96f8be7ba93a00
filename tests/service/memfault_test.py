"""Checks the routes for devices with Memfault's SDKs, and those of memfault-cli where it would not
notice a mistake. tests/end_to_end/memfault_cli_test.py runs memfault-cli itself.
"""

from typing import Any

import pytest

from tests.people import recorded
from tests.service.downloads import BYTES, MD5, SHA1, SHA256, pin, put
from tests.service.site import D, P, Site
from tests.serving import Answer

LATEST = "/api/v0/releases/latest"
DEVICE = "device_serial=d1&hardware_version=m&software_type=main"
TOOL = "/api/v0/organizations/anything/projects/acme"


@pytest.fixture
async def offered(fleet: Site) -> Site:
    """1.1.0 has one artifact, and d1, which runs 1.0.0, is pinned to it."""
    assert (await put(fleet)).status == 201
    await pin(fleet)
    return fleet


async def latest(
    site: Site, query: str = DEVICE, *, caller: str = "gateway", path: str = LATEST
) -> Answer:
    headers = {"Memfault-Project-Key": site.credentials[caller]}
    return await site.call("GET", f"{path}?{query}", headers=headers)


async def size(site: Site) -> int:
    return len(await recorded(site.services.db, site.log_id))


async def test_a_device_gets_its_release_with_a_url_that_needs_no_key(offered: Site) -> None:
    answer = await latest(offered, f"{DEVICE}&current_version=1.0.0&extra=1")
    assert answer.status == 200
    [shown] = answer.json["artifacts"]
    assert (answer.json["version"], shown["filename"]) == ("1.1.0", "full.bin")
    digests = (shown["sha256"], shown["sha1"], shown["md5"], shown["file_size"])
    assert digests == (SHA256, SHA1, MD5, len(BYTES))
    url = await latest(offered, f"&{DEVICE}", path=f"{LATEST}/url")
    assert (url.status, url.body.decode()) == (200, shown["url"])
    path = shown["url"].partition("/dl/")[2]
    assert (await offered.call("GET", f"/dl/{path}")).body == BYTES


async def test_the_version_that_a_device_runs_is_recorded_when_it_changes(offered: Site) -> None:
    await latest(offered, f"{DEVICE}&current_version=1.0.0")
    before = await size(offered)
    for version, more in (("1.0.0", 0), ("m-1.1.0", 1), ("1.1.0", 1), ("rubbish", 1)):
        answer = await latest(offered, f"{DEVICE}&current_version={version}")
        assert answer.status == (200 if version == "1.0.0" else 204)
        assert await size(offered) == before + more
    shown = (await offered.get(D)).json
    assert (shown["version"], shown["status"]) == ("1.1.0", "running")


async def test_other_hardware_than_is_recorded_gets_nothing(offered: Site) -> None:
    before = await size(offered)
    other = DEVICE.replace("hardware_version=m", "hardware_version=n")
    assert (await latest(offered, other)).status == 204
    assert await size(offered) == before


async def test_a_missing_parameter_is_named(offered: Site) -> None:
    for path in (LATEST, f"{LATEST}/url"):
        answer = await latest(offered, "device_serial=d1&software_type=main", path=path)
        assert answer.status == 400
        assert "hardware_version" in answer.json["error"]["message"]


async def test_a_wrong_key_and_a_foreign_device_are_refused(offered: Site) -> None:
    for path in (LATEST, f"{LATEST}/url"):
        url = f"{path}?{DEVICE}"
        assert (await offered.call("GET", url)).status == 401
        wrong = {"Memfault-Project-Key": "ftt_wrong"}
        assert (await offered.call("GET", url, headers=wrong)).status == 401
        assert (await latest(offered, caller="viewer", path=path)).status == 403
        assert (await latest(offered, caller="stranger", path=path)).status == 404
        assert (await latest(offered, caller="device", path=path)).status == 200
        d2 = DEVICE.replace("d1", "d2")
        assert (await latest(offered, d2, caller="device", path=path)).status == 401
        for strange in ("d%00", "", "../x"):
            answer = await latest(offered, DEVICE.replace("d1", strange), path=path)
            assert answer.status in {400, 404}


async def test_diagnostic_data_is_dropped_and_counted(offered: Site) -> None:
    before = await size(offered)
    headers = {"Memfault-Project-Key": offered.credentials["gateway"]}
    url = "/api/v0/chunks/d1"
    answer = await offered.call("POST", url, data=b"\x08\x02", headers=headers)
    assert (answer.status, await size(offered)) == (202, before)
    assert (await offered.call("POST", url, data=b"x")).status == 401
    text = (await offered.call("GET", "/metrics")).body.decode()
    assert "firmtrail_dropped_chunks_total 1.0" in text


async def announce(site: Site, size_bytes: int = len(BYTES), **body: Any) -> Answer:
    wanted = {"kind": "OTA_PAYLOAD", "size": size_bytes} | body
    return await site.call("POST", f"{TOOL}/upload", caller="operator", json=wanted)


async def send(site: Site, place: Any, data: bytes = BYTES) -> int:
    path = place["upload_url"].removeprefix(str(site.client.make_url("/")))
    return (await site.call("PUT", f"/{path}", data=data)).status


async def name(site: Site, token: str, **changed: Any) -> Answer:
    body = {
        "file": {"token": token, "md5": MD5, "name": "fw.bin"},
        "software_version": {"version": "2.0.0", "software_type": "main"},
        "hardware_version": "m",
        "notes": "",
        "must_pass_through": False,
    }
    path = f"{TOOL}/releases/ota_payload"
    return await site.call("POST", path, caller="operator", json=body | changed)


async def uploaded(site: Site, data: bytes = BYTES) -> str:
    place = (await announce(site, len(data))).json["data"]
    assert await send(site, place, data) == 200
    token: str = place["token"]
    return token


async def test_a_file_is_published_once_and_its_release_is_added_with_it(fleet: Site) -> None:
    token = await uploaded(fleet)
    before = await size(fleet)
    assert (await name(fleet, token)).status == 200
    assert await size(fleet) == before + 2
    shown = (await fleet.get(f"{P}/releases/m/2.0.0")).json
    [artifact] = shown["artifacts"]
    assert (artifact["sha256"], artifact["sha1"], artifact["md5"]) == (SHA256, SHA1, MD5)
    assert (await name(fleet, token)).status == 409
    assert await size(fleet) == before + 2


async def test_what_is_not_the_same_file_is_never_answered_with_409(fleet: Site) -> None:
    await name(fleet, await uploaded(fleet))
    other = await uploaded(fleet, b"other bytes")
    md5 = "f6b8ea3d9a1b3f5a5a4a7a9e5a8b6d4c"
    refused = [
        await name(fleet, other),  # its MD5 is another
        await name(fleet, "unknown"),
        await name(fleet, (await announce(fleet)).json["data"]["token"]),
        await name(fleet, other, file={"token": other, "md5": md5, "name": "fw.bin"}),
    ]
    assert [each.status for each in refused] == [400] * 4
    assert all(each.json["error"]["message"] for each in refused)
    await fleet.call(
        "POST", f"{P}/releases/m/2.0.0/withdraw", caller="operator", json={"reason": "bad"}
    )
    file = {"token": await uploaded(fleet), "md5": MD5, "name": "b.bin"}
    assert (await name(fleet, file["token"], file=file)).status == 400


async def test_an_upload_url_is_signed_and_takes_one_file_of_the_announced_size(
    fleet: Site,
) -> None:
    place = (await announce(fleet)).json["data"]
    assert await send(fleet, place, BYTES[:-1]) == 422
    for altered in ("?e=", "&s=", "acme"):
        changed = place | {"upload_url": place["upload_url"].replace(altered, f"{altered}1")}
        assert await send(fleet, changed) in {403, 404}
    assert await send(fleet, place) == 200
    assert await send(fleet, place) == 200
    assert await send(fleet, place, b"x" * len(BYTES)) == 409
    too_large = await announce(fleet, fleet.services.serving.artifact_bytes_max + 1)
    assert (too_large.status, "too big" in too_large.json["error"]["message"]) == (400, True)
    assert (await announce(fleet, kind="COREDUMP")).status == 400


async def test_only_operators_publish_and_deploy(fleet: Site) -> None:
    wanted = {"type": "normal", "release": "1.1.0", "cohort": "default"}
    for caller, status in (("viewer", 403), ("gateway", 403), ("device", 403), ("stranger", 404)):
        for method, path, body in (
            ("POST", "upload", {"kind": "OTA_PAYLOAD", "size": 1}),
            ("POST", "releases/ota_payload", {}),
            ("POST", "deployments", wanted),
            ("DELETE", "deployments/r_1", None),
        ):
            answer = await fleet.call(method, f"{TOOL}/{path}", caller=caller, json=body)
            assert answer.status == status, (caller, path)


async def test_a_deployment_is_a_rollout_of_each_model_that_has_the_version(fleet: Site) -> None:
    body = {"version": "1.1.0", "model": "n"}
    await fleet.call("POST", f"{P}/releases", caller="operator", json=body)

    async def deploy(**members: Any) -> Answer:
        wanted = {"type": "staged_rollout", "release": "1.1.0", "cohort": "default"} | members
        return await fleet.call("POST", f"{TOOL}/deployments", caller="operator", json=wanted)

    first = (await deploy(rollout_percent=20)).json["data"]
    again = (await deploy(rollout_percent=20)).json["data"]
    more = (await deploy(type="normal")).json["data"]
    assert first["id"] == again["id"] == more["id"]
    assert (first["status"], more["status"]) == ("in_progress", "done")
    rollouts = (await fleet.get(f"{P}/rollouts")).json["items"]
    assert {(each["model"], each["percent"]) for each in rollouts} == {("m", 100), ("n", 100)}
    refused = [await deploy(rollout_percent=20), await deploy(release="9.9.9")]
    assert [each.status for each in refused] == [400, 400]
    listed = await fleet.get(f"{TOOL}/deployments?cohort=default&release=1.1.0")
    assert listed.json["data"] == [more]
    for _ in range(2):
        path = f"{TOOL}/deployments/{more['id']}"
        assert (await fleet.call("DELETE", path, caller="operator")).status == 204
    assert (await fleet.get(f"{TOOL}/deployments")).json["data"] == []
    assert (await fleet.call("DELETE", f"{TOOL}/deployments/r_1", caller="admin")).status == 404


@pytest.mark.parametrize("terms", [{"model": "m"}, {}])
async def test_an_unknown_device_joins_by_a_project_key_that_registers(
    offered: Site, terms: dict[str, str]
) -> None:
    wanted = {"project": "acme", "role": "gateway", "registers": True, **terms}
    made = await offered.call("POST", "/api/v1/tokens", caller="operator", json=wanted)
    offered.credentials["join"] = made.json["token"]
    new = f"{DEVICE.replace('d1', 'new-1')}&current_version=1.0.0"
    for _ in range(2):
        assert (await latest(offered, new, caller="join")).status == 204
    shown = (await offered.get(f"{P}/devices/new-1")).json
    assert (shown["model"], shown["version"]) == ("m", "1.0.0")


async def test_a_deployment_that_waits_for_approval_is_not_done(fleet: Site) -> None:
    await fleet.call("PATCH", P, caller="admin", json={"approvals": 1})
    wanted = {"type": "normal", "release": "1.1.0", "cohort": "default"}
    answer = await fleet.call("POST", f"{TOOL}/deployments", caller="operator", json=wanted)
    assert answer.json["data"]["status"] == "in_progress"
    [listed] = (await fleet.get(f"{TOOL}/deployments")).json["data"]
    assert listed["status"] == "in_progress"
