"""Checks the notes of a refused log, of devices that wait to be accepted, and of many devices."""

from typing import Any

import pytest

from firmtrail.events.fleet import DeviceRegistered
from firmtrail.http import attention
from tests.databases import write
from tests.fleet import record_events
from tests.service.forms import read_page
from tests.service.site import D2, D, P, Site
from tests.service.steered import post, roll_out


async def notes(site: Site) -> list[Any]:
    answer = await site.get(f"{P}/attention", "viewer")
    assert answer.status == 200, answer.body
    return list(answer.json["items"])


async def test_a_log_that_takes_no_events_is_the_first_note(site: Site) -> None:
    await post(site, "halt", {"reason": "smoke"})
    receipt = (await site.report({"version": "1.0.0", "report_id": "a"})).json
    await site.report({"version": "1.0.1"})
    publisher = site.services.publisher
    assert publisher is not None
    await publisher.following.catch_up()
    text = "UPDATE log_heads SET size = $1 WHERE log_id = $2"
    await write(site.services.db, text, receipt["position"] + 1, site.log_id)
    assert (await site.report({"version": "1.0.2"})).status == 503
    refused, *rest = await notes(site)
    assert refused["kind"] == "log_refused"
    assert refused["says"].startswith("The log takes no events: ")
    assert [each["kind"] for each in rest] == ["halted"]
    assert "The log takes no events: " in await read_page(site, "", "viewer")


async def test_devices_that_wait_to_be_accepted_are_counted_until_somebody_decides(
    fleet: Site,
) -> None:
    waiting = [(f"device/w{n}", DeviceRegistered("m", pending=True)) for n in range(2)]
    await record_events(fleet.services.recorder, fleet.log_id, list(waiting))
    [note] = await notes(fleet)
    assert (note["kind"], note["devices"]) == ("pending", 2)
    assert note["says"] == "2 devices wait to be accepted or rejected."
    listed = (await fleet.get(f"{P}/devices?pending=true")).json["items"]
    assert len(listed) == note["devices"]
    assert (await post(fleet, "devices/w0/accept")).status == 200
    [note] = await notes(fleet)
    assert note["says"] == "1 device waits to be accepted or rejected."
    assert (await post(fleet, "devices/w1/reject")).status == 200
    assert await notes(fleet) == []


async def test_a_count_that_reached_its_limit_says_at_least(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await roll_out(fleet)
    for path in (D, D2):
        await fleet.get(f"{path}/update", "gateway")
        body = {"version": "1.1.0", "status": "failed"}
        assert (await fleet.report(body, caller="operator", path=path)).status == 201
    monkeypatch.setattr(attention, "COUNTED_MAX", 1)
    [note] = await notes(fleet)
    assert (note["devices"], note["says"]) == (1, "At least 1 device failed its last update.")
