"""Serves the webhooks of a project, for its admins: a URL may contain a secret.

The secret that signs is in one answer only: that of the request that made it.
"""

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from firmtrail.commands import webhooks as commands
from firmtrail.commands.once import CommandAnswer, allowed, keep, kept, recall
from firmtrail.commands.webhooks import WebhookTerms
from firmtrail.events.entry import types_named
from firmtrail.events.times import time_text
from firmtrail.eventstore import log
from firmtrail.http import lists, respond
from firmtrail.http.api.rows import (
    ADMINISTER,
    CONFLICT,
    DELETE,
    PATCH,
    POST,
    P,
    command,
    listing,
    resource,
)
from firmtrail.http.api.wire import StrictBody, TimeText, time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.faults import BrokenRule, raise_if_broken
from firmtrail.http.lists import ListPage, ListQuery, SortKey, page_of, text_before
from firmtrail.http.receivers import check_url, webhook_of
from firmtrail.http.scalars import Id, Name, Position
from firmtrail.projections.log_entries import unknown_type
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.webhooks import kept_deliveries, stored
from firmtrail.webhooks.kept_deliveries import DeliveryRow
from firmtrail.webhooks.messages import LogPlace, NoticeName
from firmtrail.webhooks.stored import DESCRIPTION_CHARACTERS_MAX, Webhook
from firmtrail.webhooks.targets import URL_CHARACTERS_MAX, target_of
from firmtrail.webhooks.worker import row_of

NAMES_MAX = 100
NUMBER_MAX = 2**53 - 1

type EventTypes = Annotated[tuple[str, ...], Meta(max_length=NAMES_MAX)]
type ModelNames = Annotated[tuple[Name, ...], Meta(max_length=NAMES_MAX)]
type NoticeNames = Annotated[tuple[NoticeName, ...], Meta(max_length=NAMES_MAX)]
type Description = Annotated[str, Meta(max_length=DESCRIPTION_CHARACTERS_MAX)]
type TargetUrl = Annotated[str, Meta(max_length=URL_CHARACTERS_MAX, description="an https URL")]


def _broken_url(url: str | UnsetType | None) -> BrokenRule | None:
    if isinstance(url, str):
        try:
            target_of(url)
        except ValueError as error:
            return "url", str(error)
    return None


def _broken_types(types: EventTypes | UnsetType | None) -> BrokenRule | None:
    unknown = [each for each in types or () if not types_named(each)]
    if unknown:
        return "types", unknown_type(unknown[0])
    return None


class WantedWebhook(StrictBody, frozen=True, kw_only=True):
    """Names a receiver, and what it is sent. Without `types` it is sent every event, and without
    `models` events about any model or none; `notices` are sent in addition."""

    url: TargetUrl
    types: EventTypes | None = None
    models: ModelNames | None = None
    notices: NoticeNames = ()
    description: Description = ""

    def __post_init__(self) -> None:
        raise_if_broken(_broken_url(self.url), _broken_types(self.types))


class WebhookChange(StrictBody, frozen=True, kw_only=True):
    """Names what changes. A webhook that is enabled again continues where it stopped."""

    url: TargetUrl | UnsetType = UNSET
    types: EventTypes | UnsetType | None = UNSET
    models: ModelNames | UnsetType | None = UNSET
    notices: NoticeNames | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        raise_if_broken(
            _broken_url(self.url), _broken_types(None if self.types is UNSET else self.types)
        )


class WantedRedelivery(StrictBody, frozen=True, kw_only=True):
    """Names the position in the project's newest log from which everything is sent."""

    from_: Position = msgspec.field(name="from")


class ShownWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a webhook; `secret` is shown once."""

    id: Id
    url: str
    types: tuple[str, ...] | None
    models: tuple[str, ...] | None
    notices: tuple[str, ...]
    description: str
    enabled: bool
    disabled_reason: Literal["gone", "failing"] | None
    """Why the service disabled it: the receiver answered 410, or failed for a day."""
    created_at: TimeText
    position: int
    """The next entry that it is sent."""
    delivered_at: TimeText | None
    failing_since: TimeText | None
    """Null: the last delivery succeeded."""
    failures: int
    next_attempt_at: TimeText | None
    """Null, unless a failed delivery is tried again."""
    last_error: str | None
    secret: str | UnsetType | None = UNSET


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Describes an attempt to send an event or a notice."""

    number: int
    message_id: str
    """The header webhook-id, which is the same for each attempt."""
    position: int | None
    type: str
    attempt: int
    at: TimeText
    duration_ms: int
    status: int | None
    """The status of the answer; null: there was none."""
    error: str | None
    """Null: the receiver has the message."""
    body_excerpt: str
    """At most 512 bytes of the answer's body."""


