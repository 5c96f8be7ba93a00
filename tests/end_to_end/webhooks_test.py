"""Every event reaches a receiver in order, though that fails, is away, and the server is killed.

`make webhooks` is the long run: 100 000 events, and a receiver that is away for a minute.
"""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from standardwebhooks.webhooks import Webhook

from tests.end_to_end import site as sites
from tests.end_to_end.command import Done, in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.site import P, Site

EVENTS = int(os.environ.get("FIRMTRAIL_TEST_EVENTS", "400"))
IS_LONG = EVENTS >= 100_000
AWAY_S = 60.0 if IS_LONG else 1.0
KILLS = 5 if IS_LONG else 2
FAILING = 0.2
ARRAY = 500
LIMIT_S = 3_000 if IS_LONG else 100
DEVICES = [f"d{n}" for n in range(10)]


class FailingReceiver:
    """Refuses one delivery in five, and checks the signature and the order of the others."""

    def __init__(self) -> None:
        self.secret = ""
        self.next: int | None = None
        """The position that comes next; those before it may be repeated."""
        self.deliveries = self.refused = self.repeated = 0
        self.faults: list[str] = []
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.deliveries += 1
        if random.random() < FAILING:
            self.refused += 1
            return web.Response(status=503)
        Webhook(self.secret).verify(body, dict(request.headers))
        self._note(int(request.headers["Firmtrail-Position"]))
        return web.Response(status=204)

    def _note(self, position: int) -> None:
        if self.next is None or position == self.next:
            self.next = position + 1
        elif position < self.next:
            self.repeated += 1
        else:
            self.faults.append(f"{position} came before {self.next}")


@pytest.fixture
async def receiver() -> AsyncIterator[FailingReceiver]:
    found = FailingReceiver()
    await found.start()
    yield found
    await found.stop()


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 60)
async def test_every_event_is_delivered_in_order_whatever_fails(
    serve: Serve, database_url: str, receiver: FailingReceiver
) -> None:
    await deliver(serve, database_url, receiver)


ALLOWED = ("--webhooks-allow", "127.0.0.0/8")


def test_the_command_line_manages_webhooks(serve: Serve, sqlite_url: str) -> None:
    server = serve(sqlite_url, *ALLOWED)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/secret-path"

        def ran(*command: str) -> Done:
            return in_process(sqlite_url, *command, "--project", "acme")

        assert in_process(sqlite_url, "project", "add", "acme").exit_code == 0
        added = ran("webhook", "add", url, "--type", "Halted", "--notice", "halted")
        webhook, secret = added.out.split()
        assert secret.startswith("whsec_")
        changed = ran("webhook", "change", webhook, "--all-types", "--disable")
        assert changed.exit_code == 0, changed.said
        shown = ran("webhook", "show", webhook, "--json").json
        assert (shown["types"], shown["notices"], shown["enabled"]) == (None, ["halted"], False)
        assert [each["id"] for each in ran("webhook", "list", "--json").json] == [webhook]
        assert ran("webhook", "redeliver", webhook, "--from", "0").exit_code == 0
        row = ran("webhook", "list").out.splitlines()[1]
        assert "all events" in row and "all models" in row and "halted" in row
        silent = ran("webhook", "add", url, "--no-events", "--json")
        quiet = silent.json["id"]
        assert silent.json["secret"].startswith("whsec_")
        assert "is sent nothing" in silent.said
        assert "no events" in ran("webhook", "show", quiet).out
        assert "is sent nothing" not in ran("webhook", "change", quiet, "--type", "Halted").said
        assert ran("webhook", "remove", quiet).exit_code == 0
        late = ran("webhook", "redeliver", webhook, "--from", "9999").said
        assert "--from is after the end of the log: the highest position is " in late, late
        assert ran("webhook", "secret", webhook).out.strip() not in {"", secret}
        assert ran("webhook", "secret", webhook, "--json").json["id"] == webhook
    tested = ran("webhook", "test", webhook, "--json")  # nobody listens there any more
    assert (tested.exit_code, tested.json["status"], tested.json["number"]) == (1, None, 1)
    [kept] = ran("webhook", "deliveries", webhook, "--json").json
    assert kept["error"] == tested.json["error"]
    refused = ran("webhook", "add", "http://10.0.0.1/")
    assert refused.exit_code == 2 and "--webhooks-allow" in refused.said
    no_url = ran("webhook", "add", "nowhere")
    assert (no_url.exit_code, no_url.said.startswith("Error: URL must")) == (2, True), no_url.said
    other = ran("webhook", "change", webhook, "--to", "nowhere")
    assert (other.exit_code, other.said.startswith("Error: --to must")) == (2, True), other.said
    assert ran("webhook", "remove", webhook).exit_code == 0
    assert ran("webhook", "list", "--json").json == []
    log = server.said("request")
    assert log and not any("secret-path" in str(line) for line in log)


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [
        ("--notice", "nonsense", "rollout_paused"),
        ("--type", "RolloutPause", "RolloutPaused"),
    ],
)
def test_an_unknown_name_is_answered_with_known_ones(
    sqlite_url: str, option: str, value: str, known: str
) -> None:
    assert in_process(sqlite_url, "project", "add", "acme").exit_code == 0
    add = ("webhook", "add", "https://example.org/", "--project", "acme")
    wrong = in_process(sqlite_url, *add, option, value)
    assert (wrong.exit_code, known in wrong.said) == (2, True), wrong.said


