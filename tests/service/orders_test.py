"""Checks rollouts, rollbacks and their commands over HTTP: events, answers, keys and dry runs."""

import asyncio
from itertools import pairwise
from typing import Any

import msgspec

from firmtrail.commands import releases
from firmtrail.recording.commit import Commit
from firmtrail.rules.release import ReleaseKey
from tests.service.routes import assert_is_problem
from tests.service.site import D2, P, Site
from tests.service.steered import post, roll_out
from tests.serving import Answer


async def test_a_rollout_is_one_event_and_a_rollback_also_withdraws(fleet: Site) -> None:
    async def size() -> int:
        return int((await fleet.get(f"{P}/releases")).headers["Firmtrail-Log-Size"])

    sizes = [await size()]
    rollout = await roll_out(fleet, percent=10)
    rollback = {"model": "m", "bad_version": "1.0.0", "to": "1.2.0", "reason": "It sticks."}
    sizes.append(await size())
    for path, body in (
        (f"rollouts/{rollout}/advance", {"percent": 100}),
        ("rollbacks", {**rollback, "dry_run": True}),
        ("rollbacks", rollback),
        ("rollbacks", rollback),
    ):
        assert (await post(fleet, path, body)).status in {200, 201}
        sizes.append(await size())
    grown = [after - before for before, after in pairwise(sizes)]
    assert grown == [1, 1, 0, 2, 1], "start, advance, dry run, rollback, and once more"


async def test_a_command_with_if_match_is_refused_after_any_change_of_the_rollout(
    fleet: Site,
) -> None:
    rollout = await roll_out(fleet, percent=12.5)
    path = f"rollouts/{rollout}"
    seen = await fleet.get(f"{P}/{path}")
    assert seen.json["percent"] == 12.5
    body = {"percent": 50, "reason": "so far so good"}
    advanced = await post(fleet, f"{path}/advance", body, If_Match=seen.headers["ETag"])
    assert (advanced.status, advanced.json["percent"]) == (200, 50)
    [line] = (await fleet.get(f"{P}/events?type=RolloutAdvanced", "auditor")).body.splitlines()
    assert len(msgspec.json.decode(line)["data"]["reason"]) == 64
    stale = await post(fleet, f"{path}/pause", {}, If_Match=seen.headers["ETag"])
    assert_is_problem(stale, 412)
    assert_is_problem(await post(fleet, f"{path}/advance", {"percent": 50}), 409)
    paused = await post(fleet, f"{path}/pause", {"reason": "smoke"})
    assert (paused.json["state"], paused.json["state_reason"]) == ("paused", "smoke")
    assert paused.headers["ETag"] == (await fleet.get(f"{P}/{path}")).headers["ETag"]
    assert (await post(fleet, f"{path}/resume")).json["state"] == "running"
    assert (await post(fleet, f"{path}/abort", {"reason": "enough"})).json["state"] == "aborted"
    assert_is_problem(await post(fleet, f"{path}/pause"), 409)
    assert_is_problem(await post(fleet, "rollouts/nobody/pause"), 404)
    assert_is_problem(await post(fleet, "rollouts", {"model": "m", "version": "9.9.9"}), 422)


async def test_a_repeated_command_on_a_rollout_gets_the_first_answer(fleet: Site) -> None:
    rollout = await roll_out(fleet)

    async def command(name: str, key: str) -> Answer:
        return await post(
            fleet, f"rollouts/{rollout}/{name}", {"reason": name}, Idempotency_Key=key
        )

    paused = await command("pause", "k1")
    refused = await command("pause", "k2")
    assert (await command("resume", "k3")).json["state"] == "running"
    again = await command("pause", "k1")
    assert (again.status, again.body) == (200, paused.body)
    for header in ("ETag", "Firmtrail-Log-Size"):
        assert again.headers[header] == paused.headers[header]
    for answer in (refused, await command("pause", "k2")):
        assert assert_is_problem(answer, 409)["code"] == "rollout_paused"
    assert (await fleet.get(f"{P}/rollouts/{rollout}")).json["state"] == "running"


async def test_a_repeated_key_gets_the_first_refusal_though_it_would_succeed_now(
    fleet: Site,
) -> None:
    refusals: dict[str, tuple[Any, int]] = {
        "devices": ({"device": "d1"}, 409),
        "rollouts": ({"model": "m", "version": "9.0.0"}, 422),
        "rollouts/nobody/pause": ({}, 404),
    }

    async def refusal(path: str) -> Any:
        body, status = refusals[path]
        answer = await post(fleet, path, body, Idempotency_Key=path.replace("/", "-"))
        return assert_is_problem(answer, status) | {"request_id": ""}

    first = {path: await refusal(path) for path in refusals}
    assert [fault["pointer"] for fault in first["rollouts"]["errors"]] == ["/version"]
    await post(fleet, "releases", {"model": "m", "version": "9.0.0"})
    assert {path: await refusal(path) for path in refusals} == first


async def test_a_dry_run_is_answered_once_for_its_key_too(fleet: Site) -> None:
    back = {"bad_version": "1.0.0", "model": "m", "reason": "x", "dry_run": True}
    for path, body in (
        ("rollouts", {"version": "1.1.0", "model": "m", "dry_run": True}),
        ("rollbacks", back),
    ):
        first = await post(fleet, path, body, Idempotency_Key=path)
        assert first.status == 200
        await fleet.call("PATCH", D2, caller="operator", json={"model": f"not-{path}"})
        assert (await post(fleet, path, body, Idempotency_Key=path)).body == first.body
        assert (await post(fleet, path, body)).body != first.body
        other = await post(fleet, path, body | {"dry_run": False}, Idempotency_Key=path)
        assert assert_is_problem(other, 409)["code"] == "key_reused"
        await fleet.call("PATCH", D2, caller="operator", json={"model": "m"})