async def get_webhooks(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List the project's webhooks."""
    db, project = call.db, call.project

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        rows = await stored.page(db, project, after=text_before(place), limit=limit + 1)
        return page_of(rows, limit, lambda row: (row.webhook_id,), _shown)

    return await lists.answer(call, ShownWebhook, fetch)


async def post_webhook(call: Call[Any, WantedWebhook]) -> web.Response:
    """Add a webhook; the secret that signs its deliveries is shown only this once."""
    asked = call.body
    await check_url(call, asked.url)
    wanted = WebhookTerms(**msgspec.structs.asdict(asked))
    add = commands.add_webhook(wanted, actor=call.caller.actor)
    return await respond.run_once(call, _with_secret(201, add))


async def get_webhook(call: Call[Any, None]) -> web.Response:
    """Return a webhook, and how far it is."""
    return _resource(call, await webhook_of(call))


async def patch_webhook(call: Call[Any, WebhookChange]) -> web.Response:
    """Change a webhook, enable or disable it."""
    _check_match(call, await webhook_of(call))
    members = msgspec.structs.asdict(call.body).items()
    change = {name: value for name, value in members if value is not UNSET}
    if "url" in change:
        await check_url(call, change["url"])
    changed = commands.change_webhook(
        call.path("id"), change, actor=call.caller.actor, check=partial(_check_match, call)
    )
    return _resource(call, await call.services.recorder.act(call.log_id, changed))


async def delete_webhook(call: Call[Any, None]) -> web.Response:
    """Remove a webhook and its deliveries."""
    remove = commands.remove_webhook(call.path("id"), actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, remove)
    return respond.no_content()


async def post_webhook_secret(call: Call[Any, None]) -> web.Response:
    """Make a new secret, shown only this once; the old one signs too for a day."""
    renew = commands.renew_secret(call.path("id"), actor=call.caller.actor)
    return await respond.run_once(call, _with_secret(200, renew))


async def post_webhook_test(call: Call[Any, None]) -> web.Response:
    """Send a test to the receiver, and return what came of it."""
    webhook = await webhook_of(call)
    if (known := await kept(call.services.db, call.key)) is not None:
        return respond.json(known.status, known.body)
    row = await send_test(call, webhook)
    answer = await _kept_first(call, CommandAnswer(200, _delivery(row)))
    return respond.json(answer.status, answer.body)


async def send_test(call: AnyCall, webhook: Webhook) -> DeliveryRow:
    """Sends a test to the receiver of a webhook, and returns the attempt as it is kept."""
    now_ms = call.services.access.now_ms()
    head = await log.head(call.services.db, call.log_id)
    place, at = LogPlace(call.project, head.number), time_text(now_ms)
    members = {"subject": f"webhook/{webhook.webhook_id}", "time": at, "data": {}}
    message_id = f"notice_test_{call.request_id}"
    message = place.notice("test", message_id, None, members)
    with call.services.limits.receivers.enter(call.caller):
        outcome = await call.services.sender.send(webhook.url, message, webhook.keys(now_ms))
    key = call.project, webhook.webhook_id
    return await kept_deliveries.keep_test(call.services.db, key, row_of(message, outcome, 1))


async def _kept_first(call: AnyCall, answer: CommandAnswer) -> CommandAnswer:
    """Keeps the answer for the request's Idempotency-Key. Returns the one that a request with the
    same key has kept meanwhile, if any."""
    if call.key is None:
        return answer
    async with call.services.db.transaction() as tx:
        if (known := await recall(tx, call.key)) is not None:
            return allowed(known)
        await keep(tx, call.key, answer)
    return answer


async def get_deliveries(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List the newest attempts to send to a webhook, the newest first."""
    db, key = call.db, (call.project, (await webhook_of(call)).webhook_id)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        before = int(place[0]) if place else NUMBER_MAX
        rows = await kept_deliveries.deliveries(db, key, before=before, limit=limit + 1)
        return page_of(rows, limit, lambda row: (row.number,), _delivery)

    count = partial(kept_deliveries.count_deliveries, db, key)
    return await lists.answer(call, Delivery, fetch, count, key_type=tuple[int])


async def post_redelivery(call: Call[Any, WantedRedelivery]) -> web.Response:
    """Send everything from a position of the log on, again or for the first time."""
    again = commands.redeliver(call.path("id"), call.body.from_)
    return await respond.run_once(call, _plain(again))


def _resource(call: AnyCall, webhook: Webhook) -> web.Response:
    shown = _shown(webhook)
    return respond.resource(call, shown, state=_state(shown))


def _check_match(call: AnyCall, webhook: Webhook) -> None:
    respond.check_match(call, _state(_shown(webhook)))


def _state(shown: ShownWebhook) -> ShownWebhook:
    """Returns what the ETag of a webhook covers: not how far it is. Otherwise nobody could change a
    webhook that sends or fails all the time."""
    return msgspec.structs.replace(
        shown,
        position=0,
        delivered_at=None,
        failing_since=None,
        failures=0,
        next_attempt_at=None,
        last_error=None,
    )


def _with_secret(status: int, made: LogCommand[Webhook]) -> LogCommand[CommandAnswer]:
    async def run(commit: Commit) -> CommandAnswer:
        webhook = await made(commit)
        shown = msgspec.structs.replace(_shown(webhook), secret=webhook.secret)
        return CommandAnswer(status, shown)

    return run


def _plain(made: LogCommand[Webhook]) -> LogCommand[CommandAnswer]:
    async def run(commit: Commit) -> CommandAnswer:
        return CommandAnswer(200, _shown(await made(commit)))

    return run


def _shown(row: Webhook) -> ShownWebhook:
    is_waiting = row.enabled and row.failures > 0
    return ShownWebhook(
        id=row.webhook_id,
        url=row.url,
        types=row.types,
        models=row.models,
        notices=row.notices,
        description=row.description,
        enabled=row.enabled,
        disabled_reason=row.disabled_reason,  # type: ignore[arg-type] # written by the worker
        created_at=time_text(row.created_at_ms),
        position=row.position,
        delivered_at=time_or_none(row.delivered_at_ms),
        failing_since=time_or_none(row.failing_since_ms),
        failures=row.failures,
        next_attempt_at=time_text(row.next_at_ms) if is_waiting else None,
        last_error=row.last_error,
    )


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery(
        number=row.number,
        message_id=row.message_id,
        position=row.position,
        type=row.type,
        attempt=row.attempt,
        at=time_text(row.at_ms),
        duration_ms=row.duration_ms,
        status=row.status,
        error=row.error,
        body_excerpt=row.excerpt,
    )


W = f"{P}/webhooks/{{id}}"

ROUTES = (
    listing(f"{P}/webhooks", get_webhooks, ADMINISTER, ShownWebhook),
    command(
        POST,
        f"{P}/webhooks",
        post_webhook,
        ADMINISTER,
        body=WantedWebhook,
        answers={201: ShownWebhook},
    ),
    resource(W, get_webhook, ADMINISTER, ShownWebhook),
    command(
        PATCH,
        W,
        patch_webhook,
        ADMINISTER,
        body=WebhookChange,
        answers={200: ShownWebhook},
        refusals=frozenset(),
        sends=("ETag",),
    ),
    command(DELETE, W, delete_webhook, ADMINISTER),
    command(POST, f"{W}/secret", post_webhook_secret, ADMINISTER, answers={200: ShownWebhook}),
    command(
        POST,
        f"{W}/test",
        post_webhook_test,
        ADMINISTER,
        answers={200: Delivery},
        refusals=CONFLICT,
    ),
    listing(f"{W}/deliveries", get_deliveries, ADMINISTER, Delivery),
    command(
        POST,
        f"{W}/redeliver",
        post_redelivery,
        ADMINISTER,
        body=WantedRedelivery,
        answers={200: ShownWebhook},
        refusals=CONFLICT,
    ),
)