async def deliver(serve: Serve, database: str, receiver: FailingReceiver) -> None:
    site = await sites.new_site(database, DEVICES)
    server = serve(database, *ALLOWED)
    async with ClientSession() as session:
        begin = await add_webhook(session, server.url, site, receiver)
        end = begin
        for turn in range(KILLS):
            end = await report(session, server.url, site, EVENTS // (KILLS + 1))
            await until(receiver, begin + (turn + 1) * EVENTS // (2 * KILLS))
            server.kill()
            server.start()
        await receiver.stop()
        end = await report(session, server.url, site, EVENTS - (end - begin))
        await asyncio.sleep(AWAY_S)
        await receiver.start()
        await until(receiver, end)
        state = await webhook_of(session, server.url, site)
    missing = end - (receiver.next or begin)
    print(  # noqa: T201 (the figures of the long run)
        f"\n{end - begin} events, {receiver.deliveries} deliveries, {receiver.refused} refused, "
        f"{receiver.repeated} repeated, away for {AWAY_S:.0f} s, {KILLS} restarts after kill -9, "
        f"out of order: {len(receiver.faults)}, missing: {missing}"
    )
    assert (end - begin >= EVENTS, missing) == (True, 0)
    assert receiver.faults == []
    assert receiver.refused > EVENTS * FAILING / 2
    assert state["enabled"] and state["position"] <= end


async def add_webhook(
    session: ClientSession, url: str, site: Site, receiver: FailingReceiver
) -> int:
    """Adds the receiver; returns the position of the first event that it is sent."""
    body = {"url": receiver.url}
    answer = await sites.post(session, f"{url}{P}/webhooks", site.admin, body)
    assert answer.status == 201, answer.body
    receiver.secret = answer.json["secret"]
    receiver.next = int(answer.json["position"])
    return receiver.next


async def webhook_of(session: ClientSession, url: str, site: Site) -> Any:
    headers = {"Authorization": f"Bearer {site.admin}"}
    async with session.get(f"{url}{P}/webhooks", headers=headers) as response:
        return (await response.json())["items"][0]


async def report(session: ClientSession, url: str, site: Site, events: int) -> int:
    """Reports so many versions; returns the size of the log."""
    position = 0
    for start in range(0, events, ARRAY):
        items = [
            {"device": random.choice(DEVICES), "version": f"1.{random.randrange(10**9)}.{n}"}
            for n in range(start, min(start + ARRAY, events))
        ]
        answer = await sites.post(session, f"{url}{P}/reports", site.gateway, items)
        assert answer.status in {200, 201, 207}, answer.body
        position = max(each["position"] for each in answer.json)
    return position + 1


async def until(receiver: FailingReceiver, position: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while (receiver.next or 0) < position:
            assert receiver.faults == []
            await asyncio.sleep(0.02)
