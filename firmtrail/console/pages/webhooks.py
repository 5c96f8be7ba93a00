"""Shows the webhooks of a project and their deliveries to its admins, and changes them.

A URL may contain a secret, so only admins see a webhook. The secret that signs its deliveries is
shown once. The API's own types and checks find what is wrong with a form.
"""

import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.commands import webhooks as commands
from firmtrail.commands.once import CommandAnswer
from firmtrail.commands.webhooks import WEBHOOKS_MAX, WebhookTerms
from firmtrail.console import confirm, render
from firmtrail.console.confirm import Confirmation, ConfirmationForm, FormField, FormKey
from firmtrail.console.filters import host
from firmtrail.console.rows import ADMINISTER, PROJECT, PageQuery, action, page
from firmtrail.eventstore import log
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import Invalid, invalid_parameter
from firmtrail.http.faults import faults_of
from firmtrail.http.receivers import webhook_of
from firmtrail.http.route import Route
from firmtrail.http.scalars import Position
from firmtrail.projections.log_entries import EVENTS
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.webhooks import kept_deliveries, stored
from firmtrail.webhooks.kept_deliveries import DeliveryRow
from firmtrail.webhooks.stored import Webhook

WEBHOOKS = f"{PROJECT}/settings/webhooks"
WEBHOOK = f"{WEBHOOKS}/{{id}}"

DELIVERIES_SHOWN_MAX = 20
NUMBER_MAX = 2**53 - 1

NOTICES = {
    "rollout_paused": "a rollout paused itself",
    "rollout_waiting": "a rollout waits for approval",
    "phase_began": "a phase of a plan began",
    "rollout_stuck": "a phase waits for a day after its time",
    "halted": "the project was halted",
    "device_silent": "a device is silent for too long",
    "log_refused": "the log takes no events",
}

type LongText = Annotated[str, Meta(max_length=8_000)]


class WebhookForm(FormKey, frozen=True, kw_only=True):
    """Describes a webhook that is added or changed."""

    url: LongText = ""
    description: LongText = ""
    events: Literal["all", "named", "none"] = "all"
    types: LongText = ""
    """Names of events, if `events` is "named"."""
    models: LongText = ""
    notices: list[str] = msgspec.field(default_factory=list)
    seen: str | None = None
    """The revision that the person saw."""


class StateForm(msgspec.Struct, frozen=True, kw_only=True):
    """Enables or disables a webhook."""

    enabled: Literal["true", "false"]


class RedeliveryForm(ConfirmationForm, frozen=True, kw_only=True):
    """Names the position from which everything is sent again."""

    position: Position | None = None


class WebhookQuery(PageQuery, frozen=True, kw_only=True):
    """Continues the deliveries before one, and says that something was just done."""

    before: Position | None = None
    done: Literal["saved", "tested"] | None = None


class WebhookResource(NamedTuple):
    """Holds what the API has of webhooks."""

    wanted: type[msgspec.Struct]
    """The body that adds a webhook."""
    check_url: Callable[[AnyCall, str], Awaitable[None]]
    """Raises `Invalid` if webhooks may not reach the URL."""
    send_test: Callable[[AnyCall, Webhook], Awaitable[DeliveryRow]]


def routes(resource: WebhookResource) -> tuple[Route, ...]:
    """Returns the routes of the pages, made from the resource of the API."""
    shown = _Pages(resource)
    conflicts = {409, 412}
    return (
        page(WEBHOOKS, get_webhooks, ADMINISTER),
        action(WEBHOOKS, shown.post_webhook, ADMINISTER, form=WebhookForm, refusals={409}),
        page(WEBHOOK, get_webhook, ADMINISTER, query=WebhookQuery),
        action(WEBHOOK, shown.post_change, ADMINISTER, form=WebhookForm, refusals=conflicts),
        action(f"{WEBHOOK}/test", shown.post_test, ADMINISTER),
        action(f"{WEBHOOK}/state", post_state, ADMINISTER, form=StateForm),
        page(f"{WEBHOOK}/secret", get_secret, ADMINISTER),
        action(f"{WEBHOOK}/secret", post_secret, ADMINISTER, form=ConfirmationForm, refusals={409}),
        page(f"{WEBHOOK}/redeliver", get_redelivery, ADMINISTER),
        action(
            f"{WEBHOOK}/redeliver",
            post_redelivery,
            ADMINISTER,
            form=RedeliveryForm,
            refusals={409},
        ),
        page(f"{WEBHOOK}/remove", get_removal, ADMINISTER),
        action(f"{WEBHOOK}/remove", post_removal, ADMINISTER, form=ConfirmationForm),
    )


