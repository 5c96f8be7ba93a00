"""Makes the commands on webhooks. Each runs inside one commit of the project's log: the row of the
webhook and the event that records the change are written together or not at all.
"""

from collections.abc import Callable

import msgspec
from msgspec import UNSET

from firmtrail.access import credentials
from firmtrail.events.webhooks import WebhookAdded, WebhookChanged, WebhookRemoved
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules.device import Refused
from firmtrail.webhooks import kept_notices, signature, stored
from firmtrail.webhooks.stored import Names, Webhook
from firmtrail.webhooks.targets import target_of

WEBHOOKS_MAX = 20
"""The most webhooks of a project."""


class WebhookTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Holds what a person sets of a new webhook."""

    url: str
    types: Names | None = None
    models: Names | None = None
    notices: Names = ()
    description: str = ""


type Change = dict[str, object]
"""The members of `WebhookTerms`, and `enabled`, that are set, by their names."""


def add_webhook(wanted: WebhookTerms, *, actor: str) -> LogCommand[Webhook]:
    """Adds a webhook; it is sent what is recorded after this commit."""

    async def command(commit: Commit) -> Webhook:
        project = commit.draft.project
        [[[count]]] = await commit.run(stored.counting(project))
        if count >= WEBHOOKS_MAX:
            detail = f"A project has at most {WEBHOOKS_MAX} webhooks. Remove one first."
            raise Refused("too_many_webhooks", detail)
        webhook_id = credentials.new_id("w")
        origin = target_of(wanted.url).origin
        event = WebhookAdded(origin, wanted.types, wanted.models, wanted.notices)
        commit.draft.record(f"webhook/{webhook_id}", event, actor=actor)
        added = Webhook(
            *(project, webhook_id, wanted.url, wanted.types, wanted.models, wanted.notices),
            *(wanted.description, True, None, signature.new_secret(), None, 0),
            *(commit.draft.now_ms, 1, commit.draft.log_id, commit.draft.size),
        )
        await commit.run(stored.insert(added))
        return added

    return command


def change_webhook(
    webhook_id: str, change: Change, *, actor: str, check: Callable[[Webhook], None]
) -> LogCommand[Webhook]:
    """Changes these members. One that has the value already is not recorded. `check` raises if the
    webhook, which nothing else changes meanwhile, is not in the state that the caller expects."""

    async def command(commit: Commit) -> Webhook:
        before = await _one(commit, webhook_id)
        check(before)
        members = {name: each for name, each in change.items() if each != getattr(before, name)}
        after = before._replace(**members)  # type: ignore[arg-type] # the names of its members
        if after.enabled:
            after = after._replace(disabled_reason=None)
        if members:
            await commit.run(stored.update(after))
            if event := _changed(members):
                commit.draft.record(f"webhook/{webhook_id}", event, actor=actor)
        return await _one(commit, webhook_id)

    return command


def _changed(members: Change) -> WebhookChanged | None:
    """Returns the event of a change; None: the log does not show it."""
    shown = {name: each for name, each in members.items() if name not in {"url", "description"}}
    target = target_of(str(members["url"])).origin if "url" in members else UNSET
    if not shown and target is UNSET:
        return None
    return WebhookChanged(target=target, **shown)  # type: ignore[arg-type] # the names of its members


def remove_webhook(webhook_id: str, *, actor: str) -> LogCommand[None]:
    """Removes a webhook and its deliveries."""

    async def command(commit: Commit) -> None:
        [found, *_] = await commit.run(*stored.remove(commit.draft.project, webhook_id))
        if not found:
            raise _missing()
        commit.draft.record(f"webhook/{webhook_id}", WebhookRemoved(), actor=actor)

    return command


def renew_secret(webhook_id: str, *, actor: str) -> LogCommand[Webhook]:
    """Gives a webhook a new secret; the old one signs too for `signature.OLD_SECRET_MS`."""

    async def command(commit: Commit) -> Webhook:
        await _one(commit, webhook_id)
        until_ms = commit.draft.now_ms + signature.OLD_SECRET_MS
        secret = signature.new_secret()
        project = commit.draft.project
        await commit.run(stored.renew_secret(project, webhook_id, secret, until_ms))
        event = WebhookChanged(rekeyed=True)
        commit.draft.record(f"webhook/{webhook_id}", event, actor=actor)
        return await _one(commit, webhook_id)

    return command


def redeliver(webhook_id: str, position: int) -> LogCommand[Webhook]:
    """Sends everything from this position of the log on; from the end of the log, nothing that was
    recorded or noticed before. Raises `Refused` for a position after the log's end."""

    async def command(commit: Commit) -> Webhook:
        await _one(commit, webhook_id)
        draft = commit.draft
        if position > draft.size:
            detail = f"is after the end of the log: the highest position is {draft.size}"
            raise Refused("invalid", detail, status=422, member="from")
        await commit.run(stored.move(draft.project, webhook_id, draft.log_id, position))
        if position == draft.size:
            await commit.run(kept_notices.skipping(draft.project, webhook_id))
        return await _one(commit, webhook_id)

    return command


async def _one(commit: Commit, webhook_id: str) -> Webhook:
    [rows] = await commit.run(stored.loading(commit.draft.project, webhook_id))
    found = stored.one_of(rows)
    if found is None:
        raise _missing()
    return found


def _missing() -> Refused:
    return Refused("not_found", "There is no such webhook.", 404)
