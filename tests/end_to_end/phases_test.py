"""Tests that no process decides when a phase begins: only the log and the clock do."""

import asyncio
import random
import time
from typing import Any

from aiohttp import ClientSession

from firmtrail.events.times import time_ms, time_text
from tests.end_to_end import ledger
from tests.end_to_end.conftest import Serve
from tests.end_to_end.site import MODEL, P, Site, get, new_site, post

AFTER_S = 3
DEVICES = [f"d{number}" for number in range(24)]
PHASES: list[dict[str, Any]] = [
    {"percent": 25, "when": {"installed_percent": 50, "min_reports": 2}},
    {"percent": 60, "after_s": 60},
    {"percent": 100},
]


async def roll_out(
    session: ClientSession, url: str, site: Site, phases: list[dict[str, Any]]
) -> str:
    """Starts a rollout of 1.1.0 to all devices, which run 1.0.0."""
    runs = [{"device": name, "version": "1.0.0"} for name in site.secrets]
    order = {"model": MODEL, "version": "1.1.0", "plan": {"phases": phases}}
    answers = [
        await post(session, f"{url}{P}/releases", site.admin, {"model": MODEL, "version": version})
        for version in ("1.0.0", "1.1.0")
    ]
    answers.append(await post(session, f"{url}{P}/reports", site.admin, runs))
    answers.append(await post(session, f"{url}{P}/rollouts", site.admin, order))
    assert [answer.status for answer in answers] == [201, 201, 201, 201]
    rollout: str = answers[-1].json["id"]
    return rollout


async def test_a_phase_begins_while_the_only_server_is_down(
    serve: Serve, database_url: str
) -> None:
    site = await new_site(database_url, ["d1"])
    server = serve(database_url)
    async with ledger.session() as session:
        phases = [{"percent": 0, "after_s": AFTER_S}, {"percent": 100}]
        rollout = await roll_out(session, server.url, site, phases)
        shown = (await get(session, f"{server.url}{P}/rollouts/{rollout}", site.admin)).json
        began_ms = time_ms(shown["phases"][0]["began_at"])
        server.kill()
        await asyncio.sleep(began_ms / 1_000 + AFTER_S - time.time())
        server.start()
        update = await get(session, f"{server.url}{P}/devices/d1/update", site.secrets["d1"])
        assert update.json["version"] == "1.1.0"
        shown = (await get(session, f"{server.url}{P}/rollouts/{rollout}", site.admin)).json
    assert [each["state"] for each in shown["phases"]] == ["done", "current"]
    assert time_ms(shown["phases"][1]["began_at"]) == began_ms + AFTER_S * 1_000


async def test_two_servers_show_the_same_phases_at_one_position_and_time(
    serve: Serve, postgres_url: str
) -> None:
    site = await new_site(postgres_url, DEVICES)
    urls = [serve(postgres_url).url for _ in range(2)]
    seen: dict[tuple[int, str], list[Any]] = {}
    async with ledger.session() as session:
        rollout = await roll_out(session, urls[0], site, PHASES)

        async def look(url: str, at: str) -> None:
            answer = await get(session, f"{url}{P}/rollouts/{rollout}?at={at}", site.admin)
            assert answer.status == 200, answer.body
            shown = seen.setdefault((answer.log_size, at), [])
            shown.append((answer.json["percent"], answer.json["phases"]))

        async def install(url: str, device: str, version: str) -> None:
            path, report = f"{P}/devices/{device}/reports", {"version": version}
            answer = await post(session, f"{url}{path}", site.admin, report)
            assert answer.status == 201, answer.body

        for device in DEVICES:
            url = random.choice(urls)
            offered = await get(session, f"{url}{P}/devices/{device}/update", site.secrets[device])
            at = time_text(time.time_ns() // 1_000_000)
            calls = [look(each, at) for each in urls]
            if (version := offered.json["version"]) is not None:
                calls.append(install(random.choice(urls), device, version))
            await asyncio.gather(*calls)
    for key, shown in seen.items():
        assert all(each == shown[0] for each in shown), (key, shown)
    assert any(len(shown) > 1 for shown in seen.values())
    assert {percent for [(percent, _), *_] in seen.values()} == {25, 60}
