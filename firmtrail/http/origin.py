"""Refuses changes that pages of other sites ask for, and protects every answer in browsers.

A browser remembers the credential of HTTP Basic, and sends it also with requests that a page of
another site makes. Such a page cannot read the answer, because the browser keeps it from the page.
It must not be able to change anything either. Clients other than browsers send neither
Sec-Fetch-Site nor Origin.
"""

from typing import NamedTuple

from aiohttp import hdrs, web
from multidict import CIMultiDict, istr

from firmtrail.http.clients import Clients
from firmtrail.http.errors import Forbidden

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

PROTECTION = {istr("X-Content-Type-Options"): "nosniff", hdrs.SERVER: "firmtrail"}
"""Holds the headers of every answer. By default, aiohttp names its version and Python's."""

HSTS = "Strict-Transport-Security"
HSTS_YEAR = "max-age=31536000"

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class _Origin(NamedTuple):
    """Holds a scheme and a host; the host names its port unless that is the scheme's default."""

    scheme: str
    host: str


def _origin(scheme: str, host: str) -> _Origin:
    scheme = scheme.lower()
    return _Origin(scheme, host.lower().removesuffix(_DEFAULT_PORTS.get(scheme, ":")))


def check_same_origin(request: web.Request, clients: Clients) -> None:
    """Raises `Forbidden` if a browser sends this request for a page of another origin.

    If a browser declares the page to be same-origin, it is, whatever a proxy made of the Host.
    Browsers that do not declare this name the page's Origin. TLS may end at a proxy. A page over
    https therefore counts as this service's own if the service is reached over http, and never the
    other way round.
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


def check_own_page(request: web.Request, clients: Clients) -> None:
    """Raises `Forbidden` unless the browser declares that a page of this service sends the request.
    A cookie goes with it whatever page sends it, so nothing less will do. Browsers that do not
    declare this name the page's Origin with every request that changes something."""
    headers = request.headers
    site, page = headers.get("Sec-Fetch-Site"), headers.get(hdrs.ORIGIN)
    if site is None and page is not None and _is_own(page, _own(request, clients)):
        return
    if site != "same-origin":
        raise Forbidden("Only a page of this service may send this request.", code="cross_site")


def _own(request: web.Request, clients: Clients) -> _Origin:
    return _origin(clients.scheme(request), clients.host(request))


def _is_own(page: str, own: _Origin) -> bool:
    scheme, _, host = page.partition("://")
    seen = _origin(scheme, host)
    return seen.host == own.host and seen.scheme in {"https", own.scheme}


def protect(headers: CIMultiDict[str], scheme: str) -> None:
    """Adds the headers that every answer carries."""
    headers.update(PROTECTION)
    if scheme == "https":
        headers[HSTS] = HSTS_YEAR
