"""Checks changes of a rollout's plan over HTTP."""

from typing import Any

import pytest

from tests.service.plans import check_in, events_of, in_seconds, set_up, shown
from tests.service.site import P, Site
from tests.service.steered import post, roll_out
from tests.serving import Answer

TO_ALL = [{"percent": 100}]


async def change(
    site: Site, rollout: str, phases: list[dict[str, Any]], caller: str = "operator"
) -> Answer:
    body = {"plan": {"phases": phases}, "reason": "It went well"}
    return await site.call("POST", f"{P}/rollouts/{rollout}/plan", caller=caller, json=body)


async def command(site: Site, rollout: str, name: str, caller: str) -> Answer:
    return await site.call("POST", f"{P}/rollouts/{rollout}/{name}", caller=caller, json={})


def states(found: Any) -> list[tuple[float, str]]:
    return [(each["percent"], each["state"]) for each in found["phases"]]


async def test_a_changed_plan_follows_the_phases_that_began(fleet: Site) -> None:
    phases = [{"percent": 0}, {"percent": 50, "after_s": 3600}, {"percent": 60}]
    rollout = await roll_out(fleet, plan={"phases": phases})
    began = (await shown(fleet, rollout))["phases"][0]["began_at"]
    answer = await change(fleet, rollout, TO_ALL)
    assert (answer.status, states(answer.json)) == (200, [(0, "done"), (100, "current")])
    assert answer.json["phases"][0]["began_at"] == began
    assert (await check_in(fleet))["version"] == "1.1.0"
    [event] = await events_of(fleet, "RolloutPlanChanged")
    assert b'"plan":[{"reach":10000}]' in event
    assert b"It went well" not in event, "a reason is outside the log"


async def test_a_rollout_without_a_plan_gets_one(fleet: Site) -> None:
    rollout = await roll_out(fleet, percent=0)
    answer = await change(fleet, rollout, [{"percent": 0, "after_s": 60}, *TO_ALL])
    assert states(answer.json) == [(0, "current"), (100, "next")]


async def test_a_changed_plan_reaches_no_fewer_devices(fleet: Site) -> None:
    rollout = await roll_out(fleet, plan={"phases": [{"percent": 10}, {"percent": 20}]})
    refused = await change(fleet, rollout, [{"percent": 9.99}, *TO_ALL])
    assert (refused.status, refused.json["code"]) == (409, "no_advance")
    assert (await change(fleet, rollout, [{"percent": 10}, *TO_ALL])).status == 200
    assert (await change(fleet, rollout, TO_ALL, "viewer")).status == 403
    assert (await change(fleet, "r_none", TO_ALL)).status == 404
    await command(fleet, rollout, "abort", "operator")
    ended = await change(fleet, rollout, TO_ALL)
    assert (ended.status, ended.json["code"]) == (409, "rollout_aborted")


async def test_a_plan_that_has_not_begun_may_begin_with_fewer_devices(fleet: Site) -> None:
    phases = [{"percent": 50, "after_s": 60}, {"percent": 60}]
    rollout = await roll_out(fleet, plan={"phases": phases}, start_at=in_seconds(3600))
    answer = await change(fleet, rollout, [{"percent": 1, "after_s": 60}, *TO_ALL])
    assert states(answer.json) == [(1, "next"), (100, "next")]
    later = await shown(fleet, rollout, f"?at={in_seconds(3630)}")
    assert states(later) == [(1, "current"), (100, "next")]


async def test_a_changed_plan_needs_the_approval_again_of_a_person_who_neither_started_nor_changed(
    fleet: Site,
) -> None:
    await set_up(fleet, approvals=1)
    rollout = await roll_out(fleet, plan={"phases": [{"percent": 0}, *TO_ALL]})
    await command(fleet, rollout, "approve", "admin")
    await set_up(fleet, approvals=0)
    answer = await change(fleet, rollout, TO_ALL)
    assert (answer.json["state"], answer.json["percent"]) == ("waiting", 0)
    assert states(answer.json) == [(0, "done"), (100, "next")]
    assert answer.json["approvals"]["by"] == []
    assert (await check_in(fleet))["action"] == "none"
    own = await command(fleet, rollout, "approve", "operator")
    assert (own.status, own.json["code"]) == (409, "own_rollout")
    approved = await command(fleet, rollout, "approve", "admin")
    assert states(approved.json) == [(0, "done"), (100, "current")]
    assert (await check_in(fleet))["version"] == "1.1.0"
    await change(fleet, rollout, TO_ALL, "admin")
    for caller in ("admin", "operator"):
        assert (await command(fleet, rollout, "approve", caller)).status == 409


async def test_a_rollout_that_needed_no_approval_needs_it_if_the_project_asks_for_it_now(
    fleet: Site,
) -> None:
    rollout = await roll_out(fleet, plan={"phases": [{"percent": 0}, *TO_ALL]})
    await set_up(fleet, approvals=1, approve_from_devices=1000)
    assert (await change(fleet, rollout, [{"percent": 0}, *TO_ALL])).json["state"] == "running"
    await set_up(fleet, approve_from_devices=0)
    assert (await change(fleet, rollout, TO_ALL)).json["state"] == "waiting"
    rejected = await post(fleet, f"rollouts/{rollout}/reject", {"reason": "no"})
    assert rejected.json["state"] == "aborted"


async def test_a_rollback_has_no_plan(fleet: Site) -> None:
    body = {"bad_version": "1.1.0", "model": "m", "to": "1.0.0", "reason": "bad"}
    answer = (await post(fleet, "rollbacks", body)).json
    refused = await change(fleet, answer["rollout"], TO_ALL)
    assert (refused.status, refused.json["code"]) == (409, "rollback_without_plan")


@pytest.mark.parametrize("phases", [[], [{"percent": 5}, {"percent": 5}], [{"percent": 101}]])
async def test_a_faulty_change_of_a_plan_is_refused_by_its_member(
    fleet: Site, phases: list[dict[str, Any]]
) -> None:
    rollout = await roll_out(fleet)
    answer = await change(fleet, rollout, phases)
    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"].startswith("/plan/phases")
