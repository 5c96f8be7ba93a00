"""Webhooks get each notice once, with what it is about."""

import asyncio
from typing import Any

import pytest

from firmtrail.webhooks import notices
from tests.databases import write
from tests.service.receiver import Delivered, Receiver, add
from tests.service.site import D2, D, P, Site
from tests.service.steered import SILENT_S, age, post, roll_out


async def notified(site: Site, receiver: Receiver, *names: str) -> None:
    """Adds a webhook that gets these notices alone."""
    await add(site, receiver, types=[], notices=names)


def said(got: Delivered, name: str) -> Any:
    """Returns what the notice says; its id is that of the message."""
    assert got.json["type"] == f"firmtrail.notice.{name}.v1"
    assert got.json["id"] == got.headers["webhook-id"]
    return got.json["data"]


async def approve(site: Site, rollout: str) -> None:
    path = f"{P}/rollouts/{rollout}/approve"
    answer = await site.call("POST", path, caller="admin", json={})
    assert answer.status == 200, answer.body


async def test_a_halt_and_each_phase_that_begins_are_notices(
    fleet: Site, receiver: Receiver
) -> None:
    await notified(fleet, receiver, "halted", "phase_began", "rollout_paused", "rollout_waiting")
    plan = {"phases": [{"percent": 10, "after_s": 1}, {"percent": 100}]}
    rollout = await roll_out(fleet, plan=plan)
    await receiver.until(2)
    await post(fleet, "halt", {"reason": "stop"})
    *began, halted = await receiver.until(3)
    about = {"rollout": rollout, "model": "m", "version": "1.1.0", "of": 2}
    assert [said(each, "phase_began") for each in began] == [
        {**about, "phase": 1, "percent": 10.0},
        {**about, "phase": 2, "percent": 100.0},
    ]
    assert said(halted, "halted") == {"all": False}


async def test_a_rollout_that_pauses_itself_is_a_notice(fleet: Site, receiver: Receiver) -> None:
    await notified(fleet, receiver, "rollout_paused")
    by_person = await roll_out(fleet, version="1.2.0")
    await post(fleet, f"rollouts/{by_person}/pause")
    pause_if = {"failed_percent": 40, "min_reports": 1}
    rollout = await roll_out(fleet, pause_if=pause_if)
    await fleet.get(f"{D}/update", "device")
    await fleet.report({"version": "1.1.0", "status": "failed"})
    [paused] = await receiver.until(1)
    assert said(paused, "rollout_paused") == {"rollout": rollout, "failed": 1, "installed": 0}


async def test_a_rollout_that_waits_for_approval_is_a_notice_each_time(
    fleet: Site, receiver: Receiver
) -> None:
    await notified(fleet, receiver, "rollout_waiting")
    await roll_out(fleet)
    await fleet.call("PATCH", P, caller="admin", json={"approvals": 1})
    rollout = await roll_out(fleet, version="1.2.0")
    await receiver.until(1)
    await approve(fleet, rollout)
    body = {"plan": {"phases": [{"percent": 100}]}}
    answer = await post(fleet, f"rollouts/{rollout}/plan", body)
    assert (answer.status, answer.json["state"]) == (200, "waiting"), answer.body
    first, again = await receiver.until(2)
    about = {"rollout": rollout, "model": "m", "version": "1.2.0", "approvals": 1}
    assert said(first, "rollout_waiting") == said(again, "rollout_waiting") == about
    assert first.json["id"] != again.json["id"]


async def test_a_phase_that_waits_too_long_for_its_condition_is_a_notice(
    fleet: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmtrail.rules.phases.STUCK_MS", 500)
    await notified(fleet, receiver, "rollout_stuck")
    when = {"installed_percent": 100, "min_reports": 5}
    phases = [{"percent": 50, "after_s": 1, "when": when}, {"percent": 100}]
    rollout = await roll_out(fleet, plan={"phases": phases})
    [stuck] = await receiver.until(1)
    assert said(stuck, "rollout_stuck") == {
        "rollout": rollout,
        "model": "m",
        "version": "1.1.0",
        "phase": 1,
        "of": 2,
        "installed_percent": 100,
        "min_reports": 5,
    }


async def test_a_device_that_fell_silent_is_a_notice(fleet: Site, receiver: Receiver) -> None:
    await notified(fleet, receiver, "device_silent")
    rollout = await roll_out(fleet, silent_after_s=SILENT_S)
    await fleet.get(f"{D2}/update", "gateway")
    await age(fleet)
    await fleet.services.silence.look()
    [silent] = await receiver.until(1)
    data = said(silent, "device_silent")
    assert (data["device"], data["version"], data["rollout"]) == ("d2", "1.1.0", rollout)


async def test_a_log_that_takes_no_events_is_a_notice_once_a_day(
    site: Site, receiver: Receiver
) -> None:
    await notified(site, receiver, "log_refused")
    receipt = (await site.report({"version": "1.0.0"})).json
    size = receipt["position"] + 1
    publisher = site.services.publisher
    assert publisher is not None
    await site.report({"version": "1.0.1"})
    await publisher.following.catch_up()
    text = "UPDATE log_heads SET size = $1 WHERE log_id = $2"
    await write(site.services.db, text, size, site.log_id)
    assert (await site.report({"version": "1.0.2"})).status == 503
    [refused] = await receiver.until(1)
    data = said(refused, "log_refused")
    assert (data["log"], data["size"]) == (1, size)
    assert "is published" in data["reason"]
    await asyncio.sleep(2 * notices.LOOK_EVERY_S)
    assert len(receiver.got) == 1
