"""Checks that a rollout waits for as many other members as the project asks for, that no halt and
no rollback waits, and that the log has who approved and who rejected."""

from typing import Any

import msgspec

from tests.people import add_member, issue_token
from tests.service.plans import check_in, events_of, set_up, shown
from tests.service.site import P, Site
from tests.service.steered import post, roll_out
from tests.serving import Answer


async def add_second_admin(site: Site) -> str:
    """Adds a member whose token the caller `second` has; returns their id."""
    recorder = site.services.recorder
    person = await add_member(recorder, site.log_id, "second@example.org", "admin")
    site.credentials["second"] = (await issue_token(recorder, site.log_id, person, "admin")).text
    return person


async def approve(site: Site, rollout: str, caller: str) -> Answer:
    path = f"{P}/rollouts/{rollout}/approve"
    return await site.call("POST", path, caller=caller, json={})


async def logged(site: Site, kind: str) -> list[Any]:
    """Returns the entries of this type."""
    return [msgspec.json.decode(line) for line in await events_of(site, kind)]


async def test_a_rollout_waits_for_each_of_the_members_that_the_project_asks_for(
    fleet: Site,
) -> None:
    second = await add_second_admin(fleet)
    await set_up(fleet, approvals=2)
    rollout = await roll_out(fleet)
    for _ in range(2):
        first = await approve(fleet, rollout, "admin")
        assert (first.status, first.json.get("code")) in {(200, None), (409, "approved_already")}
    found = await shown(fleet, rollout)
    assert (found["state"], found["approvals"]["needed"]) == ("waiting", 2)
    assert len(found["approvals"]["by"]) == 1
    assert (await check_in(fleet))["reason"] == "waiting"
    assert (await approve(fleet, rollout, "second")).json["state"] == "running"
    assert (await check_in(fleet))["version"] == "1.1.0"
    [admins, seconds] = await logged(fleet, "RolloutApproved")
    by = (await shown(fleet, rollout))["approvals"]["by"]
    assert [admins["data"]["by"], seconds["data"]["by"]] == by
    assert (by[1], seconds["actor"].partition("/")[0]) == (second, "token")
    [started] = await logged(fleet, "RolloutStarted")
    assert started["data"]["approvals"] == 2
    assert started["data"]["started_by"] not in by


async def test_a_rejection_is_in_the_log_and_its_reason_outside_of_it(fleet: Site) -> None:
    await set_up(fleet, approvals=1)
    rollout = await roll_out(fleet)
    path, body = f"{P}/rollouts/{rollout}/reject", {"reason": "not on a Friday"}
    assert (await fleet.call("POST", path, caller="admin", json=body)).status == 200
    [line] = await events_of(fleet, "RolloutRejected")
    entry = msgspec.json.decode(line)
    assert entry["subject"] == f"rollout/{rollout}"
    assert entry["data"]["by"].startswith("u_")
    assert b"Friday" not in line
    assert (await shown(fleet, rollout))["state_reason"] == "not on a Friday"
    again = await approve(fleet, rollout, "admin")
    assert (again.status, again.json["code"]) == (409, "rollout_aborted")


async def test_a_halt_a_pause_and_a_rollback_wait_for_nobody(fleet: Site) -> None:
    await set_up(fleet, approvals=2)
    await fleet.report({"version": "1.1.0", "report_id": "a"})
    back = {"bad_version": "1.1.0", "model": "m", "reason": "bad"}
    rollback = (await post(fleet, "rollbacks", back)).json["rollout"]
    found = await shown(fleet, rollback)
    assert (found["state"], found["approvals"]) == ("running", None)
    assert (await check_in(fleet))["reason"] == "rollback"
    assert (await post(fleet, "halt", {"all": True})).status == 200
    assert (await check_in(fleet))["reason"] == "halted"
    assert (await post(fleet, "resume")).status == 200
    assert (await check_in(fleet))["reason"] == "rollback"
    waiting = await roll_out(fleet, version="1.2.0")
    assert (await post(fleet, f"rollouts/{waiting}/abort")).status == 200
    assert (await post(fleet, f"rollouts/{rollback}/pause")).status == 200


async def test_a_rollout_of_as_many_devices_as_the_setting_says_waits(fleet: Site) -> None:
    matching = await post(fleet, "rollouts", {"model": "m", "version": "1.1.0", "dry_run": True})
    devices = matching.json["progress"]["matching"]
    await set_up(fleet, approvals=1, approve_from_devices=devices)
    assert (await shown(fleet, await roll_out(fleet)))["state"] == "waiting"
    await set_up(fleet, approve_from_devices=devices + 1)
    found = await shown(fleet, await roll_out(fleet))
    assert (found["state"], found["approvals"]) == ("running", None)


async def test_a_rollout_waits_until_another_member_approves(fleet: Site) -> None:
    await set_up(fleet, approvals=1)
    rollout = await roll_out(fleet)
    assert (await shown(fleet, rollout))["state"] == "waiting"
    assert (await check_in(fleet))["reason"] == "waiting"
    own = await post(fleet, f"rollouts/{rollout}/approve")
    assert (own.status, own.json["code"]) == (409, "own_rollout")
    path = f"{P}/rollouts/{rollout}/approve"
    assert (await fleet.call("POST", path, caller="viewer", json={})).status == 403
    approved = await fleet.call("POST", path, caller="admin", json={})
    assert (approved.status, approved.json["state"]) == (200, "running")
    assert len(approved.json["approvals"]["by"]) == 1
    assert (await check_in(fleet))["version"] == "1.1.0"
    again = await fleet.call("POST", path, caller="admin", json={})
    assert (again.status, again.json["code"]) == (409, "not_waiting")


async def test_a_rejected_rollout_has_ended(fleet: Site) -> None:
    await set_up(fleet, approvals=2)
    rollout = await roll_out(fleet)
    path = f"{P}/rollouts/{rollout}/reject"
    assert (await fleet.call("POST", path, caller="admin", json={})).status == 422
    answer = await fleet.call("POST", path, caller="admin", json={"reason": "not on a Friday"})
    assert (answer.json["state"], answer.json["state_reason"]) == ("aborted", "not on a Friday")
    assert (await check_in(fleet))["reason"] not in {"waiting", "rollout"}


async def test_a_person_that_adds_a_release_can_not_approve_its_rollout(fleet: Site) -> None:
    automatic = {"plan": None, "window": None, "pause_if": None}
    await set_up(fleet, approvals=1, auto_rollout={"m": automatic})
    await post(fleet, "releases", {"version": "3.0.0", "model": "m"})
    [started] = (await fleet.get(f"{P}/rollouts")).json["items"]
    own = await post(fleet, f"rollouts/{started['id']}/approve")
    assert (own.status, own.json["code"]) == (409, "own_rollout")
    path = f"{P}/rollouts/{started['id']}/approve"
    approved = await fleet.call("POST", path, caller="admin", json={})
    assert (approved.status, approved.json["state"]) == (200, "running")
