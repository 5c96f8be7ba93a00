"""`firmtrail versions`: counts the devices that run each version."""

import click

from firmtrail.cli import output, remote


@click.command()
@remote.project_option
@output.as_of_option
@remote.service_options
@output.json_option
def versions(service: remote.Service, /, *, project: str, as_of: str | None, json: bool) -> None:
    """Count the devices of each model that run each version, with their share of all devices."""
    found = service.items(remote.path(project, "versions"), {"as_of": as_of})
    if not json:
        found = [each | {"share": f"{each['share']:.1%}"} for each in found]
    output.show_list(found, json=json)