async def get_webhooks(call: Call[PageQuery, None]) -> web.Response:
    """Show the webhooks of the project."""
    return await _listed(call, WebhookForm(), {})


async def _listed(call: AnyCall, form: WebhookForm, faults: dict[str, str]) -> web.Response:
    rows = await stored.page(call.db, call.project, after="", limit=WEBHOOKS_MAX)
    return render.page(
        call,
        "webhooks.html",
        title="Webhooks",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if faults else HTTPStatus.OK,
        webhooks=rows,
        most=WEBHOOKS_MAX,
        notices=NOTICES,
        event_names=EVENTS,
        form=form,
        faults=faults,
        key=confirm.new_key(),
    )


async def get_webhook(call: Call[WebhookQuery, None]) -> web.Response:
    """Show a webhook, and what was sent to it."""
    webhook = await webhook_of(call)
    return await _shown(call, webhook, _form_of(webhook), {}, before=call.query.before)


async def _shown(
    call: AnyCall,
    webhook: Webhook,
    form: WebhookForm,
    faults: dict[str, str],
    *,
    before: int | None = None,
) -> web.Response:
    db, key = call.db, (call.project, webhook.webhook_id)
    rows = await kept_deliveries.deliveries(
        db, key, before=NUMBER_MAX if before is None else before, limit=DELIVERIES_SHOWN_MAX + 1
    )
    head = await log.head(db, call.log_id)
    return render.page(
        call,
        "webhook.html",
        title="Webhook",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if faults else HTTPStatus.OK,
        webhook=webhook,
        waiting=max(0, head.size - webhook.position) if webhook.log_id == call.log_id else None,
        log_number=head.number,
        deliveries=rows[:DELIVERIES_SHOWN_MAX],
        next=rows[DELIVERIES_SHOWN_MAX - 1].number if len(rows) > DELIVERIES_SHOWN_MAX else None,
        notices=NOTICES,
        event_names=EVENTS,
        form=form,
        faults=faults,
        key=confirm.new_key(),
    )


def _form_of(webhook: Webhook) -> WebhookForm:
    """Returns the form that describes a webhook as it is."""
    events: Literal["all", "named", "none"] = "named" if webhook.types else "none"
    return WebhookForm(
        url=webhook.url,
        description=webhook.description,
        events="all" if webhook.types is None else events,
        types=", ".join(webhook.types or ()),
        models=", ".join(webhook.models or ()),
        notices=list(webhook.notices),
        seen=str(webhook.revision),
    )


def _body_of(form: WebhookForm) -> dict[str, Any]:
    """Returns the body of the API that the form describes."""
    types: list[str] | None = None
    if form.events != "all":
        types = _names(form.types) if form.events == "named" else []
    return {
        "url": form.url.strip(),
        "types": types,
        "models": _names(form.models) or None,
        "notices": form.notices,
        "description": form.description,
    }


def _names(text: str) -> list[str]:
    return [each for each in re.split(r"[\s,;]+", text) if each]


class _Pages:
    """Holds the handlers that need the resource of the API."""

    def __init__(self, resource: WebhookResource) -> None:
        self._resource = resource

    async def post_webhook(self, call: Call[Any, WebhookForm]) -> web.Response:
        """Add a webhook, and show its secret once."""
        terms, faults = await self._read(call)
        if terms is None:
            return await _listed(call, call.body, faults)
        add = commands.add_webhook(terms, actor=call.caller.actor)
        return await _with_secret(call, call.body.key, add)

    async def post_change(self, call: Call[Any, WebhookForm]) -> web.Response:
        """Change where a webhook sends, and what."""
        terms, faults = await self._read(call)
        if terms is None:
            return await _shown(call, await webhook_of(call), call.body, faults)
        form = ConfirmationForm(seen=call.body.seen)
        change = commands.change_webhook(
            call.path("id"),
            msgspec.structs.asdict(terms),
            actor=call.caller.actor,
            check=lambda before: confirm.check_seen(form, str(before.revision)),
        )

        async def command(commit: Commit) -> CommandAnswer:
            await change(commit)
            return CommandAnswer(200, {})

        await confirm.run(call, call.body.key, command)
        return render.redirect(call, "settings", "webhooks", call.path("id"), done="saved")

    async def post_test(self, call: Call[Any, None]) -> web.Response:
        """Send a test to the receiver of a webhook."""
        webhook = await webhook_of(call)
        await self._resource.send_test(call, webhook)
        return render.redirect(call, "settings", "webhooks", webhook.webhook_id, done="tested")

    async def _read(
        self, call: Call[Any, WebhookForm]
    ) -> tuple[WebhookTerms | None, dict[str, str]]:
        """Returns what the form asks for, or the faults by the fields' names."""
        body = _body_of(call.body)
        found = faults_of(body, self._resource.wanted)
        faults = {str(each.pointer).split("/")[1]: each.reason for each in found}
        if call.body.events == "named" and not body["types"]:
            faults.setdefault("types", "names no event")
        if not faults:
            try:
                await self._resource.check_url(call, body["url"])
            except Invalid as refused:
                faults = {"url": refused.detail}
        return (None, faults) if faults else (msgspec.convert(body, WebhookTerms), {})


