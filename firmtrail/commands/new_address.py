"""Checks the address at which a moved project is served, before requests are sent on to it."""

import re

from yarl import URL

CHARACTERS_MAX = 1_000

_ODD = re.compile(r"[^!-~]|\\")


def check(address: str) -> None:
    """Raises `ValueError` with the reason if a path can't be put after this address, or if a client
    would read the result differently."""
    if len(address) > CHARACTERS_MAX or _ODD.search(address):
        raise ValueError(
            f"must have at most {CHARACTERS_MAX} visible ASCII characters without backslash"
        )
    try:
        url = URL(address)
    except ValueError:
        raise ValueError("is no URL") from None
    if url.scheme not in {"https", "http"} or not url.host or url.explicit_port == 0:
        raise ValueError("must be an http or https URL with a host, such as https://eu.example.com")
    if set("@?#").intersection(address):
        raise ValueError("must not contain a user, a query or a fragment")
    try:
        url.host.encode("idna")  # as a look-up does
    except UnicodeError:
        reason = "must name a host whose parts between the dots have 1 to 63 characters each"
        raise ValueError(reason) from None
    if (normal := str(url).rstrip("/")) != address:
        raise ValueError(f"must be written as {normal}")
