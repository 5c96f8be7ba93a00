"""Says from where a browser sends a request, and what browsers have to know of every answer.

A browser remembers the credential of HTTP Basic, and sends it with requests that a page of another
site makes. Such a request may read nothing, as the browser keeps the answer from the page; it must
not change anything either. Other clients send neither Sec-Fetch-Site nor Origin.
"""

from typing import NamedTuple

from aiohttp import hdrs, web
from multidict import CIMultiDict

from firmtrail.http.clients import Clients
from firmtrail.http.errors import Forbidden

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

PROTECTION = {"X-Content-Type-Options": "nosniff", hdrs.SERVER: "firmtrail"}
"""Of every answer. aiohttp would name its version, and Python's."""

HSTS = "Strict-Transport-Security"
HSTS_YEAR = "max-age=31536000"

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class _Origin(NamedTuple):
    """A scheme, and a host with its port where that is not the scheme's own."""

    scheme: str
    host: str


def _origin(scheme: str, host: str) -> _Origin:
    scheme = scheme.lower()
    return _Origin(scheme, host.lower().removesuffix(_DEFAULT_PORTS.get(scheme, ":")))


def check_same_origin(request: web.Request, clients: Clients) -> None:
    """Raises `Forbidden` where a browser sends this for a page of another origin.

    A page that a browser calls same-origin is so, whatever a proxy made of the Host. Browsers that
    say nothing of that name the page's Origin. TLS may end at a proxy, so a page over https counts
    as our own where this service is reached over http, and never the other way round.
    """
    headers = request.headers
    site = headers.get("Sec-Fetch-Site")
    if site == "same-origin":
        return
    page = headers.get(hdrs.ORIGIN)
    if site in {None, "none"} and (page is None or _is_own(page, _own(request, clients))):
        return
    raise Forbidden(
        "A page of another site sent this request: only pages of this service may do so.",
        code="cross_site",
    )


def _own(request: web.Request, clients: Clients) -> _Origin:
    return _origin(clients.scheme(request), clients.host(request))


def _is_own(page: str, own: _Origin) -> bool:
    scheme, _, host = page.partition("://")
    seen = _origin(scheme, host)
    return seen.host == own.host and seen.scheme in {"https", own.scheme}


def protect(headers: CIMultiDict[str], scheme: str) -> None:
    """Adds to an answer's headers what every answer carries."""
    headers.update(PROTECTION)
    if scheme == "https":
        headers[HSTS] = HSTS_YEAR
