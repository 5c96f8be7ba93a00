"""Tests requests that wait: how many may, for how long, and which of them a nudge wakes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from firmtrail import config
from firmtrail.application import app
from firmtrail.http import concurrency, decisions, watch
from firmtrail.http.concurrency import ConcurrencyLimit, Limits
from tests.fleet import register
from tests.service.site import D2, D, P, Site
from tests.service.steered import post, roll_out
from tests.serving import Answer, with_settings

ANSWERED_S = 30
"""How long a request takes at most that does not wait, on a slow machine."""
WAIT_S = 60
"""How long a request asks to wait: longer than a test takes."""


@pytest.fixture
def longest_s() -> int:
    """How long a request waits at most, whatever it asks for."""
    return WAIT_S


@pytest.fixture
async def waiting(fleet: Site, longest_s: int) -> AsyncIterator[Site]:
    """Serves the fleet with a low limit of waiting requests."""
    limits = Limits(config.STREAMS_MAX)
    limits.device_waits = ConcurrencyLimit(5, concurrency.WAITS_OF_DEVICE_MAX)
    limits.people_waits = ConcurrencyLimit(3, 2)
    services = with_settings(replace(fleet.services, limits=limits), long_poll_s_max=longest_s)
    server = TestServer(app.build(services))
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server) as client:
        yield replace(fleet, client=client, services=services)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the devices that were read, in order."""
    names: list[str] = []
    read = decisions.known_device

    async def counting(call: Any, **members: Any) -> Any:
        names.append(call.path("device"))
        return await read(call, **members)

    monkeypatch.setattr(decisions, "known_device", counting)
    return names


async def poll(site: Site, path: str = D, caller: str = "gateway") -> asyncio.Task[Answer]:
    """Begins to wait for another answer than the present one."""
    etag = (await site.get(f"{path}/update", caller)).headers["ETag"]
    wait = site.get(f"{path}/update?wait={WAIT_S}", caller, If_None_Match=etag)
    task = asyncio.create_task(wait)
    await asyncio.sleep(0.1)
    return task


async def is_answered(task: asyncio.Task[Answer], within_s: float = ANSWERED_S) -> bool:
    return bool((await asyncio.wait([task], timeout=within_s))[0])


async def hang_up(tasks: Sequence[asyncio.Task[Answer]]) -> None:
    """Ends the requests that still wait."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_device_waits_at_most_twice(waiting: Site) -> None:
    first = [await poll(waiting, caller=caller) for caller in ("device", "gateway")]
    third = await poll(waiting, caller="device")
    assert await is_answered(third)
    answer = third.result()
    assert answer.status == 304
    assert "Firmtrail-Poll-After" in answer.headers
    other = await poll(waiting, D2)
    assert not await is_answered(other, 0.2)
    assert not any(task.done() for task in first)
    await roll_out(waiting)
    answers = await asyncio.gather(*first, other)
    assert {each.json["version"] for each in answers} == {"1.1.0"}
    assert waiting.services.limits.device_waits._open == 0


async def test_a_process_has_a_limit_of_waiting_requests(waiting: Site) -> None:
    names = [f"w{n}" for n in range(6)]
    await register(waiting.services.recorder, waiting.log_id, *names)
    tasks = [await poll(waiting, f"{P}/devices/{name}") for name in names]
    assert await is_answered(tasks[-1])
    assert [task.done() for task in tasks] == [False] * 5 + [True]
    assert tasks[-1].result().status == 304
    await hang_up(tasks)


async def test_people_that_wait_leave_the_limit_of_devices_alone(waiting: Site) -> None:
    people = [await poll(waiting, caller="operator") for _ in range(3)]
    assert await is_answered(people[2])
    device = [await poll(waiting, caller="device") for _ in range(2)]
    assert not await is_answered(device[1], 0.2)
    await hang_up([*people, *device])


async def test_a_person_that_asks_many_devices_waits_for_a_few(waiting: Site) -> None:
    asking = [
        asyncio.create_task(
            waiting.call("POST", f"{path}/ask?wait={WAIT_S}", caller="operator", json={})
        )
        for path in (D, D2, D)
    ]
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.2)
    [refused] = [task for task in asking if task.done()]
    assert refused.result().status == 202
    await hang_up(asking)


@pytest.mark.parametrize("longest_s", [1])
async def test_a_wait_ends_at_the_servers_limit(waiting: Site, longest_s: int) -> None:
    began = monotonic()
    assert (await (await poll(waiting))).status == 304
    assert longest_s <= monotonic() - began < WAIT_S / 2
    path = f"{D}/ask?wait={WAIT_S}"
    assert (await waiting.call("POST", path, caller="operator", json={})).status == 202
    assert monotonic() - began < WAIT_S / 2
    assert (await waiting.get(f"{D}/update?wait=61")).status == 422


async def test_a_client_that_has_disconnected_no_longer_counts(waiting: Site) -> None:
    for _ in range(2):
        gone = await poll(waiting)
        gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await asyncio.sleep(3 * watch.EVERY_S)
    assert waiting.services.limits.device_waits._open == 0
    assert not await is_answered(await poll(waiting), 0.2)


async def test_a_nudge_wakes_only_the_device_concerned(waiting: Site, looked: list[str]) -> None:
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


async def test_a_device_that_one_nudge_did_not_concern_gets_the_next(
    waiting: Site,
) -> None:
    other = await poll(waiting, D2)
    for _ in range(3):
        await post(waiting, "devices/d1/ask", {})
        await asyncio.sleep(2 * watch.EVERY_S)
    assert not other.done()
    await post(waiting, "devices/d2/ask", {})
    assert await is_answered(other)


async def test_all_devices_are_read_again_when_a_log_grew_by_many_events(
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


async def test_a_waiting_device_learns_that_it_is_decommissioned(waiting: Site) -> None:
    task = await poll(waiting, caller="device")
    await waiting.call("DELETE", D, caller="operator")
    assert await is_answered(task)
    assert task.result().status == 401
