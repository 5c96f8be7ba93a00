"""Checks the fleet over HTTP: devices, histories and versions, past and present, in pages."""

import csv
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.service.routes import assert_is_problem
from tests.service.site import D, P, Site
from tests.serving import Answer

FUTURE = "2999-01-01T00:00:00.000Z"


async def register(site: Site, *devices: dict[str, Any]) -> Answer:
    return await site.call("POST", f"{P}/devices", caller="operator", json=list(devices))


async def test_a_registered_device_gets_a_secret_that_works(site: Site) -> None:
    body = {"device": "new", "model": "m1", "tags": ["a", "b", "a"]}
    answer = await site.call("POST", f"{P}/devices", caller="operator", json=body)
    assert answer.status == 201
    assert answer.json["tags"] == ["a", "b"]
    site.credentials["new"] = answer.json["secret"]
    reported = await site.report({"version": "1.0.0"}, caller="new", path=f"{P}/devices/new")
    assert reported.status == 201


async def test_a_device_that_exists_is_refused_in_its_place(site: Site) -> None:
    answer = await register(
        site, {"device": "d1"}, {"device": "new", "secret": "mine-and-only-mine"}
    )
    assert answer.status == 201
    exists, new = answer.json
    assert (exists["status"], exists["code"]) == (409, "device_exists")
    assert "secret" not in new
    again = await site.call("POST", f"{P}/devices", caller="operator", json={"device": "d1"})
    assert_is_problem(again, 409)


async def test_an_array_that_names_a_device_twice_is_refused(site: Site) -> None:
    names = ("a", "a", "b", "a", "b")
    problem = assert_is_problem(await register(site, *({"device": name} for name in names)), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == [
        "/1/device",
        "/3/device",
        "/4/device",
    ]


async def test_the_same_key_gets_the_first_answer_without_its_secret(site: Site) -> None:
    async def post(body: Any) -> Answer:
        headers = {"Idempotency-Key": "k1"}
        return await site.call(
            "POST", f"{P}/devices", caller="operator", json=body, headers=headers
        )

    first, again = [await post({"device": "new"}) for _ in range(2)]
    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json | {"secret": None}
    assert assert_is_problem(await post({"device": "other"}), 409)["code"] == "key_reused"


async def test_a_change_with_if_match_is_refused_after_any_other_change(site: Site) -> None:
    etag = (await site.get(D)).headers["ETag"]

    async def patch(body: Any, etag: str) -> Answer:
        headers = {"If-Match": etag}
        return await site.call("PATCH", D, caller="operator", json=body, headers=headers)

    changed = await patch({"cohort": "beta"}, etag)
    assert (changed.status, changed.json["cohort"]) == (200, "beta")
    assert_is_problem(await patch({"cohort": "gamma"}, etag), 412)
    assert (await site.get(D)).headers["ETag"] == changed.headers["ETag"]
    assert (await patch({"cohort": None}, changed.headers["ETag"])).json["cohort"] is None


async def test_an_etag_does_not_change_with_the_time_a_device_was_last_seen(site: Site) -> None:
    await site.report({"version": "1.0.0", "seq": 1})
    before = await site.get(D)
    await site.report({"version": "1.0.0", "seq": 1})
    await site.services.access.seen.flush()
    after = await site.get(D)
    assert after.json["last_seen_at"] > before.json["last_seen_at"]
    assert after.headers["ETag"] == before.headers["ETag"]


async def test_a_restored_device_gets_a_new_secret(site: Site) -> None:
    assert (await site.call("DELETE", D, caller="operator")).status == 204
    assert_is_problem(await site.report({"version": "1.0.0"}), 401)
    gone = await site.call("POST", f"{P}/devices", caller="operator", json={"device": "d1"})
    assert assert_is_problem(gone, 409)["code"] == "device_decommissioned"
    restored = await site.call("PATCH", D, caller="operator", json={"decommissioned": False})
    site.credentials["device"] = restored.json["secret"]
    assert (await site.report({"version": "1.0.0"})).status == 201


async def test_a_list_is_paged_to_its_end(site: Site) -> None:
    names = sorted(["d1", "d2", *(f"n{number:02}" for number in range(9))])
    await register(site, *({"device": name} for name in names if name.startswith("n")))
    found, path = [], f"{P}/devices?limit=4&count=true"
    while path:
        page = await site.get(path)
        assert page.json["total"] == len(names)
        found += [item["device"] for item in page.json["items"]]
        link = page.headers.get("Link", "")
        assert bool(link) == (page.json["next"] is not None)
        path = link.partition(">")[0].removeprefix("<")
    assert found == names


async def test_a_cursor_belongs_to_its_list(site: Site) -> None:
    cursor = (await site.get(f"{P}/devices?limit=1")).json["next"]
    assert (await site.get(f"{P}/devices?limit=2&cursor={cursor}")).status == 200
    altered = ("B" if cursor[0] == "A" else "A") + cursor[1:]
    for foreign in (
        f"{P}/devices?cursor={altered}",
        f"{P}/devices?cursor={cursor[:-1]}",
        f"{P}/devices?cursor={cursor}&q=d",
        f"{P}/members?cursor={cursor}",
        f"{D}/history?cursor={cursor}",
    ):
        assert_is_problem(await site.get(foreign), 400)


async def test_a_list_can_be_read_whole_as_csv_or_ndjson(site: Site) -> None:
    await register(site, *({"device": f"n{number:04}"} for number in range(1_200)))
    lines = await site.get(f"{P}/devices?limit=1&q=n", Accept="application/x-ndjson")
    assert lines.headers["Content-Type"] == "application/x-ndjson"
    devices = [msgspec.json.decode(line)["device"] for line in lines.body.splitlines()]
    assert devices == [f"n{number:04}" for number in range(1_200)]
    table = await site.get(f"{P}/devices?q=n", Accept="text/csv")
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert table.headers.getall("Vary") == ["Accept", "Accept-Encoding"]
    rows = list(csv.DictReader(table.body.decode().splitlines()))
    assert [row["device"] for row in rows] == devices
    assert set(rows[0]) == set(msgspec.json.decode(lines.body.splitlines()[0]))


async def test_answers_about_the_past_stay_the_same(site: Site) -> None:
    first = (await site.report({"version": "1.0.0", "occurred_at": "2026-03-01T00:00:00Z"})).json
    await site.report({"version": "1.1.0", "occurred_at": "2026-03-10T00:00:00Z"})
    then = first["position"] + 1
    assert (await site.get(f"{D}?as_of=@{then}")).json["version"] == "1.0.0"
    assert (await site.get(f"{D}?at=2026-03-05T01:00:00%2B01:00")).json["version"] == "1.0.0"
    assert (await site.get(f"{D}?at=2026-03-05T01:00:00+01:00")).json["version"] == "1.0.0"
    assert len((await site.get(f"{D}/history?as_of=@{then}")).json["items"]) == 1
    found = await site.get(f"{P}/devices?version=1.0.0&at=2026-03-05T00:00:00Z&count=true")
    assert [item["device"] for item in found.json["items"]] == ["d1"]
    assert found.json["total"] == 1
    counted = await site.get(f"{P}/versions?as_of=@{then}")
    assert counted.headers["Firmtrail-Log-Size"] == str(then)
    shares = {item["version"]: item["share"] for item in counted.json["items"]}
    assert shares == {"1.0.0": 0.5, None: 0.5}


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    "query",
    [
        f"{D}?as_of=@999999",
        f"{D}?as_of={FUTURE}",
        f"{D}?at=2026-02-30T00:00:00Z",
        f"{D}/history?as_of=@999999",
        f"{P}/versions?at=2026-01-01T00:00:00Z",
        f"{P}/members?as_of=@0",
        f"{P}/devices?silent_for=1&as_of=@0",
        f"{P}/devices?silent_for=1&at=2026-01-01T00:00:00Z",
        f"{P}/devices?pending=true&as_of=@0",
        f"{P}/devices?pending=false&at=2026-01-01T00:00:00Z",
        f"{P}/devices?attribute=a:b&as_of=@0",
        f"{P}/versions/timeline?from={FUTURE}",
        f"{P}/versions/timeline?from=2026-01-01T00:00:00Z&step=1",
        f"{P}/versions/timeline",
    ],
)
async def test_a_moment_that_is_not_in_the_past_is_refused(site: Site, query: str) -> None:
    assert_is_problem(await site.get(query.replace("+", "%2B")), 422)


