"""Keeps webhooks and their positions. Holds all SQL of `webhooks` but that of `lags`.

A webhook's position is the next entry of a log that it was not sent. One process at a time sends a
webhook's messages: it has a lease, which ends `LEASE_MS` after it was last renewed. A person's
change raises the revision, and the process that has the lease then saves nothing more.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from firmtrail.database.database import Database, Reader, Row, Statement
from firmtrail.webhooks import kept_deliveries
from firmtrail.webhooks.kept_deliveries import DeliveryRow

LEASE_MS = 30_000

type Names = tuple[str, ...]


DESCRIPTION_CHARACTERS_MAX = 200


class Webhook(NamedTuple):
    """Holds a webhook, with its secrets. Its columns are those of `_COLUMNS`."""

    project: str
    webhook_id: str
    url: str
    types: Names | None
    models: Names | None
    notices: Names
    description: str
    enabled: bool
    disabled_reason: str | None
    secret: str
    old_secret: str | None
    old_secret_until_ms: int
    created_at_ms: int
    revision: int
    log_id: int
    position: int
    delivered_at_ms: int | None = None
    failing_since_ms: int | None = None
    failures: int = 0
    next_at_ms: int = 0
    last_error: str | None = None

    def keys(self, now_ms: int) -> list[str]:
        """Returns the secrets that sign at this time, the newest first."""
        if self.old_secret is None or self.old_secret_until_ms <= now_ms:
            return [self.secret]
        return [self.secret, self.old_secret]


class WebhookProgress(NamedTuple):
    """Says how far a webhook is, for `save`."""

    log_id: int
    position: int
    delivered_at_ms: int | None = None
    """None: nothing was delivered."""
    failures: int = 0
    """The number of failures since the last delivery."""
    error: str | None = None
    pause_ms: int = 0
    """The time until the next attempt."""
    is_over: bool = False
    """Whether the lease ends."""


class Saved(NamedTuple):
    """Says what `save` found."""

    deliveries: int
    failing_since_ms: int | None
    now_ms: int


_COLUMNS = """\
project, webhook_id, url, types, models, notices, description, enabled, disabled_reason, secret,
    old_secret, old_secret_until_ms, created_at_ms, revision, log_id, position, delivered_at_ms,
    failing_since_ms, failures, next_at_ms, last_error"""

_INSERT = """\
INSERT INTO webhooks (
    project, webhook_id, url, types, models, notices, description, enabled, secret, created_at_ms,
    revision, log_id, position)
VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9, 1, $10, $11)"""

_COUNT = "SELECT count(*) FROM webhooks WHERE project = $1"

_ONE = f"""\
SELECT {_COLUMNS}
FROM webhooks
WHERE project = $1 AND webhook_id = $2
LIMIT 1"""

_PAGE = f"""\
SELECT {_COLUMNS}
FROM webhooks
WHERE project = $1 AND webhook_id > $2
ORDER BY webhook_id
LIMIT $3"""

_BEGINNING_AGAIN = "failing_since_ms = NULL, failures = 0, next_at_ms = 0, last_error = NULL"

_REVISED = """\
revision = revision + 1, lease = NULL
WHERE project = $1 AND webhook_id = $2"""

_UPDATE = f"""\
UPDATE webhooks
SET url = $3,
    types = $4,
    models = $5,
    notices = $6,
    description = $7,
    enabled = $8,
    disabled_reason = $9,
    {_BEGINNING_AGAIN},
    {_REVISED}"""

_RENEW = f"""\
UPDATE webhooks
SET old_secret = secret,
    old_secret_until_ms = $4,
    secret = $3,
    {_REVISED}"""

_MOVE = f"""\
UPDATE webhooks
SET log_id = $3,
    position = $4,
    {_BEGINNING_AGAIN},
    {_REVISED}"""

_DISABLE = f"""\
UPDATE webhooks
SET enabled = 0,
    disabled_reason = $4,
    {_REVISED} AND revision = $3
