"""What needs attention, what a text finds, and why a rollout's devices failed, over HTTP."""

from typing import Any

import pytest

from firmtrail.http import attention
from firmtrail.rules import phases
from tests.service.forms import read_page
from tests.service.site import D2, D, P, Site
from tests.service.steered import post, roll_out


async def notes(site: Site, caller: str = "viewer") -> list[Any]:
    answer = await site.get(f"{P}/attention", caller)
    assert answer.status == 200, answer.body
    items: list[Any] = answer.json["items"]
    return items


async def fail(site: Site, path: str, detail: str | None = None) -> None:
    await site.get(f"{path}/update", "gateway")
    body = {"version": "1.1.0", "status": "failed", "detail": detail}
    sent = {name: value for name, value in body.items() if value is not None}
    answer = await site.report(sent, caller="operator", path=path)
    assert answer.status == 201, answer.body


async def test_a_quiet_project_needs_no_attention(fleet: Site) -> None:
    await roll_out(fleet)
    assert await notes(fleet) == []


async def test_a_rollout_that_paused_itself_says_why(fleet: Site) -> None:
    rollout = await roll_out(fleet, pause_if={"failed_percent": 2, "min_reports": 1})
    await fail(fleet, D)
    paused, failing = await notes(fleet)
    size = int((await fleet.get(f"{P}/attention")).headers["Firmtrail-Log-Size"])
    assert (paused["kind"], paused["rollout"], paused["position"]) == ("paused", rollout, size - 1)
    assert paused["says"] == (
        "The rollout of 1.1.0 to m paused itself: 1 of 1 outcomes failed, and 2 % are allowed."
    )
    assert (failing["kind"], failing["devices"]) == ("failing", 1)
    assert failing["says"] == "1 device failed its last update."


