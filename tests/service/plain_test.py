"""Checks plain HTTP updaters and SWUpdate's general server, as their clients call them."""

from typing import Any

import pytest

from firmtrail.events.steering import UpdateOffered
from tests.people import recorded
from tests.service.downloads import BYTES, SHA256, pin, put
from tests.service.site import D2, D, P, Site
from tests.service.steered import post
from tests.serving import Answer

ARTIFACT, POLL, LOG = f"{D}/update/artifact", f"{D}/swupdate", f"{D}/swupdate/log"


@pytest.fixture
async def offered(fleet: Site) -> Site:
    """1.1.0 has one artifact, and d1, which runs 1.0.0, is pinned to it."""
    assert (await put(fleet)).status == 201
    await pin(fleet)
    return fleet


async def events(site: Site, device: str = "d1") -> list[Any]:
    found = await recorded(site.services.db, site.log_id)
    return [event for stream, event in found if stream == f"device/{device}"]


async def device(site: Site) -> Any:
    return (await site.get(D)).json


async def poll(site: Site, query: str = "") -> Answer:
    async with site.client.get(
        f"{POLL}{query}",
        headers={"Authorization": f"Bearer {site.credentials['device']}"},
        allow_redirects=False,
    ) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


async def log(site: Site, line: str) -> int:
    return (await site.call("PUT", LOG, caller="device", data=line)).status


async def test_a_device_loads_what_it_should_run_from_one_url(offered: Site) -> None:
    answer = await offered.get(ARTIFACT, "device")
    assert (answer.status, answer.body) == (200, BYTES)
    assert answer.headers["Firmtrail-Version"] == "1.1.0"
    assert answer.headers["ETag"] == f'"{SHA256}"'
    assert "Firmtrail-Poll-After" in answer.headers
    part = await offered.get(f"{ARTIFACT}/full.bin", "device", Range="bytes=10000-")
    assert (part.status, part.body) == (206, BYTES[10000:])
    known = await offered.get(ARTIFACT, "device", If_None_Match=f'"{SHA256}"')
    assert known.status == 304
    assert (await offered.get(f"{ARTIFACT}/other.bin", "device")).status == 404
    offers = [each for each in await events(offered) if isinstance(each, UpdateOffered)]
    assert [each.version for each in offers] == ["1.1.0"]


async def test_a_device_that_says_what_it_runs_is_recorded_once(offered: Site) -> None:
    await offered.get(ARTIFACT, "device")
    before = len(await events(offered))
    for _ in range(2):
        answer = await offered.get(f"{ARTIFACT}?running=1.1.0", "device")
        assert (answer.status, answer.body) == (204, b"")
    assert len(await events(offered)) == before + 1
    assert (await device(offered))["version"] == "1.1.0"
    assert (await offered.get(f"{ARTIFACT}?running=x", "device")).status == 422


async def test_one_file_of_several_is_named_by_the_path_the_suffix_or_the_setting(
    offered: Site,
) -> None:
    await put(offered, b"notes", "notes.txt")
    assert (await offered.get(f"{ARTIFACT}/notes.txt", "device")).body == b"notes"
    assert (await offered.get(ARTIFACT, "device")).body == BYTES
    await put(offered, b"more", "more.bin")
    before = await events(offered)
    assert (await offered.get(ARTIFACT, "device")).status == 204
    assert (await offered.get(f"{D}/explain?protocol=plain")).json["reason"] == "no_artifact"
    assert await events(offered) == before
    body = {"artifact_names": {"plain": "more.bin"}}
    await offered.call("PATCH", P, caller="admin", json=body)
    assert (await offered.get(ARTIFACT, "device")).body == b"more"


