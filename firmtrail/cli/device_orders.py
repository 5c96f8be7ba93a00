"""`firmtrail device change`, `pin`, `retry`, `rotate`, `decommission` …: change one device."""

from collections.abc import Sequence
from typing import Any

import click

from firmtrail.cli import (
    device_reads,  # noqa: F401 (adds its commands)
    output,
    remote,
)
from firmtrail.cli.devices import device
from firmtrail.cli.numbers import Whole
from firmtrail.cli.output import note

_id = click.argument("device_id", metavar="ID")


@device.command("change")
@_id
@remote.project_option
@click.option("--model", help='The model; "" for none.')
@click.option("--cohort", help='The cohort; "" for none.')
@click.option(
    "--tag", "tags", multiple=True, help="A tag. Give the option once for each of its tags."
)
@click.option("--no-tags", is_flag=True, help="Remove all tags.")
@remote.service_options
def change(
    service: remote.Service, /, *, device_id: str, project: str, no_tags: bool, **changes: Any
) -> None:
    """Change a device's model, cohort or tags."""
    body = _members(**changes) | ({"tags": []} if no_tags else {})
    if not body:
        raise click.UsageError("Give what to change: --model, --cohort, --tag or --no-tags.")
    service.ask("PATCH", remote.path(project, "devices", device_id), body)
    note(f"Device {device_id} was changed.")


def _members(model: str | None, cohort: str | None, tags: Sequence[str]) -> dict[str, Any]:
    named = {"model": model, "cohort": cohort}
    body: dict[str, Any] = {name: text or None for name, text in named.items() if text is not None}
    return body | ({"tags": list(tags)} if tags else {})


@device.command("pin")
@_id
@click.argument("version")
@remote.project_option
@remote.service_options
def pin(service: remote.Service, /, *, device_id: str, version: str, project: str) -> None:
    """Keep a device on VERSION, regardless of rollouts."""
    service.ask("PATCH", remote.path(project, "devices", device_id), {"pinned": version})
    note(f"Device {device_id} is pinned to {version}.")


@device.command("unpin")
@_id
@remote.project_option
@remote.service_options
def unpin(service: remote.Service, /, *, device_id: str, project: str) -> None:
    """Let rollouts decide about a device again."""
    service.ask("PATCH", remote.path(project, "devices", device_id), {"pinned": None})
    note(f"Device {device_id} is not pinned.")


@device.command("retry")
@_id
@click.argument("version")
@remote.project_option
@remote.service_options
def retry(service: remote.Service, /, *, device_id: str, version: str, project: str) -> None:
    """Let a device try VERSION again after it exhausted its attempts."""
    service.ask("POST", remote.path(project, "devices", device_id, "retry"), {"version": version})
    note(f"Device {device_id} may try {version} again.")


@device.command("rotate")
@_id
@click.option(
    "--overlap-s",
    type=Whole(0, 30 * 86_400),
    default=0,
    help="How many seconds the present secret stays valid.",
)
@remote.project_option
@remote.service_options
@output.json_option
def rotate(
    service: remote.Service, /, *, device_id: str, overlap_s: int, project: str, json: bool
) -> None:
    """Give a device a new secret, and print only the secret. It is never shown again."""
    path = remote.path(project, "devices", device_id, "secret")
    output.show_secret(service.ask("POST", path, {"overlap_s": overlap_s}), "secret", json=json)


@device.command("decommission")
@_id
@remote.project_option
@remote.service_options
def decommission(service: remote.Service, /, *, device_id: str, project: str) -> None:
    """Take a device out of service: its secret is refused, and its history is kept."""
    service.ask("DELETE", remote.path(project, "devices", device_id))
    note(f"Device {device_id} is decommissioned.")


@device.command("restore")
@_id
@remote.project_option
@remote.service_options
@output.json_option
def restore(service: remote.Service, /, *, device_id: str, project: str, json: bool) -> None:
    """Bring a decommissioned device back, and print its new secret. It is never shown again."""
    path = remote.path(project, "devices", device_id)
    changed = service.ask("PATCH", path, {"decommissioned": False})
    if json or changed.get("secret"):
        output.show_secret(changed, "secret", json=json)
    else:
        note(f"Device {device_id} is not decommissioned; its secret stays as it is.")


@device.command("accept")
@_id
@click.option("--key", metavar="SHA256", help="Accept only this key of the device.")
@remote.project_option
@remote.service_options
def accept(service: remote.Service, /, *, device_id: str, key: str | None, project: str) -> None:
    """Accept a device that waits for it, and the key that waits for it."""
    body = {} if key is None else {"key": key}
    service.ask("POST", remote.path(project, "devices", device_id, "accept"), body)
    note(f"Device {device_id} is accepted.")


@device.command("reject")
@_id
@remote.project_option
@remote.service_options
def reject(service: remote.Service, /, *, device_id: str, project: str) -> None:
    """Decommission a device that waits, or refuse the key that waits for it."""
    path = remote.path(project, "devices", device_id, "reject")
    if service.ask("POST", path)["decommissioned"]:
        note(f"Device {device_id} was rejected, and is decommissioned.")
    else:
        note(f"The key that waited for device {device_id} was rejected.")