async def test_a_phase_that_waits_for_too_long_is_stuck_in_notes_and_metrics(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    when = {"installed_percent": 90, "min_reports": 50}
    stages = [{"percent": 50, "when": when}, {"percent": 100}]
    rollout = await roll_out(fleet, plan={"phases": stages})
    assert await notes(fleet) == []
    quiet = (await fleet.call("GET", "/metrics")).body.decode()
    for line in (
        'firmtrail_rollouts{state="running"} 1.0',
        'firmtrail_rollouts{state="waiting"} 0.0',
        'firmtrail_rollouts_in_phase{phase="1"} 1.0',
        "firmtrail_rollouts_stuck 0.0",
    ):
        assert line in quiet
    monkeypatch.setattr(phases, "STUCK_MS", 0)
    [stuck] = await notes(fleet)
    assert (stuck["kind"], stuck["rollout"]) == ("stuck", rollout)
    assert stuck["says"].startswith(
        "The rollout of 1.1.0 to m is stuck in phase 1 of 2: fewer than"
    )
    assert "firmtrail_rollouts_stuck 1.0" in (await fleet.call("GET", "/metrics")).body.decode()
    await post(fleet, f"rollouts/{rollout}/pause")
    assert [each["kind"] for each in await notes(fleet)] == ["paused"]
    await post(fleet, f"rollouts/{rollout}/resume")
    await post(fleet, f"rollouts/{rollout}/advance")
    assert await notes(fleet) == []
    ended = (await fleet.call("GET", "/metrics")).body.decode()
    assert "firmtrail_rollouts_stuck 0.0" in ended
    assert 'firmtrail_rollouts_in_phase{phase="2"} 1.0' in ended


async def test_a_pause_by_a_person_shows_the_reason_until_it_ends(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    await post(fleet, f"rollouts/{rollout}/pause", {"reason": "lunch"})
    [paused] = await notes(fleet)
    assert paused["says"] == "The rollout of 1.1.0 to m is paused: lunch."
    await post(fleet, f"rollouts/{rollout}/resume")
    assert await notes(fleet) == []


async def test_a_halt_comes_first_and_names_its_event(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    await post(fleet, f"rollouts/{rollout}/pause")
    await post(fleet, "halt", {"reason": "smoke", "all": True})
    halted, paused = await notes(fleet)
    assert (halted["kind"], paused["kind"]) == ("halted", "paused")
    entry = await fleet.get(f"{P}/events/{halted['position']}", "auditor")
    assert b"firmtrail.Halted.v1" in entry.body
    assert halted["since"] == entry.json["time"]


async def test_a_paused_rollout_of_a_withdrawn_release_has_no_note(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    await post(fleet, f"rollouts/{rollout}/pause")
    await post(fleet, "releases/m/1.1.0/withdraw", {"reason": "bad"})
    assert await notes(fleet) == []


async def test_failing_devices_are_counted_as_the_list_counts_them(fleet: Site) -> None:
    await roll_out(fleet)
    for path in (D, D2):
        await fail(fleet, path)
    for expected in (2, 1):
        listed = (await fleet.get(f"{P}/devices?failing=true&count=true")).json
        others = (await fleet.get(f"{P}/devices?failing=false&count=true")).json
        [note] = await notes(fleet)
        assert note["devices"] == listed["total"] == len(listed["items"]) == expected
        assert others["total"] == 0
        await fleet.call("DELETE", D2, caller="operator")


async def test_a_rollout_that_waits_for_approval_is_noted_until_it_begins(fleet: Site) -> None:
    await fleet.call("PATCH", P, caller="admin", json={"approvals": 1})
    rollout = await roll_out(fleet)
    [waiting] = await notes(fleet)
    assert (waiting["kind"], waiting["rollout"]) == ("waiting", rollout)
    assert waiting["says"] == (
        "The rollout of 1.1.0 to m waits for approval: 0 of 1 members approved it."
    )
    answer = await fleet.call("POST", f"{P}/rollouts/{rollout}/approve", caller="admin", json={})
    assert answer.status == 200, answer.body
    assert await notes(fleet) == []


async def found(site: Site, text: str, caller: str = "viewer") -> list[tuple[Any, ...]]:
    answer = await site.call("GET", f"{P}/search?q={text}", caller=caller)
    assert answer.status == 200, answer.body
    return [(each["kind"], each["name"], each["exact"]) for each in answer.json["items"]]


async def test_a_text_finds_what_begins_with_it_and_the_exact_name_first(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    await post(fleet, "devices", [{"device": name} for name in ("d", "d10", "e1")])
    assert await found(fleet, "d") == [
        ("device", "d", True),
        ("device", "d1", False),
        ("device", "d10", False),
        ("device", "d2", False),
    ]
    assert await found(fleet, "1.") == [
        ("release", "1.2.0", False),
        ("release", "1.1.0", False),
        ("release", "1.0.0", False),
    ]
    assert await found(fleet, rollout) == [("rollout", rollout, True)]
    assert await found(fleet, "nothing") == []


async def test_a_version_that_runs_without_a_release_is_found_as_a_version(fleet: Site) -> None:
    await fleet.report({"version": "9.0.0"})
    assert await found(fleet, "9") == [("version", "9.0.0", False)]


async def test_a_decommissioned_device_is_found(fleet: Site) -> None:
    await fleet.call("DELETE", D2, caller="operator")
    assert await found(fleet, "d2") == [("device", "d2", True)]


async def test_a_position_is_found_only_by_callers_that_may_read_the_log(fleet: Site) -> None:
    assert await found(fleet, "0", "auditor") == [("position", "0", True)]
    assert await found(fleet, "0%200", "auditor") == [("position", "0", True)]
    assert await found(fleet, "0", "operator") == []
    assert await found(fleet, "999999999", "auditor") == []


async def test_at_most_ten_matches_are_returned(fleet: Site) -> None:
    await post(fleet, "devices", [{"device": f"many{n}"} for n in range(30)])
    assert len(await found(fleet, "many")) == 10


@pytest.mark.parametrize("query", ["", "?q=", f"?q={'x' * 129}", "?q=a%00b"])
async def test_a_search_without_a_text_is_refused(fleet: Site, query: str) -> None:
    assert (await fleet.get(f"{P}/search{query}")).status == 422


async def failures(site: Site, rollout: str) -> Any:
    answer = await site.get(f"{P}/rollouts/{rollout}/failures", "viewer")
    assert answer.status == 200, answer.body
    return answer.json


async def test_a_rollouts_failures_are_grouped_by_their_reasons(fleet: Site) -> None:
    names = [f"x{n}" for n in range(5)]
    await post(fleet, "devices", [{"device": name, "model": "m"} for name in names])
    for name in names:
        await fleet.report({"version": "1.0.0"}, caller="operator", path=f"{P}/devices/{name}")
    rollout = await roll_out(fleet)
    assert await failures(fleet, rollout) == {"items": [], "devices": 0, "is_partial": False}
    details = ("no space: 5", "no space: 17", None, "erase me", "bye")
    for name, detail in zip(names, details, strict=True):
        await fail(fleet, f"{P}/devices/{name}", detail)
    await fleet.get(f"{D}/update", "gateway")
    for sent in ({"version": "1.1.0", "status": "installing"}, {"version": "1.0.0"}):
        await fleet.report(sent, caller="operator")
    await fleet.call("DELETE", f"{P}/devices/x4", caller="operator")
    shown = await failures(fleet, rollout)
    assert {(each["kind"], each["reason"]): each["devices"] for each in shown["items"]} == {
        ("reported", "no space: 17"): 2,
        ("no_reason", None): 1,
        ("reported", "erase me"): 1,
        ("other_version", None): 1,
    }
    assert shown["items"][0] == {
        "kind": "reported",
        "reason": "no space: 17",
        "devices": 2,
        "share": 0.4,
        "example": "x1",
    }
    counted = (await fleet.get(f"{P}/rollouts/{rollout}")).json["progress"]
    assert shown["devices"] == counted["failed"] + counted["exhausted"] == 5


async def test_the_failures_of_an_unknown_rollout_are_404(fleet: Site) -> None:
    assert (await fleet.get(f"{P}/rollouts/none/failures")).status == 404


async def test_devices_that_run_a_withdrawn_release_have_a_note(fleet: Site) -> None:
    await post(fleet, "releases/m/1.1.0/withdraw", {"reason": "it leaks"})
    assert await notes(fleet) == []
    await post(fleet, "releases/m/1.0.0/withdraw", {"reason": "it burns"})
    position = int((await fleet.get(f"{P}/attention")).headers["Firmtrail-Log-Size"]) - 1
    [note] = await notes(fleet)
    withdrawn_at = (await fleet.get(f"{P}/releases/m/1.0.0")).json["withdrawn_at"]
    assert note == {
        "kind": "withdrawn",
        "says": "2 devices run 1.0.0 of m, which is withdrawn. Recall it to send them to a good "
        "version.",
        "since": withdrawn_at,
        "position": position,
        "rollout": None,
        "devices": 2,
        "webhook": None,
        "model": "m",
        "version": "1.0.0",
    }
    await fleet.report({"version": "1.2.0"})
    assert (await notes(fleet))[0]["says"].startswith("1 device runs 1.0.0 of m, which")


async def test_a_note_of_a_withdrawn_release_names_its_recall(fleet: Site) -> None:
    wish = {"bad_version": "1.0.0", "model": "m", "to": "1.2.0", "reason": "it burns"}
    part = (await post(fleet, "rollbacks", wish | {"cohort": "none"})).json["rollout"]
    [note] = await notes(fleet)
    assert note["rollout"] is None, "a recall from a cohort is not for all devices"
    whole = (await post(fleet, "rollbacks", wish)).json["rollout"]
    [note] = await notes(fleet)
    assert (note["rollout"], note["says"]) == (
        whole,
        "2 devices run 1.0.0 of m, which is withdrawn. A recall of it is under way.",
    )
    await post(fleet, f"rollouts/{whole}/pause")
    found = {each["kind"]: each for each in await notes(fleet)}
    assert found["withdrawn"]["says"].endswith("A recall of it is paused.")
    for each in (part, whole):
        await post(fleet, f"rollouts/{each}/abort")
    [note] = await notes(fleet)
    assert note["rollout"] is None


async def test_a_recall_to_a_version_that_was_withdrawn_is_not_under_way(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    for path in (D, D2):
        await fleet.report({"version": "1.1.0"}, caller="operator", path=path)
    wish = {"bad_version": "1.1.0", "model": "m", "to": "1.2.0", "reason": "it burns"}
    await post(fleet, "rollbacks", wish)
    pages = "/releases/m/1.1.0", f"/rollouts/{rollout}"
    for page in pages:
        assert "Look at the recall" in await read_page(fleet, page)
    await post(fleet, "releases/m/1.2.0/withdraw", {"reason": "it burns too"})
    [note] = await notes(fleet)
    assert note["rollout"] is None
    assert note["says"].endswith("Recall it to send them to a good version.")
    for page in pages:
        html = await read_page(fleet, page)
        assert "/releases/m/1.1.0/recall" in html and "Look at the recall" not in html
    again = {**wish, "to": "1.0.0"}
    tried = (await post(fleet, "rollbacks", {**again, "dry_run": True})).json
    assert "warnings" not in tried
    whole = (await post(fleet, "rollbacks", again)).json["rollout"]
    assert (await fleet.get(f"{D}/update", "device")).json["rollout"] == whole
    assert (await notes(fleet))[0]["rollout"] == whole


async def test_rarer_withdrawn_releases_have_one_note(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.report({"version": "1.1.0"})
    for version in ("1.0.0", "1.1.0"):
        await post(fleet, f"releases/m/{version}/withdraw", {"reason": "it burns"})
    monkeypatch.setattr(attention, "RELEASES_MAX", 1)
    [first, rest] = await notes(fleet)
    assert (first["version"], first["devices"]) == ("1.0.0", 1)
    assert (rest["version"], rest["devices"]) == (None, 1)
    assert rest["says"] == "1 device runs a further withdrawn release."