async def test_swupdate_is_sent_to_an_image_and_reports_by_its_log(offered: Site) -> None:
    before = len(await events(offered))
    answer = await poll(offered, "?driver=x&version=1.0.0&hwid=7")
    assert answer.status == 302
    assert int(answer.headers["Retry-After"]) > 0
    path = answer.headers["Location"].partition("/dl/")[2]
    assert (await offered.call("GET", f"/dl/{path}")).body == BYTES
    for line in ("check,d1", "started,d1,1.1.0", "started,d1,1.1.0", "success,d1", "success,d1"):
        assert await log(offered, line) == 200
    assert (await device(offered))["status"] == "rebooting"
    for _ in range(2):
        assert (await poll(offered, "?version=1.1.0")).status == 404
    shown = await device(offered)
    assert (shown["version"], shown["status"]) == ("1.1.0", "installed")
    assert len(await events(offered)) == before + 4  # the offer, two steps, the version
    [attempt] = (await offered.get(f"{D}/explain")).json["offers"]
    assert (attempt["outcome"], attempt["attempts"]) == ("installed", 0)


async def test_a_failure_is_recorded_with_the_line_of_the_log(offered: Site) -> None:
    await poll(offered, "?version=1.0.0")
    assert await log(offered, 'fail,"d1","no space\0left"') == 200
    history = (await offered.get(f"{D}/history?progress=true")).json["items"]
    assert history[0]["status"] == "failed"
    [attempt] = (await offered.get(f"{D}/explain")).json["offers"]
    assert (attempt["outcome"], attempt["attempts"]) == ("failed", 1)


async def test_a_device_that_fell_back_after_its_restart_has_failed(offered: Site) -> None:
    await poll(offered, "?version=1.0.0")
    await log(offered, "success")
    answer = await poll(offered, "?version=1.0.0")
    assert answer.status == 302
    [attempt] = (await offered.get(f"{D}/explain")).json["offers"]
    assert attempt["attempts"] == 1


async def test_a_device_that_lost_power_while_it_loaded_has_not_failed(offered: Site) -> None:
    await poll(offered, "?version=1.0.0")
    await log(offered, "started")
    assert (await poll(offered, "?version=1.0.0")).status == 302
    [attempt] = (await offered.get(f"{D}/explain")).json["offers"]
    assert (attempt["outcome"], attempt["attempts"]) == (None, 0)


async def test_a_poll_with_nothing_new_writes_nothing(fleet: Site) -> None:
    before = await events(fleet)
    for query in ("", "?version=1.0.0", "?version=m-1.0.0", "?version=1.0.0_x", "?version=%00"):
        assert (await poll(fleet, query)).status == 404
    assert await log(fleet, "started") == 200
    assert await log(fleet, "") == 200
    assert await events(fleet) == before


async def test_a_log_line_that_is_too_long_is_refused(fleet: Site) -> None:
    assert await log(fleet, "x" * 70_000) == 413


@pytest.mark.parametrize("path", [ARTIFACT, f"{ARTIFACT}/full.bin", POLL])
async def test_callers_that_are_no_device_record_nothing(offered: Site, path: str) -> None:
    before = await events(offered)
    assert (await offered.call("HEAD", path, caller="operator")).status in {200, 302, 404}
    async with offered.client.get(
        f"{path}?running=9.9.9" if path != POLL else f"{path}?version=9.9.9",
        headers={"Authorization": f"Bearer {offered.credentials['operator']}"},
        allow_redirects=False,
    ) as answer:
        assert answer.status in {200, 302}
    assert await events(offered) == before
    for caller, status in (("device", 401), ("viewer", 403), ("stranger", 404), (None, 401)):
        answer_ = await offered.call("GET", path.replace(D, D2), caller=caller)
        assert answer_.status == status


async def test_a_withdrawn_release_is_not_sent(offered: Site) -> None:
    await offered.get(ARTIFACT, "device")
    await post(offered, "releases/m/1.1.0/withdraw", {"reason": "it bricks"})
    assert (await offered.get(ARTIFACT, "device")).status == 204
    assert (await poll(offered)).status == 404
