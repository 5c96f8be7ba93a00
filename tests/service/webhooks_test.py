"""Webhooks get every event in order, signed, and cost nobody else anything."""

import asyncio
from typing import Any, get_args

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs

from firmtrail.database.database import Database, Statement
from firmtrail.eventstore import sizes
from firmtrail.webhooks import lags, messages, stored, worker
from firmtrail.webhooks.deliverer import Deliverer
from firmtrail.webhooks.messages import NoticeName
from firmtrail.webhooks.stored import WebhookProgress
from tests.patience import PATIENCE_S
from tests.service.receiver import Receiver, add
from tests.service.site import P, Site
from tests.service.steered import post
from tests.service.webhooks import deliveries, report, shown


async def test_events_come_as_logged_in_order_and_signed(site: Site, receiver: Receiver) -> None:
    webhook = await add(site, receiver)
    positions = [await report(site, f"1.0.{n}") for n in range(5)]
    got = await receiver.until(5)
    assert [each.position for each in got] == positions
    for each in got:
        assert Webhook(webhook["secret"]).verify(each.body, each.headers)
        entry = await site.get(f"{P}/events/{each.position}")
        assert each.json["data"] == entry.json["data"]
        rows = await site.services.db.read(log_entry(site.log_id, each.position))
        assert each.body.decode() == rows[0][0]
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 44).verify(got[0].body, got[0].headers)
    kept = await deliveries(site, webhook, 5)
    assert [each["position"] for each in kept] == positions[::-1]
    assert {(each["status"], each["body_excerpt"]) for each in kept} == {(200, "thanks")}


def log_entry(log_id: int, position: int) -> Any:
    text = "SELECT entry FROM events WHERE log_id = $1 AND position = $2 LIMIT 1"
    return Statement(text, (log_id, position))


async def test_the_secret_is_in_one_answer_only(site: Site, receiver: Receiver) -> None:
    webhook = await add(site, receiver)
    assert webhook["secret"].startswith("whsec_")
    listed = await site.get(f"{P}/webhooks")
    events = await site.get(f"{P}/events", accept="application/x-ndjson")
    for answer in (listed, await site.get(f"{P}/webhooks/{webhook['id']}"), events):
        assert webhook["secret"].encode() not in answer.body
        assert b"/hook" not in answer.body or answer is not events
    assert b"WebhookAdded" in events.body


async def test_a_failed_delivery_is_tried_again_and_keeps_the_order(
    site: Site, receiver: Receiver
) -> None:
    receiver.answers = [(status, "no") for status in (500, 503, 302, 404, 429)]
    webhook = await add(site, receiver)
    positions = [await report(site, f"1.0.{n}") for n in range(3)]
    assert [each.position for each in await receiver.until(3)] == positions
    tried = await deliveries(site, webhook, 8)
    assert [each["status"] for each in tried[::-1]] == [500, 503, 302, 404, 429, 200, 200, 200]
    assert "redirects are not followed" in tried[5]["error"]
    assert len({each["message_id"] for each in tried}) == 3
    assert (await shown(site, webhook))["failures"] == 0


async def test_a_receiver_that_is_gone_is_disabled_and_can_be_enabled_again(
    site: Site, receiver: Receiver
) -> None:
    receiver.answers = [(410, "x" * 2000)]
    webhook = await add(site, receiver)
    position = await report(site, "1.0.0")
    async with asyncio.timeout(PATIENCE_S):
        while (state := await shown(site, webhook))["enabled"]:
            await asyncio.sleep(0.02)
    assert state["disabled_reason"] == "gone" and state["position"] == position
    notes = (await site.get(f"{P}/attention", "viewer")).json["items"]
    assert [each["kind"] for each in notes] == ["webhook_disabled"]
    kept = await deliveries(site, webhook, 1)
    assert kept[0]["body_excerpt"] == "x" * 512
    path = f"{P}/webhooks/{webhook['id']}"
    answer = await site.call("PATCH", path, caller="admin", json={"enabled": True})
    assert answer.status == 200 and answer.json["disabled_reason"] is None
    assert (await receiver.until(1))[0].position == position


