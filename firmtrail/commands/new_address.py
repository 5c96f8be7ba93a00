"""Checks the address at which a moved project is served, before requests are sent on to it."""

from firmtrail.webhooks.targets import url_of

CHARACTERS_MAX = 1_000


def check(address: str) -> None:
    """Raises `ValueError` with the reason if a path can't be put after this address, or if a client
    would read the result differently."""
    url = url_of(address, CHARACTERS_MAX)
    if set("@?#").intersection(address):
        raise ValueError("must not contain a user, a query or a fragment")
    if (normal := str(url).rstrip("/")) != address:
        raise ValueError(f"must be written as {normal}")
