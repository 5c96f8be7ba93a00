"""`firmtrail device change`, `pin`, `retry`, `rotate`, `decommission` …: orders about a device."""

from collections.abc import Sequence
from typing import Any

import click

from firmtrail.cli import (
    device_reads,  # noqa: F401 (adds its commands)
    remote,
)
from firmtrail.cli.devices import device
from firmtrail.cli.numbers import Whole
from firmtrail.cli.output import note

_id = click.argument("device_id", metavar="ID")


@device.command("change")
@_id
@remote.in_project
@click.option("--model", help='The model; "" for none.')
@click.option("--cohort", help='The cohort; "" for none.')
@click.option("--tag", "tags", multiple=True, help="All of its tags; several times for several.")
@click.option("--no-tags", is_flag=True, help="Take all tags away.")
@remote.named
def change(
    service: remote.Service, /, *, device_id: str, project: str, no_tags: bool, **wish: Any
) -> None:
    """Change what is known of a device: its model, cohort and tags."""
    body = _members(**wish) | ({"tags": []} if no_tags else {})
    if not body:
        raise click.UsageError("Say what to change: --model, --cohort, --tag or --no-tags.")
    service.ask("PATCH", remote.path(project, "devices", device_id), body)
    note(f"Device {device_id} is changed.")


def _members(model: str | None, cohort: str | None, tags: Sequence[str]) -> dict[str, Any]:
    named = {"model": model, "cohort": cohort}
    body: dict[str, Any] = {name: text or None for name, text in named.items() if text is not None}
    return body | ({"tags": list(tags)} if tags else {})


@device.command("pin")
@_id
@click.argument("version")
@remote.in_project
@remote.named
def pin(service: remote.Service, /, *, device_id: str, version: str, project: str) -> None:
    """Keep a device on VERSION, whatever rollouts say."""
    service.ask("PATCH", remote.path(project, "devices", device_id), {"pinned": version})
    note(f"Device {device_id} is pinned to {version}.")


@device.command("unpin")
@_id
@remote.in_project
@remote.named
def unpin(service: remote.Service, /, *, device_id: str, project: str) -> None:
    """Let rollouts decide about a device again."""
    service.ask("PATCH", remote.path(project, "devices", device_id), {"pinned": None})
    note(f"Device {device_id} is not pinned.")


@device.command("retry")
@_id
@click.argument("version")
@remote.in_project
@remote.named
def retry(service: remote.Service, /, *, device_id: str, version: str, project: str) -> None:
    """Let a device try VERSION again after its attempts were exhausted."""
    service.ask("POST", remote.path(project, "devices", device_id, "retry"), {"version": version})
    note(f"Device {device_id} may try {version} again.")


@device.command("rotate")
@_id
@click.option(
    "--overlap-s",
    type=Whole(0, 30 * 86_400),
    default=0,
    help="For how many seconds the present secret stays valid.",
)
@remote.in_project
@remote.named
def rotate(service: remote.Service, /, *, device_id: str, overlap_s: int, project: str) -> None:
    """Give a device a new secret, and print it alone. It is shown only this once."""
    path = remote.path(project, "devices", device_id, "secret")
    click.echo(service.ask("POST", path, {"overlap_s": overlap_s})["secret"])


@device.command("decommission")
@_id
@remote.in_project
@remote.named
def decommission(service: remote.Service, /, *, device_id: str, project: str) -> None:
    """Take a device out of service: its secret is refused, its history stays."""
    service.ask("DELETE", remote.path(project, "devices", device_id))
    note(f"Device {device_id} is decommissioned.")


@device.command("restore")
@_id
@remote.in_project
@remote.named
def restore(service: remote.Service, /, *, device_id: str, project: str) -> None:
    """Bring a decommissioned device back, and print its new secret. It is shown only this once."""
    path = remote.path(project, "devices", device_id)
    changed = service.ask("PATCH", path, {"decommissioned": False})
    if secret := changed.get("secret"):
        click.echo(secret)
    else:
        note(f"Device {device_id} is not decommissioned; its secret stays as it is.")
