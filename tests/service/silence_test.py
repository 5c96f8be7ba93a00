"""Tests that a device that was offered a version and no longer calls counts as failed, once."""

import asyncio
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from firmtrail.application import app
from firmtrail.commands.silence import Silence
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.silence import LAG_MS
from tests.people import new_access
from tests.service.site import D2, D, P, Site
from tests.service.steered import SILENT_S, age, post, roll_out


async def fell_silent(site: Site) -> list[Any]:
    lines = (await site.get(f"{P}/events", "auditor")).body.splitlines()
    return [msgspec.json.decode(line) for line in lines if b"DeviceFellSilent" in line]


async def listed(site: Site, rollout: str) -> dict[str, tuple[str, str]]:
    found = (await site.get(f"{P}/rollouts/{rollout}/devices")).json["items"]
    return {each["device"]: (each["state"], each["reason"]) for each in found}


async def progress(site: Site, rollout: str) -> dict[str, int]:
    found: dict[str, int] = (await site.get(f"{P}/rollouts/{rollout}")).json["progress"]
    return found


async def test_a_silent_device_counts_as_failed_once(fleet: Site) -> None:
    rollout = await roll_out(fleet, silent_after_s=SILENT_S)
    assert (await fleet.get(f"{P}/rollouts/{rollout}")).json["silent_after_s"] == SILENT_S
    await fleet.get(f"{D}/update", "device")
    await fleet.services.silence.look()
    assert await fell_silent(fleet) == []
    await age(fleet)
    for _ in range(2):
        await fleet.services.silence.look()
    [entry] = await fell_silent(fleet)
    assert (entry["subject"], entry["actor"]) == ("device/d1", "system")
    assert (entry["data"]["rollout"], entry["data"]["version"]) == (rollout, "1.1.0")
    assert (await listed(fleet, rollout))["d1"] == ("failed", "silent")
    counted = await progress(fleet, rollout)
    assert (counted["offered"], counted["failed"], counted["exhausted"]) == (1, 1, 0)
    [offer] = (await fleet.get(f"{D}/explain")).json["offers"]
    assert (offer["outcome"], offer["outcome_reason"], offer["attempts"]) == ("failed", "silent", 0)


async def test_a_device_that_comes_back_installs_it_or_fails_it(fleet: Site) -> None:
    rollout = await roll_out(fleet, silent_after_s=SILENT_S)
    await fleet.get(f"{D}/update", "device")
    await age(fleet)
    await fleet.services.silence.look()
    assert (await fleet.get(f"{D}/update", "device")).json["version"] == "1.1.0"
    await age(fleet)
    await fleet.services.silence.look()
    assert len(await fell_silent(fleet)) == 1
    await fleet.report({"version": "1.1.0", "status": "failed"})
    assert (await listed(fleet, rollout))["d1"] == ("failed", "rollout")
    counted = await progress(fleet, rollout)
    assert (counted["failed"], counted["installed"]) == (1, 0)
    await fleet.report({"version": "1.1.0"})
    assert (await listed(fleet, rollout))["d1"] == ("installed", "up_to_date")
    counted = await progress(fleet, rollout)
    assert (counted["failed"], counted["installed"]) == (0, 1)


@pytest.mark.parametrize("call", ["check-in", "report", "artifact"])
async def test_a_device_that_calls_is_not_silent(fleet: Site, call: str) -> None:
    await roll_out(fleet, silent_after_s=SILENT_S)
    await fleet.get(f"{D}/update", "device")
    await age(fleet)
    if call == "check-in":
        await fleet.get(f"{D}/update", "device")
    elif call == "report":
        await fleet.report({"version": "1.1.0", "status": "downloading"})
    else:
        await fleet.get(f"{D}/artifacts/{'0' * 64}", "device")
    await fleet.services.silence.look()
    assert await fell_silent(fleet) == []


async def test_a_device_that_calls_through_a_gateway_is_not_silent(fleet: Site) -> None:
    await roll_out(fleet, silent_after_s=SILENT_S)
    await fleet.get(f"{D2}/update", "gateway")
    await age(fleet)
    await fleet.get(f"{D2}/update", "gateway")
    await fleet.services.silence.look()
    assert await fell_silent(fleet) == []
    await age(fleet)
    await fleet.services.silence.look()
    assert len(await fell_silent(fleet)) == 1


