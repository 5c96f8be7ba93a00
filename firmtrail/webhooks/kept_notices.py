"""Keeps the notices that follow from time. Holds all SQL of `webhook_notices`."""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.database.database import Database, Given, Statement
from firmtrail.events.times import DAY_MS
from firmtrail.webhooks.sender import Message
from firmtrail.webhooks.stored import Names, names_of

KEPT_NOTICES_MS = 90 * DAY_MS


class WaitingNotice(NamedTuple):
    """Holds a notice that follows from time and was not delivered yet."""

    message_id: str
    type: str
    position: int
    body: str

    @classmethod
    def of(cls, message: Message) -> "WaitingNotice":
        """Returns the notice that keeps this message."""
        return cls(message.message_id, message.type, message.position or 0, message.body.decode())

    def message(self, log_number: int) -> Message:
        """Returns the message to send; the log's number is that of the project's newest log."""
        body = self.body.encode()
        return Message(self.message_id, self.type, self.position, log_number, body)


class NotifiedWebhook(NamedTuple):
    """Names a webhook that wants notices."""

    webhook_id: str
    project: str
    log_id: int
    """The project's newest log; the webhook may be at an earlier one."""
    notices: Names
    created_at_ms: int


_FORGET_NOTICES = """\
DELETE FROM webhook_notices
WHERE made_at_ms < (SELECT now_ms()) - CAST($1 AS bigint)"""

_NOTIFIED = """\
SELECT webhooks.webhook_id, webhooks.project, newest.log_id, webhooks.notices,
    webhooks.created_at_ms
FROM webhooks
JOIN projects ON projects.project = webhooks.project
JOIN log_heads AS newest ON newest.log_id = projects.log_id
WHERE webhooks.enabled = 1
    AND webhooks.notices <> '[]'
    AND newest.closed = 0
    AND (webhooks.project, webhooks.webhook_id) > ($1, $2)
ORDER BY webhooks.project, webhooks.webhook_id
LIMIT 1000"""

_ADD_NOTICE = """\
INSERT INTO webhook_notices (project, webhook_id, message_id, type, position, body, made_at_ms)
SELECT $1, given.webhook_id, given.message_id, given.type, given.position, given.body, $2
FROM given
WHERE TRUE
ON CONFLICT DO NOTHING"""

_WAITING_NOTICES = """\
SELECT message_id, type, position, body
FROM webhook_notices
WHERE project = $1 AND webhook_id = $2 AND delivered = 0
ORDER BY made_at_ms, message_id
LIMIT 100"""

_DELIVERED_NOTICE = """\
UPDATE webhook_notices
SET delivered = 1
WHERE project = $1 AND webhook_id = $2 AND message_id = $3"""

_SKIP_NOTICES = """\
UPDATE webhook_notices
SET delivered = 1
WHERE project = $1 AND webhook_id = $2 AND delivered = 0"""


async def notified(db: Database, after: tuple[str, str]) -> list[NotifiedWebhook]:
    """Returns a page of the webhooks that want notices, after this (project, webhook id). Those of
    projects that move or have moved to another instance are left out: that one makes them."""
    return [
        NotifiedWebhook(row[0], row[1], row[2], names_of(row[3]), row[4])
        for row in await db.read(Statement(_NOTIFIED, after))
    ]


async def add_notices(
    db: Database, project: str, now_ms: int, made: Sequence[tuple[str, WaitingNotice]]
) -> None:
    """Keeps notices for webhooks; those that were made before stay as they are."""
    rows = [(webhook_id, *notice) for webhook_id, notice in made]
    columns = "webhook_id text, message_id text, type text, position bigint, body text"
    async with db.transaction() as tx:
        await tx.run(Statement(_ADD_NOTICE, (project, now_ms), Given(columns, rows)))


async def waiting_notices(db: Database, key: tuple[str, str]) -> list[WaitingNotice]:
    return [WaitingNotice(*row) for row in await db.read(Statement(_WAITING_NOTICES, key))]


async def end_notice(db: Database, key: tuple[str, str], message_id: str) -> None:
    async with db.transaction() as tx:
        await tx.run(Statement(_DELIVERED_NOTICE, (*key, message_id)))


def skipping(project: str, webhook_id: str) -> Statement:
    """Ends the notices of a webhook that wait: they are never sent."""
    return Statement(_SKIP_NOTICES, (project, webhook_id))


async def forget(db: Database) -> None:
    """Deletes notices that are too old."""
    async with db.transaction() as tx:
        await tx.run(Statement(_FORGET_NOTICES, (KEPT_NOTICES_MS,)))
