"""`firmtrail console`: opens the console in a browser, signed in."""

import webbrowser

import click

from firmtrail import config
from firmtrail.cli import local
from firmtrail.cli.output import note
from firmtrail.exits import CouldNotRun


@click.command()
@click.argument("email", required=False)
@click.option("--url", help="The address of the server; without it, the one that it listens on.")
@click.option("--no-browser", is_flag=True, help="Print the link instead of opening a browser.")
@click.pass_obj
def console(
    database: config.DatabaseUrl, /, *, email: str | None, url: str | None, no_browser: bool
) -> None:
    """Open the console in a browser, signed in as the person with this address.

    Without EMAIL: as the admin, if all projects have only one. The link works once, and for a
    minute.
    """
    link = local.post(database, "/local/links", {"email": email})
    server = url or link["server"]
    if server is None:
        raise CouldNotRun(
            "No server is running on this database. Start one with `firmtrail serve`, or name the "
            "address of a server with --url."
        )
    address = f"{server.rstrip('/')}{link['path']}"
    if not no_browser and _has_windows() and webbrowser.open(address):
        note(f"Opened the console for {link['email']}.")
    else:
        click.echo(address)


def _has_windows() -> bool:
    """Returns whether the default browser opens a window. A browser for terminals would take over
    this one."""
    try:
        return not isinstance(webbrowser.get(), webbrowser.GenericBrowser)
    except webbrowser.Error:
        return False