async def test_a_receiver_that_fails_for_a_day_is_disabled(
    site: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "FAILING_MS_MAX", 500)
    receiver.answers = [(500, "no")] * 50
    webhook = await add(site, receiver)
    await report(site, "1.0.0")
    async with asyncio.timeout(PATIENCE_S):
        while (await shown(site, webhook))["enabled"]:
            await asyncio.sleep(0.05)
    assert (await shown(site, webhook))["disabled_reason"] == "failing"
    events = await site.get(f"{P}/events?limit=1&newest_first=true", "auditor")
    assert b"WebhookChanged" in events.body and b"failing" in events.body


async def test_types_and_models_select_events(fleet: Site, receiver: Receiver) -> None:
    await add(fleet, receiver, types=["FirmwareInstalled"], models=["m"])
    await fleet.call("POST", f"{P}/devices", caller="operator", json={"device": "d9"})
    await report(fleet, "1.1.0", "d9")
    await post(fleet, "releases", {"model": "m", "version": "1.3.0"})
    position = await report(fleet, "1.1.0")
    assert [each.position for each in await receiver.until(1)] == [position]
    both = [await report(fleet, "1.2.0", name) for name in ("d1", "d2")]
    assert [each.position for each in await receiver.until(3)] == [position, *both]


async def test_events_are_sent_again_from_a_position(site: Site, receiver: Receiver) -> None:
    webhook = await add(site, receiver)
    await report(site, "1.0.0")
    first = (await receiver.until(1))[0]
    path = f"{P}/webhooks/{webhook['id']}/redeliver"
    answer = await site.call("POST", path, caller="admin", json={"from": 0})
    assert answer.status == 200, answer.body
    got = await receiver.until(1 + first.position + 1)
    assert [each.position for each in got] == [first.position, *range(first.position + 1)]
    assert got[-1].headers["webhook-id"] == first.headers["webhook-id"]
    far = await site.call("POST", path, caller="admin", json={"from": 10**6})
    assert far.status == 422


async def test_a_new_secret_signs_next_to_the_old_one(site: Site, receiver: Receiver) -> None:
    webhook = await add(site, receiver, types=[])
    path = f"{P}/webhooks/{webhook['id']}"
    renewed = (await site.call("POST", f"{path}/secret", caller="admin", json={})).json
    assert renewed["secret"] != webhook["secret"]
    tried = await site.call("POST", f"{path}/test", caller="admin", json={})
    assert tried.status == 200 and tried.json["status"] == 200, tried.body
    [got] = await receiver.until(1)
    for secret in (webhook["secret"], renewed["secret"]):
        assert Webhook(secret).verify(got.body, got.headers)["type"] == "firmtrail.notice.test.v1"
    assert (await shown(site, webhook, "/deliveries"))["items"][0]["position"] is None


async def test_a_test_is_sent_once_for_a_key(site: Site, receiver: Receiver) -> None:
    path = f"{P}/webhooks/{(await add(site, receiver))['id']}/test"
    key = {"Idempotency-Key": "k"}
    answers = [
        await site.call("POST", path, caller="admin", json={}, headers=key) for _ in range(2)
    ]
    assert answers[0].status == 200
    assert answers[1].json == answers[0].json
    assert len(receiver.got) == 1


async def test_a_private_receiver_is_refused_unless_it_is_allowed(site: Site) -> None:
    for url in (
        "http://127.0.0.1:1/",
        "https://localhost/",
        "http://[::ffff:127.0.0.1]/",
        "https://2130706433/",
        "https://169.254.169.254/latest/meta-data",
        "http://93.184.216.34/",
    ):
        answer = await site.call("POST", f"{P}/webhooks", caller="admin", json={"url": url})
        assert (answer.status, answer.json["code"]) == (422, "target_refused"), url
    for url in ("https://u:p@93.184.216.34/", "ftp://93.184.216.34/", "https:///x", "no"):
        answer = await site.call("POST", f"{P}/webhooks", caller="admin", json={"url": url})
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/url"), url


