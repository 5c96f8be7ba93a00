"""`firmtrail webhook`: sends a project's events to receivers, and shows how far each is."""

from typing import Any, get_args

import click

from firmtrail.cli import output, reasons, remote
from firmtrail.cli.numbers import Whole
from firmtrail.cli.output import note
from firmtrail.projections.log_entries import EVENTS
from firmtrail.webhooks.messages import NoticeName

_ID = click.argument("webhook_id", metavar="ID")
_TYPES = click.option(
    "--type",
    "types",
    multiple=True,
    help="An event to send, such as FirmwareInstalled; repeatable. Without it, all are sent.",
)
_MODELS = click.option(
    "--model", "models", multiple=True, help="A model that events have to be about; repeatable."
)
_NOTICES = click.option(
    "--notice",
    "notices",
    multiple=True,
    type=click.Choice(get_args(NoticeName)),
    help="A notice to send; repeatable.",
)
_DESCRIPTION = click.option("--description", help="The purpose of the receiver.")


@click.group()
def webhook() -> None:
    """Send events to receivers: add, list, test and change them, send again."""


@webhook.command("add", epilog=f"The events are {', '.join(EVENTS)}.")
@click.argument("receiver", metavar="URL")
@remote.project_option
@_TYPES
@_MODELS
@_NOTICES
@click.option("--no-events", is_flag=True, help="Send only notices.")
@_DESCRIPTION
@remote.service_options
@output.json_option
def add(
    service: remote.Service,
    /,
    *,
    receiver: str,
    project: str,
    no_events: bool,
    json: bool,
    **members: Any,
) -> None:
    """Add a webhook, and print its id and the secret that signs. It is never shown again.

    Without --type, every event is sent that is recorded from now on.
    """
    reasons.name_members(url="URL")
    body = {"url": receiver, **_given(members)}
    if no_events:
        body["types"] = []
    added = service.ask("POST", remote.path(project, "webhooks"), body)
    output.show_secret(added, "id", "secret", json=json)
    _note_if_silent(added)


@webhook.command("list")
@remote.project_option
@remote.service_options
@output.json_option
def list_(service: remote.Service, /, *, project: str, json: bool) -> None:
    """List the webhooks of a project, and how far each is."""
    found = service.items(remote.path(project, "webhooks"))
    output.show_list(found if json else [_in_words(each) for each in found], json=json)


@webhook.command("show")
@_ID
@remote.project_option
@remote.service_options
@output.json_option
def show(service: remote.Service, /, *, webhook_id: str, project: str, json: bool) -> None:
    """Show a webhook, and how far it is."""
    found = service.ask("GET", remote.path(project, "webhooks", webhook_id))
    output.show(found if json else _in_words(found), json=json)


@webhook.command("change")
@_ID
@remote.project_option
@click.option("--to", metavar="URL", help="The new URL.")
@_TYPES
@_MODELS
@_NOTICES
@_DESCRIPTION
@click.option("--all-types", is_flag=True, help="Send every event again.")
@click.option("--all-models", is_flag=True, help="Send events about any model again.")
@click.option("--no-notices", is_flag=True, help="Send no notices.")
@click.option("--enable/--disable", "enabled", default=None, help="Continue, or send nothing.")
@remote.service_options
def change(
    service: remote.Service, /, *, webhook_id: str, project: str, to: str | None, **members: Any
) -> None:
    """Change a webhook, disable it, or enable it again: it continues where it stopped."""
    reasons.name_members(url="--to")
    cleared: dict[str, Any] = {} if to is None else {"url": to}
    if members.pop("all_types"):
        cleared["types"] = None
    if members.pop("all_models"):
        cleared["models"] = None
    if members.pop("no_notices"):
        cleared["notices"] = []
    body = {**_given(members), **cleared}
    if not body:
        raise click.UsageError("Say what to change: give at least one option.")
    changed = service.ask("PATCH", remote.path(project, "webhooks", webhook_id), body)
    note(f"Webhook {webhook_id} is changed.")
    _note_if_silent(changed)


@webhook.command("remove")
@_ID
@remote.project_option
@remote.service_options
def remove(service: remote.Service, /, *, webhook_id: str, project: str) -> None:
    """Remove a webhook and its deliveries."""
    service.ask("DELETE", remote.path(project, "webhooks", webhook_id))
    note(f"Webhook {webhook_id} is removed.")


@webhook.command("secret")
@_ID
@remote.project_option
@remote.service_options
@output.json_option
def secret(service: remote.Service, /, *, webhook_id: str, project: str, json: bool) -> None:
    """Make a new secret, and print it. The old one signs too for 24 hours."""
    path = remote.path(project, "webhooks", webhook_id, "secret")
    output.show_secret(service.ask("POST", path), "secret", json=json)


@webhook.command("test")
@_ID
@remote.project_option
@remote.service_options
@output.json_option
def test(service: remote.Service, /, *, webhook_id: str, project: str, json: bool) -> None:
    """Send a test to the receiver, and show its answer. Exits with 1 if it failed."""
    outcome = service.ask("POST", remote.path(project, "webhooks", webhook_id, "test"))
    output.show(outcome, json=json)
    if outcome["error"] is not None:
        click.get_current_context().exit(1)


@webhook.command("deliveries")
@_ID
@remote.project_option
@remote.service_options
@output.json_option
def deliveries(service: remote.Service, /, *, webhook_id: str, project: str, json: bool) -> None:
    """List the newest attempts to send to a webhook, the newest first."""
    path = remote.path(project, "webhooks", webhook_id, "deliveries")
    output.show_list(service.items(path), json=json)


@webhook.command("redeliver")
@_ID
@remote.project_option
@click.option("--from", "position", required=True, type=Whole(min=0), help="The first position.")
@remote.service_options
def redeliver(service: remote.Service, /, *, webhook_id: str, project: str, position: int) -> None:
    """Send everything from a position of the log on, again or for the first time."""
    reasons.name_members(**{"from": "--from"})
    path = remote.path(project, "webhooks", webhook_id, "redeliver")
    service.ask("POST", path, {"from": position})
    note(f"Webhook {webhook_id} is sent everything from position {position} on.")


def _in_words(webhook: Any) -> dict[str, Any]:
    """Returns a webhook that says in words whether it is sent all events or none."""
    types, models = webhook["types"], webhook["models"]
    return {
        **webhook,
        "types": "all events" if types is None else types or "no events",
        "models": "all models" if models is None else models,
        "notices": webhook["notices"] or "no notices",
    }


def _note_if_silent(webhook: Any) -> None:
    if webhook["types"] == [] and not webhook["notices"]:
        note(
            f"Webhook {webhook['id']} is sent nothing, because it names no event and no notice: "
            f"change it with `firmtrail webhook change {webhook['id']} --type EVENT`, --all-types "
            "or --notice NOTICE."
        )


def _given(members: dict[str, Any]) -> dict[str, Any]:
    """Returns the options that were given."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in members.items()
        if value not in {None, ()}
    }
