"""Checks reports over HTTP: receipts, arrays, refusals, and the callers that may send them."""

import gzip
from typing import Any

import msgspec
import pytest

from tests.service.routes import assert_is_problem
from tests.service.site import D, P, Site

JSON = {"Content-Type": "application/json"}


async def test_a_report_gets_a_receipt(site: Site) -> None:
    answer = await site.report({"version": "1.0.0", "seq": 1})
    assert answer.status == 201
    receipt = answer.json
    assert list(receipt) == ["log", "position", "duplicate", "recorded_at"]
    assert (receipt["log"], receipt["duplicate"]) == (1, False)
    device = await site.get(D)
    assert device.json["version"] == "1.0.0"
    assert int(device.headers["Firmtrail-Log-Size"]) > receipt["position"]


async def test_a_resend_gets_the_first_receipt(site: Site) -> None:
    first = await site.report({"version": "1.0.0", "report_id": "r1"})
    again = await site.report({"version": "1.0.0", "report_id": "r1"})
    assert (first.status, again.status) == (201, 200)
    assert again.json == first.json | {"duplicate": True}


async def test_a_report_id_sent_again_for_another_version_is_a_conflict(site: Site) -> None:
    await site.report({"version": "1.0.0", "report_id": "r1"})
    problem = assert_is_problem(await site.report({"version": "1.0.1", "report_id": "r1"}), 409)
    assert problem["code"] == "report_id_reused"


async def test_an_array_gets_one_answer_for_each_item_in_its_place(site: Site) -> None:
    await site.report({"version": "1.0.0", "report_id": "r1"})
    answer = await site.report(
        {"version": "1.1.0", "seq": 1},
        {"version": "9.0.0", "report_id": "r1"},
        {"version": "1.1.0"},
    )
    assert answer.status == 201
    recorded, refused, repeated = answer.json
    assert refused["refused"] == "report_id_reused"
    assert repeated == recorded | {"duplicate": True}


async def test_an_empty_array_records_nothing(site: Site) -> None:
    answer = await site.call("POST", f"{D}/reports", caller="device", data=b"[]", headers=JSON)
    assert (answer.status, answer.json) == (200, [])


async def test_one_faulty_item_refuses_the_array(site: Site) -> None:
    reports = {"version": "1.0.0"}, {"version": "1.0"}
    problem = assert_is_problem(await site.report(*reports), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == ["/1/version"]
    assert (await site.get(D)).json["version"] is None


async def test_faulty_items_can_be_skipped(site: Site) -> None:
    body = [{"version": "1.0"}, {"version": "1.0.0"}]
    answer = await site.call("POST", f"{D}/reports?faulty=skip", caller="device", json=body)
    assert answer.status == 201
    assert answer.json[0]["refused"] == "invalid"
    assert answer.json[1]["duplicate"] is False


async def test_an_array_is_answered_with_a_summary_on_request(site: Site) -> None:
    body = [{"version": "1.0.0"}, {"version": "1.0.0"}, {"version": "x"}]
    answer = await site.call(
        "POST",
        f"{D}/reports?faulty=skip",
        caller="device",
        json=body,
        headers={"Prefer": "wait=1, return=minimal"},
    )
    assert answer.status == 201
    assert answer.headers["Preference-Applied"] == "return=minimal"
    position = answer.json.pop("last_position")
    assert isinstance(position, int)
    assert msgspec.json.decode(answer.body)["refused"] == [{"index": 2, "code": "invalid"}]
    assert (answer.json["recorded"], answer.json["duplicates"]) == (1, 1)


async def test_an_array_has_at_most_a_thousand_items(site: Site) -> None:
    reports = [{"version": "1.0.0", "seq": seq} for seq in range(1_001)]
    assert_is_problem(await site.report(*reports), 413)
    assert (await site.report(*reports[:1_000])).status == 201


async def test_a_body_may_be_gzip_and_its_limit_counts_after_inflation(site: Site) -> None:
    async def send(body: bytes) -> Any:
        headers = JSON | {"Content-Encoding": "gzip"}
        packed = gzip.compress(body)
        return await site.call(
            "POST", f"{D}/reports", caller="device", data=packed, headers=headers
        )

    assert (await send(b'{"version": "1.0.0"}')).status == 201
    assert_is_problem(await send(b'{"version": "1.0.0", "x": "' + b"a" * 70_000 + b'"}'), 413)
    assert_is_problem(await send(b"[" + b" " * (200 << 20) + b"]"), 413)


async def test_a_long_detail_is_cut_after_a_whole_character(site: Site) -> None:
    await site.report({"version": "1.0.0", "detail": "a" + "ö" * 5_000})
    detail = (await site.get(f"{D}/history")).json["items"][0]["detail"]
    assert detail == "a" + "ö" * 2_047


async def test_a_gateway_reports_for_any_device(site: Site) -> None:
    reports = [{"device": name, "version": "1.0.0"} for name in ("d1", "d2", "nobody")]
    answer = await site.report(*reports, caller="gateway", path=P)
    assert answer.status == 201
    assert answer.json[2]["refused"] == "unknown_device"
    alone = await site.report({"device": "nobody", "version": "1.0.0"}, caller="gateway", path=P)
    assert assert_is_problem(alone, 404)["code"] == "unknown_device"


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    ("caller", "status"),
    [("operator", 201), ("gateway", 201), ("admin", 201), ("viewer", 403), ("auditor", 403)],
)
async def test_only_certain_callers_may_report_for_a_device(
    site: Site, caller: str, status: int
) -> None:
    assert (await site.report({"version": "1.0.0"}, caller=caller)).status == status


async def test_the_log_names_the_actor_that_reported(site: Site) -> None:
    for number, caller in enumerate(("device", "gateway", "operator")):
        await site.report({"version": "1.0.0", "seq": number}, caller=caller)
    lines = (await site.get(f"{P}/events", caller="auditor")).body.splitlines()[-3:]
    actors = [msgspec.json.decode(line)["actor"].partition("/")[0] for line in lines]
    assert actors == ["device", "gateway", "token"]


async def test_a_devices_secret_is_wrong_on_the_path_of_another(site: Site) -> None:
    for other in ("d2", "nobody"):
        refused = await site.report({"version": "1.0.0"}, path=f"{P}/devices/{other}")
        assert_is_problem(refused, 401)
