"""Unknown devices join through a token that registers them, wait where the project says so, and are
accepted or rejected."""

from typing import Any

import pytest
from limits import RateLimitItemPerMinute

from firmtrail.access import registrations
from firmtrail.access.hashing import TooManyAttempts
from firmtrail.access.registrations import RegistrationLimits
from firmtrail.commands import enrolment
from firmtrail.commands.enrolment import Joiner
from firmtrail.database.database import Database
from firmtrail.projections import fold
from tests.service.enrolling import issue, let_join, set_enrolment
from tests.service.preparing import prepare, revisions
from tests.service.site import D, P, Site

NEW = f"{P}/devices/new"
REPORT = {"version": "1.0.0"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"{NEW}/update", None),
        ("HEAD", f"{NEW}/update", None),
        ("POST", f"{NEW}/reports", REPORT),
        ("POST", f"{P}/reports", {"device": "new", **REPORT}),
        ("POST", f"{P}/reports", [{"device": "new", **REPORT}, {"device": "d1", **REPORT}]),
    ],
)
async def test_the_first_call_that_names_an_unknown_device_registers_it(
    site: Site, method: str, path: str, body: Any
) -> None:
    token_id = await let_join(site, model="m")
    assert (await site.call(method, path, caller="gateway", json=body)).status in {404, 201}
    for _ in range(2):
        answer = await site.call(method, path, caller="join", json=body)
        assert answer.status in {200, 201}, answer.body
    shown = (await site.get(NEW)).json
    assert (shown["model"], shown["pending"]) == ("m", False)
    [entry] = (await site.get(f"{P}/events?type=DeviceRegistered&stream=device/new")).body.split(
        b"\n"
    )[:-1]
    assert f'"actor":"gateway/{token_id}"'.encode() in entry
    listed = (await site.get("/api/v1/tokens", caller="operator")).json["items"]
    [shown] = [each for each in listed if each["id"] == token_id]
    assert [shown[name] for name in ("registers", "model", "registered")] == [True, "m", 1]
    assert shown["registers_max"] == 10_000


async def test_an_unknown_device_joins_although_the_views_are_only_prepared(
    site: Site, db: Database
) -> None:
    await let_join(site)
    await prepare(site, db)
    assert (await site.get(f"{NEW}/update", caller="join")).status == 200
    assert await revisions(db, site.log_id) == fold.REVISIONS


async def test_a_name_that_is_not_valid_registers_nothing(site: Site) -> None:
    await let_join(site)
    assert (await site.get(f"{P}/devices/bad%20name/update", caller="join")).status == 404
    answer = await site.call(
        "POST", f"{P}/reports", caller="join", json=[{"device": "bad name", **REPORT}]
    )
    assert answer.status == 422
    assert {each["device"] for each in (await site.get(f"{P}/devices")).json["items"]} == {
        "d1",
        "d2",
    }


async def test_a_token_of_one_project_registers_nothing_in_another(site: Site) -> None:
    await let_join(site)
    elsewhere = "/api/v1/projects/other/devices/new/update"
    assert (await site.get(elsewhere, caller="join")).status == 404
    assert (await site.get(elsewhere, caller="stranger")).status == 404


async def test_a_token_registers_only_while_its_holder_is_an_operator(site: Site) -> None:
    await let_join(site)
    members = (await site.get(f"{P}/members")).json["items"]
    [holder] = [each for each in members if each["email"] == "operator@example.org"]
    body = {"email": holder["email"], "role": "gateway"}
    assert (await site.call("POST", f"{P}/members", caller="admin", json=body)).status == 200
    assert (await site.get(f"{D}/update", caller="join")).status == 200
    assert (await site.get(f"{NEW}/update", caller="join")).status == 404


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    ("terms", "faults"),
    [
        ({"role": "operator"}, {"/registers"}),
        ({"registers": False, "model": "m", "registers_max": 1}, {"/model", "/registers_max"}),
        ({"registers_max": 0}, {"/registers_max"}),
        ({"model": "bad name"}, {"/model"}),
    ],
)
async def test_terms_that_make_no_sense_are_refused_with_every_fault(
    site: Site, terms: dict[str, Any], faults: set[str]
) -> None:
    answer = await issue(site, **terms)
    assert (answer.status, {each["pointer"] for each in answer.json["errors"]}) == (422, faults)


async def test_a_viewer_issues_no_token_that_registers(site: Site) -> None:
    assert (await issue(site, caller="viewer")).status == 403