RETURNING webhook_id"""

_REMOVE = "DELETE FROM webhooks WHERE project = $1 AND webhook_id = $2 RETURNING webhook_id"

_REMOVE_DELIVERIES = "DELETE FROM webhook_deliveries WHERE project = $1 AND webhook_id = $2"

_REMOVE_NOTICES = "DELETE FROM webhook_notices WHERE project = $1 AND webhook_id = $2"

_DUE = """\
SELECT webhooks.project, webhooks.webhook_id
FROM webhooks
JOIN log_heads ON log_heads.log_id = webhooks.log_id
JOIN projects ON projects.project = webhooks.project
JOIN log_heads AS newest ON newest.log_id = projects.log_id
WHERE webhooks.enabled = 1
    AND newest.closed = 0
    AND webhooks.next_at_ms <= (SELECT now_ms())
    AND (webhooks.position < log_heads.size
        OR log_heads.closed = 1
        OR EXISTS (
            SELECT 1
            FROM webhook_notices
            WHERE webhook_notices.project = webhooks.project
                AND webhook_notices.webhook_id = webhooks.webhook_id
                AND webhook_notices.delivered = 0))
ORDER BY webhooks.next_at_ms, webhooks.project, webhooks.webhook_id
LIMIT $1"""

_STAYS = """\
EXISTS (
        SELECT 1
        FROM projects
        JOIN log_heads AS newest ON newest.log_id = projects.log_id
        WHERE projects.project = webhooks.project AND newest.closed = 0)"""
"""Holds unless the project moves or has moved to another instance, which then sends."""

_ACQUIRE = f"""\
UPDATE webhooks
SET lease = $3,
    lease_until_ms = (SELECT now_ms()) + CAST($4 AS bigint)
WHERE project = $1
    AND webhook_id = $2
    AND enabled = 1
    AND next_at_ms <= (SELECT now_ms())
    AND (lease IS NULL
        OR lease = $3
        OR lease_until_ms <= (SELECT now_ms())
        OR CAST($5 AS bigint) = 1)
    AND {_STAYS}
RETURNING {_COLUMNS}"""

_SAVE = f"""\
UPDATE webhooks
SET log_id = $5,
    position = $6,
    delivered_at_ms = coalesce(CAST($7 AS bigint), delivered_at_ms),
    failures = $8,
    last_error = CASE WHEN CAST($8 AS bigint) = 0 THEN NULL ELSE coalesce($9, last_error) END,
    failing_since_ms = CASE
        WHEN CAST($8 AS bigint) = 0 THEN NULL
        WHEN CAST($7 AS bigint) IS NULL THEN coalesce(failing_since_ms, (SELECT now_ms()))
        ELSE (SELECT now_ms())
    END,
    next_at_ms = (SELECT now_ms()) + CAST($10 AS bigint),
    deliveries = deliveries + CAST($11 AS bigint),
    lease = CASE WHEN CAST($12 AS bigint) = 1 THEN NULL ELSE lease END,
    lease_until_ms = (SELECT now_ms()) + CAST($13 AS bigint)
WHERE project = $1
    AND webhook_id = $2
    AND revision = $3
    AND lease = $4
    AND (lease_until_ms > (SELECT now_ms()) OR {_STAYS})
RETURNING deliveries, failing_since_ms, next_at_ms - CAST($10 AS bigint)"""

_SENDING = """\
SELECT 1
FROM webhooks
WHERE project = $1 AND lease IS NOT NULL AND lease_until_ms > (SELECT now_ms())
LIMIT 1"""

_DISABLED = """\
SELECT webhook_id, url, disabled_reason
FROM webhooks
WHERE project = $1 AND enabled = 0 AND disabled_reason IS NOT NULL
ORDER BY webhook_id
LIMIT 100"""


class DisabledWebhook(NamedTuple):
    """Names a webhook that the service disabled, and why: "gone" or "failing"."""

    webhook_id: str
    url: str
    reason: str


names_of = msgspec.json.Decoder(Names).decode


def _text_of(names: Names | None) -> str | None:
    return None if names is None else msgspec.json.encode(names).decode()


def _webhook(row: Row) -> Webhook:
    found = Webhook(*row)
    return found._replace(
        types=None if row[3] is None else names_of(row[3]),
        models=None if row[4] is None else names_of(row[4]),
        notices=names_of(row[5]),
        enabled=bool(found.enabled),
    )


def insert(added: Webhook) -> Statement:
    return Statement(
        _INSERT,
        (
            *(added.project, added.webhook_id, added.url),
            *(_text_of(added.types), _text_of(added.models), _text_of(added.notices)),
            *(added.description, added.secret, added.created_at_ms),
            *(added.log_id, added.position),
        ),
    )


def counting(project: str) -> Statement:
    """Gives the number of the project's webhooks."""
    return Statement(_COUNT, (project,))