async def test_every_fault_of_a_webhook_is_named(site: Site) -> None:
    body = {"url": "x", "types": ["Nothing"], "notices": ["none"], "models": ["a b"], "more": 1}
    answer = await site.call("POST", f"{P}/webhooks", caller="admin", json=body)
    assert answer.status == 422
    assert {each["pointer"] for each in answer.json["errors"]} == {
        *("/url", "/types", "/notices/0", "/models/0", "/more"),
    }
    reasons = {each["pointer"]: each["reason"] for each in answer.json["errors"]}
    assert reasons["/notices/0"] == f"expected one of {', '.join(get_args(NoticeName))}"
    body = {"url": "https://example.org/", "types": ["RolloutsPaused"]}
    answer = await site.call("POST", f"{P}/webhooks", caller="admin", json=body)
    [similar] = answer.json["errors"]
    assert "there is no event RolloutsPaused (similar are RolloutPaused" in similar["reason"]


async def test_a_project_has_a_limited_number_of_webhooks(site: Site, receiver: Receiver) -> None:
    for _ in range(20):
        await add(site, receiver, types=[])
    body = {"url": receiver.url}
    answer = await site.call("POST", f"{P}/webhooks", caller="admin", json=body)
    assert (answer.status, answer.json["code"]) == (409, "too_many_webhooks")
    listed = (await site.get(f"{P}/webhooks?limit=100")).json["items"]
    path = f"{P}/webhooks/{listed[0]['id']}"
    assert (await site.call("DELETE", path, caller="admin")).status == 204
    assert (await site.get(path)).status == 404
    await add(site, receiver, types=[])


async def test_two_servers_send_each_event_once(site: Site, receiver: Receiver) -> None:
    services = site.services
    sent: list[str] = []
    other = Deliverer(services.db, services.recorder, services.sender, sent.append, is_alone=False)
    task = asyncio.create_task(other.following.run())
    await add(site, receiver)
    positions = []
    for n in range(30):
        positions.append(await report(site, f"1.0.{n}"))
        await asyncio.sleep(0.02)
    await receiver.until(30)
    await asyncio.sleep(0.5)
    task.cancel()
    await other.close()
    assert [each.position for each in receiver.got] == positions


