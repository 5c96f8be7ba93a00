"""Tests over HTTP that a seq names one report of a counting, which begins with new hardware."""

from typing import Any

import pytest

from tests.replay import differences
from tests.service.routes import assert_is_problem
from tests.service.site import D, P, Site
from tests.service.steered import post

FIRST = {"version": "1.0.0", "seq": 1, "occurred_at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "other",
    [
        {"version": "1.1.0"},
        {"status": "running"},
        {"occurred_at": "2026-01-01T00:00:01Z"},
        {"occurred_at": None},
    ],
)
async def test_a_used_seq_with_another_claim_is_a_conflict(
    site: Site, other: dict[str, Any]
) -> None:
    await site.report(FIRST)
    problem = assert_is_problem(await site.report(FIRST | other), 409)
    assert problem["code"] == "seq_reused"
    same = FIRST | {"detail": "d", "question": "q", "rollout": "r"}
    again = await site.report(same)
    assert (again.status, again.json["duplicate"]) == (200, True)


async def test_in_an_array_it_is_refused_in_its_place(site: Site) -> None:
    answer = await site.report({"version": "1.0.0", "seq": 7}, {"version": "2.0.0", "seq": 7})
    assert answer.status == 201
    recorded, refused = answer.json
    assert (recorded["duplicate"], refused["refused"]) == (False, "seq_reused")
    gateway = [{"device": "d1", "version": "3.0.0", "seq": 7}]
    answer = await site.call("POST", f"{P}/reports", caller="gateway", json=gateway)
    assert (answer.status, answer.json[0]["refused"]) == (200, "seq_reused")
    assert (await site.get(D)).json["version"] == "1.0.0"


async def restored(site: Site) -> None:
    await site.call("DELETE", D, caller="operator")
    back = await site.call("PATCH", D, caller="operator", json={"decommissioned": False})
    site.credentials["device"] = back.json["secret"]


async def renewed(site: Site) -> None:
    issued = await post(site, "devices/d1/secret", {"new_hardware": True})
    site.credentials["device"] = issued.json["secret"]


async def rotated(site: Site) -> None:
    site.credentials["device"] = (await post(site, "devices/d1/secret")).json["secret"]


async def last_seq(site: Site) -> int | None:
    found: int | None = (await site.get(f"{D}/update", "device")).json["last_seq"]
    return found


@pytest.mark.parametrize("begin", [restored, renewed])
async def test_a_new_counting_begins_again_and_is_later(site: Site, begin: Any) -> None:
    await site.report({"version": "1.0.0", "seq": 1}, {"version": "1.1.0", "seq": 2})
    for version in ("3.0.0", "4.0.0"):
        await begin(site)
        assert await last_seq(site) is None
        [second, first] = (
            await site.report(
                {"version": version, "seq": 2}, {"version": "0.1.0", "status": "failed", "seq": 1}
            )
        ).json
        assert (second["duplicate"], first["duplicate"]) == (False, False)
        shown = (await site.get(D)).json
        assert (shown["version"], shown["failing"]) == (version, False)
        assert await last_seq(site) == 2
        again = await site.report({"version": version, "seq": 2})
        assert again.json == second | {"duplicate": True}
        other = await site.report({"version": "9.9.9", "seq": 2})
        assert assert_is_problem(other, 409)["code"] == "seq_reused"
    lines = (await site.get(f"{D}/history")).json["items"]
    assert [each["version"] for each in lines] == ["4.0.0", "3.0.0", "1.1.0", "1.0.0"]
    assert await differences(site.services.db, site.log_id) == []


async def test_a_rotated_secret_counts_on(site: Site) -> None:
    await site.report({"version": "1.0.0", "seq": 1})
    await rotated(site)
    assert await last_seq(site) == 1
    assert (await site.report({"version": "1.0.0", "seq": 1})).json["duplicate"]


@pytest.mark.parametrize("begin", [restored, renewed])
async def test_a_report_without_a_seq_is_later_than_all_before_it(site: Site, begin: Any) -> None:
    """Holds for its clock as well, which may be slower than that of the hardware before."""
    await site.report({"version": "2.0.0", "seq": 5, "occurred_at": "2026-01-01T00:00:00Z"})
    await begin(site)
    await site.report({"version": "1.0.0", "occurred_at": "2025-01-01T00:00:00Z"})
    assert (await site.get(D)).json["version"] == "1.0.0"
    await site.report({"version": "0.9.0", "occurred_at": "2024-12-01T00:00:00Z"})
    assert (await site.get(D)).json["version"] == "1.0.0"
    await site.report({"version": "1.1.0", "seq": 0})
    shown = (await site.get(D)).json
    assert (shown["version"], shown["previous_version"]) == ("1.1.0", "1.0.0")


@pytest.mark.parametrize("begin", [restored, renewed])
async def test_a_report_id_identifies_in_every_counting(site: Site, begin: Any) -> None:
    first = await site.report({"version": "1.0.0", "report_id": "r1", "seq": 1})
    await begin(site)
    again = await site.report({"version": "1.0.0", "report_id": "r1", "seq": 1})
    assert again.json == first.json | {"duplicate": True}
