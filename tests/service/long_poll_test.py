"""Requests that wait: how many may, for how long, and whom a nudge wakes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from time import monotonic
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from firmtrail.http import app, check_in_api, concurrency, watch
from firmtrail.http.concurrency import ConcurrencyLimit
from tests.fleet import register
from tests.service.site import D2, Answer, D, P, Site
from tests.service.steered import post, roll_out

ANSWERED_S = 2
"""In which what does not wait is answered."""


@pytest.fixture
async def waiting(fleet: Site) -> AsyncIterator[Site]:
    """The fleet with few places to wait in."""
    services = replace(
        fleet.services,
        device_waits=ConcurrencyLimit(5, concurrency.WAITS_OF_DEVICE_MAX),
        people_waits=ConcurrencyLimit(3, 2),
        long_poll_s_max=4,
    )
    server = TestServer(app.build(services))
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server) as client:
        yield replace(fleet, client=client, services=services)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that were looked at, in order."""
    names: list[str] = []
    look = check_in_api._look

    async def counting(call: Any, running: str | None = None) -> Any:
        names.append(call.path("device"))
        return await look(call, running)

    monkeypatch.setattr(check_in_api, "_look", counting)
    return names


async def poll(site: Site, path: str = D, caller: str = "gateway") -> asyncio.Task[Answer]:
    """Begin to wait for another answer than the present one."""
    etag = (await site.get(f"{path}/update", caller)).headers["ETag"]
    wait = site.get(f"{path}/update?wait=60", caller, If_None_Match=etag)
    task = asyncio.create_task(wait)
    await asyncio.sleep(0.1)
    return task


async def is_answered(task: asyncio.Task[Answer], within_s: float = ANSWERED_S) -> bool:
    return bool((await asyncio.wait([task], timeout=within_s))[0])


async def test_a_device_waits_twice_and_no_more(waiting: Site) -> None:
    first = [await poll(waiting, caller=caller) for caller in ("device", "gateway")]
    third = await poll(waiting, caller="device")
    assert await is_answered(third, 1)
    answer = third.result()
    assert answer.status == 304
    assert "Firmtrail-Poll-After" in answer.headers
    other = await poll(waiting, D2)
    assert not await is_answered(other, 0.2)
    assert not any(task.done() for task in first)
    await roll_out(waiting)
    told = await asyncio.gather(*first, other)
    assert {each.json["version"] for each in told} == {"1.1.0"}
    assert waiting.services.device_waits._open == 0


async def test_a_process_has_so_many_waiting_and_no_more(waiting: Site) -> None:
    names = [f"w{n}" for n in range(6)]
    await register(waiting.services.recorder, waiting.log_id, *names)
    tasks = [await poll(waiting, f"{P}/devices/{name}") for name in names]
    await asyncio.sleep(0.3)
    assert [task.done() for task in tasks] == [False] * 5 + [True]
    assert tasks[-1].result().status == 304
    assert {each.status for each in await asyncio.gather(*tasks)} == {304}


async def test_people_that_wait_take_no_place_of_a_device(waiting: Site) -> None:
    people = [await poll(waiting, caller="operator") for _ in range(3)]
    assert await is_answered(people[2], 1)
    device = [await poll(waiting, caller="device") for _ in range(2)]
    assert not await is_answered(device[1], 0.2)


async def test_a_person_that_asks_many_devices_waits_for_some(waiting: Site) -> None:
    asking = [
        asyncio.create_task(waiting.call("POST", f"{path}/ask?wait=60", caller="operator", json={}))
        for path in (D, D2, D)
    ]
    done, left = await asyncio.wait(asking, timeout=ANSWERED_S)
    assert len(done) == 1
    assert {task.result().status for task in done} == {202}
    assert {each.status for each in await asyncio.gather(*left)} == {202}


async def test_a_wait_ends_at_the_servers_limit(waiting: Site) -> None:
    task, began = await poll(waiting), monotonic()
    assert (await task).status == 304
    assert 3 < monotonic() - began < 8
    assert (await waiting.get(f"{D}/update?wait=61")).status == 422


async def test_the_place_of_a_client_that_is_gone_is_free_again(waiting: Site) -> None:
    for _ in range(2):
        gone = await poll(waiting)
        gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await asyncio.sleep(3 * watch.EVERY_S)
    assert waiting.services.device_waits._open == 0
    assert not await is_answered(await poll(waiting), 0.2)


async def test_a_nudge_wakes_the_device_concerned_and_no_other(
    waiting: Site, looked: list[str]
) -> None:
    mine, other = await poll(waiting), await poll(waiting, D2)
    looked.clear()
    await post(waiting, "devices/d1/ask", {})
    assert await is_answered(mine)
    assert mine.result().json["question"]
    await asyncio.sleep(2 * watch.EVERY_S)
    assert set(looked) == {"d1"}
    await waiting.call("PATCH", D2, caller="operator", json={"pinned": "1.2.0"})
    assert await is_answered(other)
    assert other.result().json["version"] == "1.2.0"


async def test_a_device_that_is_known_not_to_be_concerned_hears_of_the_next_nudge(
    waiting: Site,
) -> None:
    other = await poll(waiting, D2)
    for _ in range(3):
        await post(waiting, "devices/d1/ask", {})
        await asyncio.sleep(2 * watch.EVERY_S)
    assert not other.done()
    await post(waiting, "devices/d2/ask", {})
    assert await is_answered(other)


async def test_of_a_log_that_grew_far_all_devices_are_looked_at(
    waiting: Site, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "NUDGED_EVENTS_MAX", 0)
    mine, other = await poll(waiting), await poll(waiting, D2)
    looked.clear()
    await post(waiting, "devices/d1/ask", {})
    assert await is_answered(mine)
    assert set(looked) == {"d1", "d2"}
    assert not other.done()


async def test_an_order_wakes_every_device(waiting: Site) -> None:
    tasks = [await poll(waiting), await poll(waiting, D2)]
    await roll_out(waiting)
    assert all([await is_answered(task) for task in tasks])


async def test_a_decommissioned_device_hears_of_it(waiting: Site) -> None:
    task = await poll(waiting, caller="device")
    await waiting.call("DELETE", D, caller="operator")
    assert await is_answered(task)
    assert task.result().status == 401