async def test_a_device_is_not_found_before_it_was_registered(site: Site) -> None:
    assert_is_problem(await site.get(f"{D}?as_of=@0"), 404)
    assert_is_problem(await site.get(f"{D}/history?as_of=@0"), 404)
    assert_is_problem(await site.get(f"{P}/devices/nobody"), 404)
    for path, verb in (("history", "is"), ("history?as_of=@1", "was")):
        answer = await site.get(f"{P}/devices/nobody/{path}")
        assert assert_is_problem(answer, 404)["detail"] == f"There {verb} no device nobody."


async def test_a_timeline_shows_what_was_known_at_each_step(site: Site) -> None:
    await site.report({"version": "1.0.0"})
    start = (datetime.now(UTC) - timedelta(hours=2)).isoformat(timespec="milliseconds")
    timeline = await site.get(f"{P}/versions/timeline?from={start}&step=3600")
    assert [step["log_size"] for step in timeline.json["items"][:2]] == [0, 0]
    assert timeline.json["next"] is None


async def test_a_timeline_has_pages_and_a_total(site: Site) -> None:
    await site.report({"version": "1.0.0"})
    start = datetime.now(UTC) - timedelta(seconds=3600)
    asked = f"{P}/versions/timeline?from={start.isoformat(timespec='milliseconds')}&step=1200"
    whole = await site.get(f"{asked}&count=true")
    assert whole.json["total"] == len(whole.json["items"]) == 4
    first = await site.get(f"{asked}&limit=3")
    assert first.headers["Link"].endswith('rel="next"')
    rest = await site.get(f"{asked}&cursor={first.json['next']}")
    assert first.json["items"] + rest.json["items"] == whole.json["items"]
    assert first.headers["Firmtrail-Log-Size"] == whole.headers["Firmtrail-Log-Size"]
    lines = (await site.get(asked, Accept="application/x-ndjson")).body.splitlines()
    assert [msgspec.json.decode(line) for line in lines] == whole.json["items"]
    rows = (await site.get(asked, Accept="text/csv")).body.decode().split("\r\n")
    assert rows[0] == "at,log_size,items"
    assert len(rows) == 6


async def test_the_log_is_sent_byte_for_byte(site: Site) -> None:
    await site.report({"version": "1.0.0"})
    whole = await site.get(f"{P}/events", caller="auditor")
    size = int(whole.headers["Firmtrail-Log-Size"])
    lines = whole.body.splitlines(keepends=True)
    assert len(lines) == size
    part = await site.get(f"{P}/events?from=1&to=3&positions=true", caller="auditor")
    assert part.body == b"".join(b"%d\t%s" % (at, lines[at]) for at in (1, 2))
    assert (await site.get(f"{P}/events?from=2&limit=1", caller="auditor")).body == lines[2]
    assert (await site.get(f"{P}/events?from={size}", caller="auditor")).body == b""
