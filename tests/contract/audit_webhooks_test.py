"""Webhooks are compared with the log: whoever writes to the database adds no receiver unseen."""

import pytest

from firmtrail.access.lookup import Access
from firmtrail.commands import move_project, webhooks
from firmtrail.database.database import Database
from firmtrail.events.log import ProjectMoveStarted
from firmtrail.publishing.minimum_sizes import MinimumSizes
from firmtrail.recording.recorder import Recorder
from firmtrail.webhooks import lags
from tests.audits import wrong
from tests.databases import read, write
from tests.people import add_project, new_access

SECRET_PATH = "https://Hooks.example.org:8443?token=secret-path"
PLANTED = """
INSERT INTO webhooks (project, webhook_id, url, types, models, notices, description, enabled,
    secret, created_at_ms, revision, log_id, position)
SELECT project, 'w-planted', 'https://evil.example.org/x', NULL, NULL, '[]', '', 1,
    secret, 0, 1, log_id, 0
FROM webhooks
WHERE webhook_id = '{webhook}'"""


@pytest.fixture
async def webhook(db: Database, recorder: Recorder) -> str:
    """Makes a project with a webhook that was changed, disabled, enabled and given a new secret,
    and one that was removed; returns the id of the first."""
    access: Access = new_access(db)
    log_id = await add_project(db, access, "acme")
    access.hasher.close()
    wanted = webhooks.WebhookTerms(url="http://h.example.org/a", types=("ReportRecorded",))
    added = await recorder.act(log_id, webhooks.add_webhook(wanted, actor="system"))
    gone = await recorder.act(log_id, webhooks.add_webhook(wanted, actor="system"))
    await recorder.act(log_id, webhooks.remove_webhook(gone.webhook_id, actor="system"))
    changes: list[webhooks.Change] = [
        {"url": SECRET_PATH, "types": None, "models": ("m",), "notices": ("silent",)},
        {"enabled": False},
        {"enabled": True, "description": "new"},
    ]
    for change in changes:
        command = webhooks.change_webhook(
            added.webhook_id, change, actor="system", check=lambda _: None
        )
        await recorder.act(log_id, command)
    await recorder.act(log_id, webhooks.renew_secret(added.webhook_id, actor="system"))
    return added.webhook_id


async def test_what_commands_do_agrees_with_the_log(webhook: str, database_url: str) -> None:
    assert await wrong(database_url) == []


async def test_a_planted_webhook_is_found(webhook: str, database_url: str, db: Database) -> None:
    await write(db, PLANTED.format(webhook=webhook))
    [(where, what)] = await wrong(database_url)
    assert where == "webhooks (w-planted)"
    assert "https://evil.example.org" in what and "the log does not record it" in what


@pytest.mark.parametrize(
    "change",
    [
        "url = 'https://hooks.example.org/token'",
        "url = 'http://hooks.example.org:8443/'",
        "url = 'hooks.example.org:8443'",
        "url = 'https://hooks.example.org:8443@evil.example.org/'",
        "types = '[\"ReportRecorded\"]'",
        "types = 'x'",
        "models = NULL",
        "notices = '[]'",
        "enabled = 0",
    ],
)
async def test_a_changed_webhook_is_found(
    webhook: str, database_url: str, db: Database, change: str
) -> None:
    await write(db, f"UPDATE webhooks SET {change} WHERE webhook_id = '{webhook}'")
    [(where, what)] = await wrong(database_url)
    assert where == f"webhooks ({webhook})"
    assert "the log says" in what and "secret-path" not in what


async def test_a_removed_row_is_found(webhook: str, database_url: str, db: Database) -> None:
    await write(db, f"DELETE FROM webhooks WHERE webhook_id = '{webhook}'")
    [(where, what)] = await wrong(database_url)
    assert where == f"webhooks ({webhook})" and what.startswith("is missing")


async def test_a_webhook_of_a_project_that_moves_is_not_late_here(
    webhook: str, db: Database, recorder: Recorder
) -> None:
    [[log_id]] = await read(db, "SELECT log_id FROM projects")
    await write(db, "UPDATE webhooks SET failing_since_ms = 7, position = 0")
    failing = await lags.read(db)
    assert (failing.webhooks, failing.failing_since_ms) == (1, 7)
    assert failing.events > 0
    wanted = ProjectMoveStarted("eu", "https://eu.example")
    await move_project.start(db, recorder, log_id, wanted=wanted, actor="system")
    await move_project.finish(db, log_id)
    assert await lags.read(db) == lags.Lag(0, 0, 0, None, None)
    await move_project.undo(db, log_id, MinimumSizes(), "system")
    assert (await lags.read(db)).failing_since_ms == 7
