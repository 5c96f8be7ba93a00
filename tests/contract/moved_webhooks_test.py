"""A webhook of a moved project gets the rest of the old log and what comes after it, and nothing of
another project."""

import math
from collections.abc import Sequence
from typing import override

import pytest
from structlog.testing import capture_logs

from firmtrail.access import projects
from firmtrail.commands.webhooks import WebhookTerms, add_webhook
from firmtrail.database.database import Database
from firmtrail.eventstore import log
from firmtrail.moving import arrival, rows
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.control import Control
from firmtrail.webhooks import stored, worker
from firmtrail.webhooks.notices import TimeNotices
from firmtrail.webhooks.sender import Message, Outcome, Sender
from firmtrail.webhooks.stored import Webhook
from firmtrail.webhooks.targets import AllowedTargets
from firmtrail.webhooks.worker import Sending, WebhookWorker
from tests.contract.moving import Move
from tests.databases import read, write
from tests.fleet import report
from tests.people import add_project, new_access


@pytest.fixture(autouse=True)
def turns_end_when_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "IDLE_S", 0.0)
    monkeypatch.setattr(worker, "TURN_S", math.inf)


class TakesAll(Sender):
    """Stands for a receiver that takes every message."""

    def __init__(self) -> None:
        super().__init__(AllowedTargets(()))
        self.got: list[Message] = []

    @override
    async def send(self, url: str, message: Message, keys: Sequence[str]) -> Outcome:
        self.got.append(message)
        return Outcome(1, 0, 200)


async def one_turn(db: Database, recorder: Recorder) -> tuple[list[Message], Webhook]:
    """Sends for the project's only webhook for one turn; returns the messages, and the webhook
    afterwards."""
    [found] = await stored.page(db, "acme", after="", limit=10)
    key = ("acme", found.webhook_id)
    acquired = await stored.acquire(db, key, "p", is_alone=True)
    assert acquired is not None
    sender = TakesAll()
    sending = Sending(db, recorder, sender, "p", lambda _: None, is_alone=True)
    await WebhookWorker(sending, acquired).run()
    after = await stored.one(db, *key)
    assert after is not None
    return sender.got, after


async def other_project(db: Database) -> int:
    access = new_access(db)
    log_id = await add_project(db, access, "victim")
    access.hasher.close()
    return log_id


async def test_a_webhook_on_a_log_that_the_project_has_not_moves_nowhere(move: Move) -> None:
    await rows.check_webhooks(move.source, "acme", await _ids(move))
    await write(move.source, "UPDATE webhooks SET log_id = 999")
    with pytest.raises(rows.OtherProjectsLog, match="log 999"):
        await rows.check_webhooks(move.source, "acme", await _ids(move))
    _, arriving = await move.arrive()
    with pytest.raises(rows.OtherProjectsLog, match="log 999"):
        await arrival.activate(move.target, arriving)
    assert await projects.newest_log(move.target, "acme") is None
    assert await read(move.target, "SELECT webhook_id FROM webhooks") == []


async def _ids(move: Move) -> set[int]:
    return {head.log_id for head in await log.logs(move.source, "acme", after=0, limit=10)}


async def test_a_webhook_gets_nothing_of_another_project(move: Move) -> None:
    victim = await other_project(move.source)
    await write(move.source, "UPDATE webhooks SET log_id = $1, position = 0", victim)
    got, webhook = await one_turn(move.source, move.recorder)
    assert got == []
    assert webhook.failures == 1
    assert "another project" in str(webhook.last_error)


@pytest.mark.parametrize("models", [None, '["mx"]'])
async def test_a_moved_webhook_gets_the_rest_of_the_old_log_and_then_the_new_one(
    move: Move, models: str | None
) -> None:
    first = min(await _ids(move))
    text = "UPDATE webhooks SET log_id = $1, position = $2, models = $3, next_at_ms = 0"
    await write(move.source, text, first, 0, models)
    sent, _ = await one_turn(move.source, move.recorder)
    assert {each.log for each in sent} == {1, 2}
    middle = sent[2].position
    await write(move.source, text, first, middle, models)
    _, arriving = await move.arrive()
    await arrival.activate(move.target, arriving)
    recorder = Recorder(move.target)
    await recorder.report(arriving.log_id, [report("1.0.0", device="d5", seq=78)])
    got, webhook = await one_turn(move.target, recorder)
    await recorder.close()
    assert (webhook.failures, webhook.last_error) == (0, None)
    assert webhook.log_id == arriving.log_id
    rest = [each for each in sent if each.log > 1 or (each.position or 0) >= (middle or 0)]
    assert got[: len(rest)] == rest
    last = arriving.end.head.number
    added = [(each.log, each.type.split(".")[1]) for each in got[len(rest) :]]
    if models is None:
        assert added == [
            *((last, name) for name in ("AccessRecordSealed", "ProjectMoveStarted")),
            *((last + 1, name) for name in ("LogContinued", "ProjectArrived", "FirmwareInstalled")),
        ]
    else:
        assert len(rest) < len(sent)
        assert added == [(last + 1, "FirmwareInstalled")]