async def _with_secret(call: AnyCall, key: str | None, made: LogCommand[Webhook]) -> web.Response:
    """Runs a command that makes a secret, and shows the secret; a form that is sent again shows
    none."""

    async def command(commit: Commit) -> CommandAnswer:
        webhook = await made(commit)
        return CommandAnswer(200, {"id": webhook.webhook_id, "secret": webhook.secret})

    body = await confirm.run(call, key, command)
    return render.secret(
        call, "webhook_secret.html", title="Webhook", webhook_id=body["id"], secret=body["secret"]
    )


async def post_state(call: Call[Any, StateForm]) -> web.Response:
    """Enable or disable a webhook."""
    change: commands.Change = {"enabled": call.body.enabled == "true"}
    changed = commands.change_webhook(
        call.path("id"), change, actor=call.caller.actor, check=lambda _: None
    )
    await call.services.recorder.act(call.log_id, changed)
    return render.redirect(call, "settings", "webhooks", call.path("id"))


def _asked(webhook: Webhook, title: str, lead: str, button: str) -> Confirmation:
    return Confirmation(
        title=f"{title} to {host(webhook.url)}",
        lead=lead,
        button=button,
        back=("settings", "webhooks", webhook.webhook_id),
        takes_reason=False,
        nav="settings",
    )


async def get_secret(call: Call[PageQuery, None]) -> web.Response:
    """Ask to confirm a new secret."""
    lead = "It is shown once. The old secret signs too for a day, so no delivery is refused."
    asked = _asked(await webhook_of(call), "New secret for the webhook", lead, "Make a new secret")
    return confirm.page(call, asked._replace(is_dangerous=False))


async def post_secret(call: Call[Any, ConfirmationForm]) -> web.Response:
    """Make a new secret for a webhook, and show it once."""
    renew = commands.renew_secret(call.path("id"), actor=call.caller.actor)
    return await _with_secret(call, call.body.key, renew)


async def get_redelivery(call: Call[PageQuery, None]) -> web.Response:
    """Ask from which position everything is sent again."""
    webhook, head = await webhook_of(call), await log.head(call.db, call.log_id)
    lead = (
        f"Everything from a position of the log on is sent, again or for the first time. The log "
        f"has {head.size} events; its end skips what was not sent yet."
    )
    asked = _asked(webhook, "Send again", lead, "Send again")
    field = FormField("position", "From this position", str(webhook.position), is_required=True)
    return confirm.page(call, asked._replace(is_dangerous=False, fields=[field]), size=head.size)


async def post_redelivery(call: Call[Any, RedeliveryForm]) -> web.Response:
    """Send everything from a position on."""
    position = call.body.position
    if position is None:
        raise invalid_parameter("position", "is missing")
    again = commands.redeliver(call.path("id"), position)

    async def command(commit: Commit) -> CommandAnswer:
        await again(commit)
        return CommandAnswer(200, {})

    await confirm.run(call, call.body.key, command)
    return render.redirect(call, "settings", "webhooks", call.path("id"))


async def get_removal(call: Call[PageQuery, None]) -> web.Response:
    """Ask to confirm the removal of a webhook."""
    lead = "Nothing more is sent to it, and its deliveries are deleted. The log keeps its changes."
    asked = _asked(await webhook_of(call), "Remove the webhook", lead, "Remove it")
    return confirm.page(call, asked)


async def post_removal(call: Call[Any, ConfirmationForm]) -> web.Response:
    """Remove a webhook."""
    remove = commands.remove_webhook(call.path("id"), actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, remove)
    return render.redirect(call, "settings", "webhooks")