async def test_a_repeated_dry_run_gets_the_first_answer_after_any_change(fleet: Site) -> None:
    back = {"bad_version": "1.2.0", "model": "m", "to": "1.1.0", "dry_run": True}
    tries = {
        "rollouts": {"version": "1.1.0", "model": "m", "dry_run": True},
        "rollbacks": back,
    }
    first = {path: await post(fleet, path, tries[path], Idempotency_Key=path) for path in tries}
    await post(fleet, "releases/m/1.1.0/withdraw", {"reason": "It sticks."})
    for path, body in tries.items():
        again = await post(fleet, path, body, Idempotency_Key=path)
        assert (again.status, again.body) == (200, first[path].body)
        new = await post(fleet, path, body, Idempotency_Key=f"new-{path}")
        assert assert_is_problem(new, 409)["code"] == "release_withdrawn"
        other = await post(fleet, path, body | {"percent": 5}, Idempotency_Key=path)
        assert assert_is_problem(other, 409)["code"] == "key_reused"


async def test_one_of_several_commands_with_the_same_if_match_succeeds(fleet: Site) -> None:
    path = f"rollouts/{await roll_out(fleet, percent=1)}"
    seen = (await fleet.get(f"{P}/{path}")).headers["ETag"]

    async def advance(percent: int) -> Answer:
        headers = {"If_Match": seen, "Idempotency_Key": f"to-{percent}"}
        return await post(fleet, f"{path}/advance", {"percent": percent}, **headers)

    first = await asyncio.gather(*(advance(percent) for percent in range(10, 60, 10)))
    assert sorted(each.status for each in first) == [200, 412, 412, 412, 412]
    [done] = [each for each in first if each.status == 200]
    again = await advance(round(done.json["percent"]))
    assert (again.status, again.json) == (200, done.json)


async def test_a_rollout_without_a_release_names_the_member_at_fault(fleet: Site) -> None:
    back = {"bad_version": "1.2.0", "model": "m", "reason": "x"}
    for path, body, pointer in (
        ("rollouts", {"version": "9.0.0", "model": "m"}, "/version"),
        ("rollbacks", back | {"to": "9.0.0"}, "/to"),
        ("rollbacks", back | {"to": "1.2.0"}, "/to"),
        ("rollbacks", back | {"fallback": "9.0.0"}, "/fallback"),
    ):
        problem = assert_is_problem(await post(fleet, path, body), 422)
        assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


async def test_a_withdrawal_changes_the_state_that_if_match_names(fleet: Site) -> None:
    path = f"rollouts/{await roll_out(fleet)}"
    seen = (await fleet.get(f"{P}/{path}")).headers["ETag"]
    is_held, may_end = asyncio.Event(), asyncio.Event()
    withdraw = releases.withdraw(ReleaseKey("m", "1.1.0"), "It sticks.", actor="system")

    async def withdraw_slowly(commit: Commit) -> None:
        await withdraw(commit)
        is_held.set()
        await may_end.wait()

    withdrawing = asyncio.create_task(fleet.services.recorder.act(fleet.log_id, withdraw_slowly))
    await is_held.wait()
    aborting = asyncio.create_task(post(fleet, f"{path}/abort", {}, If_Match=seen))
    await asyncio.sleep(0.2)  # the command has read the state, and waits for the log's head
    may_end.set()
    await withdrawing
    assert_is_problem(await aborting, 412)
    shown = (await fleet.get(f"{P}/{path}")).json
    withdrawn_at = (await fleet.get(f"{P}/releases/m/1.1.0")).json["withdrawn_at"]
    assert (shown["state"], shown["state_since"]) == ("withdrawn", withdrawn_at)


async def test_the_reason_of_a_rollout_can_be_read_after_later_commands(fleet: Site) -> None:
    path = f"rollouts/{await roll_out(fleet, percent=1)}"
    orders: list[tuple[str, dict[str, Any]]] = [
        (f"{path}/advance", {"percent": 50, "reason": "so far so good"}),
        (f"{path}/pause", {"reason": "smoke"}),
        (f"{path}/resume", {"reason": "it was a kettle"}),
        ("halt", {"reason": "fire"}),
        ("resume", {"reason": "it is out"}),
    ]
    at = int((await fleet.get(f"{P}/releases")).headers["Firmtrail-Log-Size"])
    for order, body in orders:
        assert (await post(fleet, order, body)).status == 200
    for position, (_, body) in enumerate(orders, at):
        for log in ("", "/logs/1"):
            answer = await fleet.get(f"{P}{log}/events/{position}/text", "auditor")
            assert answer.json == {"text": body["reason"]}
    assert_is_problem(await fleet.get(f"{P}/events/{at}/text", "operator"), 403)
    await fleet.call("DELETE", f"{P}/events/{at}/text", caller="admin")
    assert (await fleet.get(f"{P}/events/{at}/text")).json == {"text": "erased"}
    assert_is_problem(await fleet.get(f"{P}/events/{at - 1}/text"), 404)
    read = (await fleet.get(f"{P}/access-record?limit=500")).json["items"]
    assert f"/events/{at}/text" in {each["path"] for each in read}