async def test_last_calls_are_known_late_and_waited_for(fleet: Site) -> None:
    await roll_out(fleet, silent_after_s=SILENT_S)
    await fleet.get(f"{D}/update", "device")
    await age(fleet, SILENT_S * 1000 + LAG_MS // 2)
    await fleet.services.silence.look()
    assert await fell_silent(fleet) == []


async def test_silence_pauses_a_rollout_in_the_same_commit(fleet: Site) -> None:
    pause_if = {"failed_percent": 40, "min_reports": 2}
    rollout = await roll_out(fleet, silent_after_s=SILENT_S, pause_if=pause_if)
    await fleet.get(f"{D}/update", "gateway")
    await fleet.get(f"{D2}/update", "gateway")
    await age(fleet)
    await fleet.services.silence.look()
    found = (await fleet.get(f"{P}/rollouts/{rollout}")).json
    assert (found["state"], found["state_reason"]) == ("paused", "2 of 2 outcomes failed")
    lines = (await fleet.get(f"{P}/events", "auditor")).body.splitlines()
    assert [b"DeviceFellSilent" in line for line in lines[-3:]] == [True, True, False]
    assert b"RolloutPaused" in lines[-1]


async def test_two_servers_record_it_once(fleet: Site) -> None:
    await roll_out(fleet, silent_after_s=SILENT_S)
    await fleet.get(f"{D}/update", "device")
    await age(fleet)
    db = fleet.services.db
    others = [Silence(db, Recorder(db), new_access(db).seen) for _ in range(2)]
    await asyncio.gather(*(each.look() for each in [fleet.services.silence, *others]))
    assert len(await fell_silent(fleet)) == 1


@pytest.mark.parametrize("case", ["aborted", "not asked for", "decommissioned", "moved", "newer"])
async def test_a_device_that_is_not_waited_for_is_not_silent(
    fleet: Site, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members: dict[str, Any] = {} if case == "not asked for" else {"silent_after_s": SILENT_S}
    rollout = await roll_out(fleet, **members)
    await fleet.get(f"{D}/update", "device")
    match case:
        case "aborted":
            await post(fleet, f"rollouts/{rollout}/abort")
        case "decommissioned":
            await fleet.call("DELETE", D, caller="operator")
        case "moved":
            await fleet.call("PATCH", D, caller="operator", json={"model": "other"})
        case "newer":
            await roll_out(fleet, "1.2.0")
            await fleet.get(f"{D}/update", "device")
    await age(fleet)
    with monkeypatch.context() as patched:
        if case in {"decommissioned", "newer"}:  # not decided again in every pass
            patched.delattr("firmtrail.commands.silence.fall_silent")
        await fleet.services.silence.look()
    assert await fell_silent(fleet) == []


async def test_offers_beyond_one_pass_are_processed_in_turn(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmtrail.commands.silence.PAGE_OFFERS", 2)
    monkeypatch.setattr("firmtrail.commands.silence.PAGES_MAX", 1)
    names = [f"n{number}" for number in range(7)]
    await post(fleet, "devices", [{"device": name, "model": "m"} for name in names])
    await roll_out(fleet, silent_after_s=SILENT_S)
    for name in names:
        await fleet.report({"version": "1.0.0"}, caller="operator", path=f"{P}/devices/{name}")
        await fleet.get(f"{P}/devices/{name}/update", "gateway")
    await age(fleet)
    for name in names[:3]:
        await fleet.report({"version": "1.0.0"}, caller="operator", path=f"{P}/devices/{name}")
        await fleet.report(
            {"version": "1.1.0", "status": "downloading"},
            caller="operator",
            path=f"{P}/devices/{name}",
        )
    for _ in range(4):
        await fleet.services.silence.look()
    silent = [entry["subject"] for entry in await fell_silent(fleet)]
    assert sorted(silent) == [f"device/{name}" for name in names[3:]]


@pytest.mark.one_back_end
@pytest.mark.parametrize("seconds", [0, 299, 2_592_001, 300.5, "300"])
async def test_a_time_that_makes_no_sense_is_refused(fleet: Site, seconds: Any) -> None:
    body = {"model": "m", "version": "1.1.0", "silent_after_s": seconds}
    assert (await post(fleet, "rollouts", body)).status == 422


async def test_a_server_whose_passes_have_stopped_is_not_ready(site: Site) -> None:
    access = new_access(site.services.db)
    services = app.services(site.services.db, access, site.services.recorder, site.services.serving)
    server = TestServer(app.build(services))
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server) as client:
        services.readiness.tasks["silence"].cancel()
        await asyncio.sleep(0)
        async with client.get("/readyz") as answer:
            assert answer.status == 503
            assert "silence" in await answer.text()
    access.hasher.close()