async def test_the_lease_of_a_server_that_ended_is_taken_over(
    site: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = await add(site, receiver)
    monkeypatch.setattr(stored, "LEASE_MS", 1_500)
    key = ("acme", webhook["id"])
    assert await stored.acquire(site.services.db, key, "a server that ended", is_alone=False)
    position = await report(site, "1.0.0")
    await asyncio.sleep(0.7)
    assert receiver.got == []
    assert (await receiver.until(1))[0].position == position


async def test_a_failed_turn_is_saved_once(
    site: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[WebhookProgress] = []
    save = stored.save

    async def counted(
        db: Database, webhook: stored.Webhook, progress: WebhookProgress, *args: Any, **more: Any
    ) -> Any:
        saves.append(progress)
        return await save(db, webhook, progress, *args, **more)

    monkeypatch.setattr(stored, "save", counted)
    receiver.answers = [(500, "no")] * 5
    webhook = await add(site, receiver)
    await report(site, "1.0.0")
    await receiver.until(1)
    await deliveries(site, webhook, 6)
    assert [each.is_over for each in saves][:1] == [True]
    assert [each.failures for each in saves if each.is_over] == [1], "the second turn continues"


async def test_a_bug_in_one_webhook_stops_no_other_and_is_shown(
    site: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = await add(site, receiver, types=["FirmwareInstalled"])
    broken = await add(site, receiver, description="broken")
    selected = messages.selected

    async def failing(db: Database, webhook: stored.Webhook, *args: Any, **more: Any) -> Any:
        assert webhook.description != "broken", "an order that no test foresaw"
        return await selected(db, webhook, *args, **more)

    monkeypatch.setattr(messages, "selected", failing)
    with capture_logs() as lines:
        position = await report(site, "1.0.0")
        assert [each.position for each in await receiver.until(1)] == [position]
        async with asyncio.timeout(PATIENCE_S):
            while (state := await shown(site, broken))["failures"] < 2:
                await asyncio.sleep(0.05)
    assert "bug of this server" in state["last_error"] and state["failing_since"]
    assert [line["webhook"] for line in lines if line["event"] == "bug"] == [broken["id"]]
    assert (await shown(site, well))["failures"] == 0
    assert (await site.call("GET", "/readyz")).status == 200
    monkeypatch.setattr(messages, "selected", selected)
    assert [each.position for each in await receiver.until(2)] == [position] * 2


async def test_the_metrics_say_since_when_an_event_waits(site: Site, receiver: Receiver) -> None:
    assert (await lags.read(site.services.db)).waiting_since_ms is None
    site.services.readiness.tasks["webhooks"].cancel()
    await site.services.deliverer.close()
    await add(site, receiver)
    position, _ = await report(site, "1.0.0"), await report(site, "1.0.1")
    waiting = (await lags.read(site.services.db)).waiting_since_ms
    assert waiting == await sizes.recorded_at_ms(site.services.db, site.log_id, position)
    text = (await site.call("GET", "/metrics")).body.decode()
    assert "firmtrail_webhooks_waiting_since_timestamp_seconds" in text


async def test_only_an_admin_sees_and_changes_webhooks(site: Site, receiver: Receiver) -> None:
    webhook = await add(site, receiver)
    paths = (f"{P}/webhooks", f"{P}/webhooks/{webhook['id']}")
    for caller in ("viewer", "operator", "auditor", "gateway"):
        for path in (*paths, f"{paths[1]}/deliveries"):
            assert (await site.get(path, caller)).status == 403
        answer = await site.call("PATCH", paths[1], caller=caller, json={"enabled": False})
        assert answer.status == 403
    assert (await site.get(paths[1], "stranger")).status == 404


async def test_of_two_changes_with_one_etag_only_one_is_made(
    site: Site, receiver: Receiver
) -> None:
    path = f"{P}/webhooks/{(await add(site, receiver, types=[]))['id']}"
    tag = {"If-Match": (await site.get(path)).headers["ETag"]}
    answers = await asyncio.gather(
        *(
            site.call("PATCH", path, caller="admin", json={"description": f"{n}"}, headers=tag)
            for n in range(8)
        )
    )
    assert sorted(each.status for each in answers) == [200, *[412] * 7]


async def test_the_etag_of_a_webhook_stays_while_it_sends_and_fails(
    site: Site, receiver: Receiver
) -> None:
    path = f"{P}/webhooks/{(await add(site, receiver))['id']}"
    tag = (await site.get(path)).headers["ETag"]
    receiver.answers = [(500, "no")] * 6
    await report(site, "1.0.0")
    await receiver.until(1)
    async with asyncio.timeout(PATIENCE_S):
        while (await site.get(path)).json["delivered_at"] is None:
            await asyncio.sleep(0.02)
    assert (await site.get(path)).headers["ETag"] == tag
    change = {"description": "new"}
    changed = await site.call("PATCH", path, caller="admin", json=change, headers={"If-Match": tag})
    assert changed.status == 200
    assert changed.headers["ETag"] == (await site.get(path)).headers["ETag"] != tag


async def test_a_refusal_does_not_say_which_address_a_name_has(site: Site) -> None:
    body = {"url": "https://localhost/hook"}
    answer = await site.call("POST", f"{P}/webhooks", caller="admin", json=body)
    assert (answer.status, answer.json["code"]) == (422, "target_refused")
    assert b"127.0.0.1" not in answer.body
    assert b"::1" not in answer.body


async def test_a_project_waits_for_few_receivers_at_one_time(
    site: Site, receiver: Receiver
) -> None:
    path = f"{P}/webhooks/{(await add(site, receiver, types=[]))['id']}/test"
    receiver.may_answer.clear()
    waiting = [
        asyncio.create_task(site.call("POST", path, caller="admin", json={})) for _ in range(4)
    ]
    await receiver.until_asked(4)
    refused = await site.call("POST", path, caller="admin", json={})
    assert (refused.status, refused.headers["Retry-After"]) == (429, "10")
    receiver.may_answer.set()
    assert {each.status for each in await asyncio.gather(*waiting)} == {200}
    assert (await site.call("POST", path, caller="admin", json={})).status == 200


async def test_two_tests_with_one_key_at_one_time_get_one_answer(
    site: Site, receiver: Receiver
) -> None:
    path = f"{P}/webhooks/{(await add(site, receiver, types=[]))['id']}/test"
    key = {"Idempotency-Key": "k"}
    receiver.may_answer.clear()
    both = [
        asyncio.create_task(site.call("POST", path, caller="admin", json={}, headers=key))
        for _ in range(2)
    ]
    await receiver.until_asked(2)
    receiver.may_answer.set()
    answers = await asyncio.gather(*both)
    assert answers[0].json == answers[1].json
