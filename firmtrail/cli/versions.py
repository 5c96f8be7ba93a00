"""`firmtrail versions`: how many devices run each version."""

import click

from firmtrail.cli import output, remote


@click.command()
@remote.in_project
@click.option("--as-of", help="What was known then: a time, or @N for the first N events.")
@remote.named
@output.json_option
def versions(service: remote.Service, /, *, project: str, as_of: str | None, json: bool) -> None:
    """Count the devices of each model that run each version, and their share of all devices."""
    found = service.items(remote.path(project, "versions"), {"as_of": as_of})
    if not json:
        found = [each | {"share": f"{each['share']:.1%}"} for each in found]
    output.show_list(found, json=json)