def loading(project: str, webhook_id: str) -> Statement:
    """Reads a webhook; `one_of` takes the rows."""
    return Statement(_ONE, (project, webhook_id))


def one_of(rows: Sequence[Row]) -> Webhook | None:
    return _webhook(rows[0]) if rows else None


async def one(db: Reader, project: str, webhook_id: str) -> Webhook | None:
    return one_of(await db.read(loading(project, webhook_id)))


async def page(db: Reader, project: str, *, after: str, limit: int) -> list[Webhook]:
    return [_webhook(row) for row in await db.read(Statement(_PAGE, (project, after, limit)))]


def update(changed: Webhook) -> Statement:
    """Writes what a person may change, and forgets earlier failures."""
    return Statement(
        _UPDATE,
        (
            *(changed.project, changed.webhook_id, changed.url),
            *(_text_of(changed.types), _text_of(changed.models), _text_of(changed.notices)),
            *(changed.description, int(changed.enabled), changed.disabled_reason),
        ),
    )


def renew_secret(project: str, webhook_id: str, secret: str, old_until_ms: int) -> Statement:
    return Statement(_RENEW, (project, webhook_id, secret, old_until_ms))


def move(project: str, webhook_id: str, log_id: int, position: int) -> Statement:
    """Sends from this position of a log on, again or for the first time."""
    return Statement(_MOVE, (project, webhook_id, log_id, position))


def disable(webhook: Webhook, reason: str) -> Statement:
    """Disables the webhook; gives a row if nobody changed it meanwhile."""
    key = (webhook.project, webhook.webhook_id)
    return Statement(_DISABLE, (*key, webhook.revision, reason))


def remove(project: str, webhook_id: str) -> list[Statement]:
    """Deletes a webhook and its deliveries; the first gives a row if there was one."""
    texts = (_REMOVE, _REMOVE_DELIVERIES, _REMOVE_NOTICES)
    return [Statement(text, (project, webhook_id)) for text in texts]


async def due(db: Database, limit: int) -> list[tuple[str, str]]:
    """Returns (project, webhook id) of webhooks that have something to send now. Those that have
    waited longest come first. If a project is moved to another instance, that one sends."""
    return [(row[0], row[1]) for row in await db.read(Statement(_DUE, (limit,)))]


async def is_sending(db: Reader, project: str) -> bool:
    """Returns whether a process has the lease of one of the project's webhooks."""
    return bool(await db.read(Statement(_SENDING, (project,))))


async def disabled(db: Reader, project: str) -> list[DisabledWebhook]:
    """Returns the webhooks that the service disabled."""
    return [DisabledWebhook(*row) for row in await db.read(Statement(_DISABLED, (project,)))]


async def acquire(
    db: Database, key: tuple[str, str], process: str, *, is_alone: bool
) -> Webhook | None:
    """Gives the process the lease of a webhook; None: another process has it, nothing is due, or
    the project moves. A process that `is_alone` takes over the lease of one that ended."""
    async with db.transaction() as tx:
        [rows] = await tx.run(Statement(_ACQUIRE, (*key, process, LEASE_MS, int(is_alone))))
    return one_of(rows)


async def save(
    db: Database,
    webhook: Webhook,
    progress: WebhookProgress,
    tries: Sequence[DeliveryRow],
    *,
    process: str,
) -> Saved | None:
    """Moves a webhook's position, keeps its newest attempts, and renews or ends the lease. Returns
    None if the lease was lost, or a person changed the webhook: nothing was written. While the
    project moves, a lease that has ended is lost: the other instance may send already."""
    key = (webhook.project, webhook.webhook_id)
    args = (
        *(*key, webhook.revision, process, progress.log_id, progress.position),
        *(progress.delivered_at_ms, progress.failures, progress.error, progress.pause_ms),
        *(len(tries), int(progress.is_over), LEASE_MS),
    )
    async with db.transaction() as tx:
        [rows] = await tx.run(Statement(_SAVE, args))
        if not rows:
            return None
        saved = Saved(*rows[0])
        if tries:
            await tx.run(*kept_deliveries.keep(key, saved.deliveries, tries))
    return saved
