"""Measures how soon waiting devices learn of a rollback, on every server.

`FIRMTRAIL_TEST_WAITERS=2000 python -m pytest -s tests/end_to_end/long_poll_test.py` shows it with
more devices.
"""

import asyncio
import os
from statistics import quantiles
from time import monotonic

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from tests.end_to_end.conftest import Serve
from tests.end_to_end.hearing import HEARD_S_MAX, hear, run_bad_version
from tests.end_to_end.site import MODEL, P, new_site, post

WAITERS = int(os.environ.get("FIRMTRAIL_TEST_WAITERS", "200"))
SETTLED_S = 2
"""Long after the last device began to wait."""


async def test_a_rollback_on_one_server_reaches_devices_that_wait_on_two(
    serve: Serve, postgres_url: str
) -> None:
    names = [f"d{number}" for number in range(WAITERS)]
    site = await new_site(postgres_url, names)
    urls = [serve(postgres_url).url, serve(postgres_url).url]
    timeout, connector = ClientTimeout(total=60), TCPConnector(limit=0)
    async with ClientSession(timeout=timeout, connector=connector) as session:
        await run_bad_version(session, urls[0], site, names)
        waiting = [
            asyncio.create_task(hear(session, f"{urls[number % 2]}{P}/devices/{name}", site, name))
            for number, name in enumerate(names)
        ]
        await asyncio.sleep(SETTLED_S + WAITERS / 500)
        assert not any(each.done() for each in waiting)
        began = monotonic()
        wish = {"model": MODEL, "bad_version": "1.1.0", "to": "previous", "reason": "It sticks."}
        answer = await post(session, f"{urls[0]}{P}/rollbacks", site.admin, wish)
        assert answer.status == 201, answer
        heard_s = [at - began for at in await asyncio.gather(*waiting)]
    p99_s = quantiles(heard_s, n=100)[98]
    print(f"\n{WAITERS} devices on two servers heard of a rollback: p99 {p99_s:.3f} s")  # noqa: T201
    assert p99_s < HEARD_S_MAX
