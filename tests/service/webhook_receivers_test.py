"""A receiver of webhooks that is slow, hostile or refuses costs nobody else anything."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from firmtrail.webhooks import look_ups
from firmtrail.webhooks.sender import retry_after_s
from tests.patience import PATIENCE_S
from tests.service.receiver import Receiver, add
from tests.service.site import P, Site
from tests.service.steered import post
from tests.service.webhooks import deliveries, report, shown


async def test_a_receiver_that_asks_for_time_gets_it(site: Site, receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [(429, "slower")], {"Retry-After": "600"}
    webhook = await add(site, receiver)
    await report(site, "1.0.0")
    async with asyncio.timeout(PATIENCE_S):
        while not (state := await shown(site, webhook))["failures"]:
            await asyncio.sleep(0.02)
    assert (state["failures"], receiver.got) == (1, [])
    wait = datetime.fromisoformat(state["next_attempt_at"]) - datetime.now(UTC)
    assert timedelta(seconds=500) < wait <= timedelta(seconds=600)
    assert len(await deliveries(site, webhook, 1)) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("0", 0), ("7", 7), ("-1", 0), ("x", 0), ("9" * 30, 9_999_999_999), ("\u0667", 0)],
)
def test_retry_after_in_seconds_is_read(text: str, seconds: float) -> None:
    assert retry_after_s({"Retry-After": text}) == seconds


def test_retry_after_as_a_date_is_read() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < retry_after_s({"Retry-After": at}) <= 100
    assert retry_after_s({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0


@pytest.mark.parametrize("year", ["10000", "9" * 20, "9" * 5_000])
def test_retry_after_in_no_year_of_the_calendar_asks_for_nothing(year: str) -> None:
    assert retry_after_s({"Retry-After": f"Thu, 01 Jan {year} 00:00:00 GMT"}) == 0


async def test_a_receiver_that_never_comes_to_its_answer_is_cut_off(
    site: Site, receiver: Receiver
) -> None:
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                part = b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 100
                writer.write(part)
                await writer.drain()
                sent += len(part)
        writer.close()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        path = f"{P}/webhooks/{(await add(site, receiver, types=[]))['id']}/test"
        tried = (await site.call("POST", path, caller="admin", json={})).json
    assert (tried["status"], "interim" in tried["error"]) == (None, True)
    assert sent < 50_000_000


async def test_a_few_interim_answers_are_passed_over(site: Site, receiver: Receiver) -> None:
    async def hint(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 10)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    async with await asyncio.start_server(hint, "127.0.0.1", 0) as server:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        path = f"{P}/webhooks/{(await add(site, receiver, types=[]))['id']}/test"
        tried = (await site.call("POST", path, caller="admin", json={})).json
    assert (tried["status"], tried["body_excerpt"], tried["error"]) == (200, "ok", None)


async def test_why_there_was_no_connection_names_no_address(site: Site, receiver: Receiver) -> None:
    for url, error in (
        (
            "http://localhost:1/secret",
            "There was no connection to localhost:1: Connection refused.",
        ),
        ("https://nobody.invalid/secret", "The host nobody.invalid was not found."),
    ):
        receiver.url = url
        path = f"{P}/webhooks/{(await add(site, receiver, types=[]))['id']}/test"
        tried = await site.call("POST", path, caller="admin", json={})
        assert tried.json["error"] == error


async def test_a_message_that_is_refused_for_ever_can_be_skipped(
    fleet: Site, receiver: Receiver
) -> None:
    receiver.answers = [(400, "never")] * 500
    webhook = await add(fleet, receiver, notices=["phase_began"])
    await post(fleet, "rollouts", {"model": "m", "version": "1.1.0", "plan": PLAN})
    await waits_with_a_notice(fleet, webhook)
    size = (await fleet.get(f"{P}/devices/d1")).headers["Firmtrail-Log-Size"]
    path = f"{P}/webhooks/{webhook['id']}/redeliver"
    receiver.answers = []
    skipped = await fleet.call("POST", path, caller="admin", json={"from": int(size)})
    assert skipped.status == 200, skipped.body
    receiver.got.clear()
    position = await report(fleet, "1.1.0")
    assert (await receiver.until(1))[0].position == position
    await asyncio.sleep(0.3)
    assert len(receiver.got) == 1


PLAN = {"phases": [{"percent": 10, "after_s": 3600}, {"percent": 100}]}


async def waits_with_a_notice(site: Site, webhook: Any) -> None:
    """Waits until a notice of the webhook was made and refused."""
    async with asyncio.timeout(PATIENCE_S):
        while not any(
            "notice" in each["type"]
            for each in (await shown(site, webhook, "/deliveries"))["items"]
        ):
            await asyncio.sleep(0.05)


async def test_a_url_is_not_taken_unchecked_while_no_look_up_can_begin(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look_ups, "LOOK_UPS_MAX", 0)
    for scheme in ("https", "http"):
        body = {"url": f"{scheme}://hooks.example.org/x"}
        answer = await site.call("POST", f"{P}/webhooks", caller="admin", json=body)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