async def test_more_devices_than_the_token_may_register_are_refused(site: Site) -> None:
    await let_join(site, registers_max=1)
    assert (await site.get(f"{NEW}/update", caller="join")).status == 200
    answer = await site.get(f"{P}/devices/newer/update", caller="join")
    assert (answer.status, answer.json["code"]) == (403, "registers_max")
    assert (await site.get(f"{NEW}/update", caller="join")).status == 200


async def test_a_flood_of_names_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrations, "PER_TOKEN", RateLimitItemPerMinute(2))
    await let_join(site)
    statuses = [
        (await site.get(f"{P}/devices/flood-{n}/update", caller="join")).status for n in range(4)
    ]
    assert statuses == [200, 200, 429, 429]
    assert (await site.get(f"{P}/devices/flood-0/update", caller="join")).status == 200


async def test_devices_that_join_on_their_own_are_limited_for_each_network() -> None:
    limits = RegistrationLimits()
    for _ in range(registrations.PER_NETWORK.amount):
        await limits.of_network("acme", "192.0.2.1")
    with pytest.raises(TooManyAttempts):
        await limits.of_network("acme", "192.0.2.1")
    await limits.of_network("acme", "192.0.2.2")


async def test_a_device_that_waits_is_offered_nothing_until_it_is_accepted(fleet: Site) -> None:
    await set_enrolment(fleet, "approve")
    await let_join(fleet, model="m")
    await fleet.call("POST", f"{NEW}/reports", caller="join", json=REPORT)
    change = {"follow_latest": True}
    await fleet.call("PATCH", P, caller="admin", json=change)
    answer = (await fleet.get(f"{NEW}/update", caller="join")).json
    assert (answer["action"], answer["version"], answer["reason"]) == ("none", None, "pending")
    explained = (await fleet.get(f"{NEW}/explain")).json
    assert (explained["reason"], [each["rule"] for each in explained["rules"]]) == (
        "pending",
        ["enrolment"],
    )
    for query, expected in (("true", ["new"]), ("false", ["d1", "d2"])):
        listed = (await fleet.get(f"{P}/devices?pending={query}")).json["items"]
        assert [each["device"] for each in listed] == expected
    accepted = await fleet.call("POST", f"{NEW}/accept", caller="operator", json={})
    assert (accepted.status, accepted.json["pending"]) == (200, False)
    answer = (await fleet.get(f"{NEW}/update", caller="join")).json
    assert (answer["action"], answer["version"]) == ("update", "1.2.0")
    again = await fleet.call("POST", f"{NEW}/accept", caller="operator", json={})
    assert (again.status, again.json["code"]) == (409, "not_pending")


async def test_a_rejected_device_is_decommissioned(site: Site) -> None:
    await set_enrolment(site, "approve")
    await let_join(site)
    await site.get(f"{NEW}/update", caller="join")
    rejected = await site.call("POST", f"{NEW}/reject", caller="operator")
    assert (rejected.status, rejected.json["decommissioned"]) == (200, True)
    answer = await site.get(f"{NEW}/update", caller="join")
    assert (answer.status, answer.json["code"]) == (409, "device_decommissioned")


async def test_an_operator_accepts_the_key_that_was_compared(site: Site) -> None:
    await site.report(REPORT)
    through = Joiner("system")
    offer = enrolment.offer_key("d1", "a" * 64, through)
    assert not await site.services.recorder.act(site.log_id, offer)
    assert (await site.get(D)).json["offered_key"] == "a" * 64
    other = await site.call("POST", f"{D}/accept", caller="operator", json={"key": "b" * 64})
    assert (other.status, other.json["code"]) == (409, "other_key")
    body = {"key": "a" * 64}
    assert (await site.call("POST", f"{D}/accept", caller="operator", json=body)).status == 200
    assert (await site.report(REPORT)).status == 401, "the key ends the secret"
    assert (await site.call("POST", f"{D}/accept", caller="viewer", json=body)).status == 403


async def test_a_waiting_key_changes_nothing_for_the_device(site: Site) -> None:
    await site.report(REPORT)
    before = (await site.get(f"{D}/update", caller="device")).json
    offer = enrolment.offer_key("d1", "a" * 64, Joiner("system"))
    await site.services.recorder.act(site.log_id, offer)
    assert (await site.get(f"{D}/update", caller="device")).json == before
    rejected = await site.call("POST", f"{D}/reject", caller="operator")
    assert (rejected.json["decommissioned"], rejected.json["offered_key"]) == (False, None)