LATER = "UPDATE webhooks SET position = 0, next_at_ms = 0"


async def test_nobody_begins_to_send_for_a_project_that_moves(move: Move) -> None:
    await write(move.source, LATER)
    [webhook] = await stored.page(move.source, "acme", after="", limit=10)
    await move.arrive()
    key = ("acme", webhook.webhook_id)
    assert await stored.acquire(move.source, key, "p", is_alone=True) is None


@pytest.mark.parametrize("has_ended", [False, True])
async def test_a_server_that_stood_still_during_a_move_sends_nothing_more(
    move: Move, monkeypatch: pytest.MonkeyPatch, *, has_ended: bool
) -> None:
    """Its lease has ended meanwhile, so the move did not wait for it."""
    monkeypatch.setattr(worker, "RENEW_S", 0.0)
    await write(move.source, LATER)
    [webhook] = await stored.page(move.source, "acme", after="", limit=10)
    key = ("acme", webhook.webhook_id)
    acquired = await stored.acquire(move.source, key, "p", is_alone=False)
    assert acquired is not None
    await move.arrive()
    if has_ended:
        await write(move.source, "UPDATE webhooks SET lease_until_ms = 0")
    assert await stored.is_sending(move.source, "acme") is not has_ended
    sender = TakesAll()
    sending = Sending(move.source, move.recorder, sender, "p", lambda _: None, is_alone=False)
    await WebhookWorker(sending, acquired).run()
    assert bool(sender.got) is not has_ended
    assert not await stored.is_sending(move.source, "acme")


TERMS = WebhookTerms(url="https://hooks.example.org/y", notices=("log_refused",))
KEPT = "SELECT project, type, body FROM webhook_notices ORDER BY project"


async def notified(move: Move) -> tuple[Recorder, dict[str, int]]:
    """Moves the project to a database with another one; both have a webhook that gets a notice
    each time that a log is refused, and both logs are refused."""
    await write(move.source, "UPDATE webhooks SET notices = $1", '["log_refused"]')
    victim = await other_project(move.target)
    _, arriving = await move.arrive()
    await arrival.activate(move.target, arriving)
    recorder = Recorder(move.target)
    await recorder.act(victim, add_webhook(TERMS, actor="system"))
    last = arriving.end.head.number
    for name in (LogName("acme", last + 1), LogName("victim", 1)):
        recorder.minimum_sizes.refused[name] = "a fault"
    return recorder, {"acme": arriving.log_id, "victim": victim}


async def test_notices_of_time_are_about_the_newest_log(move: Move) -> None:
    recorder, _ = await notified(move)
    with capture_logs() as lines:
        await TimeNotices(move.target, recorder).following.catch_up()
    assert lines == []
    kept = await read(move.target, KEPT)
    assert [(project, "a fault" in body) for project, _, body in kept] == [
        ("acme", True),
        ("victim", True),
    ]
    name = LogName("acme", move.recorder.minimum_sizes.highest_number("acme"))
    move.recorder.minimum_sizes.refused[name] = "a fault"
    await TimeNotices(move.source, move.recorder).following.catch_up()
    assert await read(move.source, KEPT) == []  # the other instance makes them
    await recorder.close()


async def test_an_error_of_one_project_keeps_no_other_from_its_notices(
    move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, log_ids = await notified(move)
    original = recorder.controls.at

    async def at(log_id: int, count: int) -> Control:
        if log_id == log_ids["acme"]:
            raise KeyError("a bug")
        return await original(log_id, count)

    monkeypatch.setattr(recorder.controls, "at", at)
    notices = TimeNotices(move.target, recorder)
    with capture_logs() as lines:
        for _ in range(2):
            await notices.following.catch_up()
    assert [(line["event"], line["project"]) for line in lines] == [("bug", "acme")]
    assert [project for project, _, _ in await read(move.target, KEPT)] == ["victim"]
    await recorder.close()
