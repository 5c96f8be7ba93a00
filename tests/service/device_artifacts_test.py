"""Checks that a device loads the artifacts that it was offered, and no others."""

import pytest

from firmtrail.events.steering import UpdateOffered
from tests.fleet import record_events
from tests.service.artifacts import (
    BYTES,
    DIGEST,
    RELEASES,
    put,
    release,  # noqa: F401 (a fixture)
)
from tests.service.site import P, Site
from tests.serving import Answer


@pytest.fixture(autouse=True)
async def artifact(site: Site, release: None) -> None:  # noqa: F811 (the fixture)
    """Adds an artifact to the release."""
    assert (await put(site)).status == 201


async def offer(site: Site, version: str = "1.0.0", device: str = "d1") -> None:
    event = UpdateOffered(version, "follow_latest", 1)
    recorder = site.services.recorder
    await record_events(recorder, site.log_id, [(f"device/{device}", event)])


async def give_model(site: Site, model: str = "m", device: str = "d1") -> None:
    body = {"model": model}
    path = f"{P}/devices/{device}"
    assert (await site.call("PATCH", path, caller="operator", json=body)).status == 200


async def load(site: Site, caller: str = "device", device: str = "d1") -> Answer:
    return await site.get(f"{P}/devices/{device}/artifacts/{DIGEST}", caller)


async def test_a_device_loads_the_artifacts_of_its_offers_and_no_others(site: Site) -> None:
    for name in ("d1", "d2"):
        await give_model(site, device=name)
    for caller in ("device", "gateway", "operator"):
        assert (await load(site, caller)).status == 404
    await offer(site)
    for caller in ("device", "gateway", "operator"):
        answer = await load(site, caller)
        assert (answer.status, answer.body) == (200, BYTES)
        assert (await load(site, caller, "d2")).status == (401 if caller == "device" else 404)
    assert (await load(site, "viewer")).status == 403
    part = await site.get(f"{P}/devices/d1/artifacts/{DIGEST}", "device", Range="bytes=10000-")
    assert (part.status, part.body) == (206, BYTES[10000:])
    assert (await site.get(f"{P}/devices/d1/artifacts/{'0' * 64}", "device")).status == 404


async def test_a_device_can_not_load_artifacts_of_another_model(site: Site) -> None:
    await give_model(site, "other")
    await offer(site)
    assert (await load(site)).status == 404


async def test_a_device_can_still_load_an_earlier_offer_after_a_newer_one(site: Site) -> None:
    await give_model(site)
    await offer(site)
    await site.call("POST", RELEASES, caller="operator", json={"version": "1.1.0", "model": "m"})
    await offer(site, "1.1.0")
    assert (await load(site)).body == BYTES


async def test_a_device_that_loads_a_withdrawn_release_gets_410(site: Site) -> None:
    await give_model(site)
    reason = {"reason": "it bricks"}
    path = f"{RELEASES}/m/1.0.0/withdraw"
    await site.call("POST", path, caller="operator", json=reason)
    assert (await load(site)).status == 404
    await offer(site)
    answer = await load(site)
    assert (answer.status, answer.json["code"]) == (410, "withdrawn")
    assert (
        await site.call("HEAD", f"{P}/devices/d1/artifacts/{DIGEST}", caller="device")
    ).status == 410


async def test_the_same_bytes_in_a_release_that_is_not_withdrawn_can_be_loaded(site: Site) -> None:
    await give_model(site)
    await offer(site)
    await site.call("POST", RELEASES, caller="operator", json={"version": "0.9.0", "model": "m"})
    assert (await put(site, path=f"{RELEASES}/m/0.9.0/artifacts/full.bin")).status == 201
    reason = {"reason": "it bricks"}
    await site.call("POST", f"{RELEASES}/m/1.0.0/withdraw", caller="operator", json=reason)
    assert (await load(site)).status == 410
    await offer(site, "0.9.0")
    assert (await load(site)).body == BYTES
