"""Reads and writes the cookie of a person's session, and finds the person that a page is shown to.

The cookie has the prefix `__Host-`, so only this host can have set it, over TLS (RFC 6265bis,
4.1.3). A browser stores such a cookie only if it is Secure. A server on a person's own machine is
often reached over plain http; there the cookie has a plain name and is not Secure. Which of the two
a request may carry follows from the address that the browser asked for.

No route but those of pages reads this cookie.
"""

import ipaddress
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import quote

import msgspec
from aiohttp import web
from yarl import URL

from firmtrail.access import roles, sessions
from firmtrail.access.lookup import Access
from firmtrail.http import origin
from firmtrail.http.callers import Caller, PageAccess
from firmtrail.http.clients import Clients
from firmtrail.http.errors import Forbidden, FragmentSignIn, NotFound, SignIn

COOKIE = "firmtrail-session"
SECURE_COOKIE = f"__Host-{COOKIE}"

BEGUN = "firmtrail-sign-in"
BEGUN_S = 600
"""How long a browser keeps a sign-in that has begun at a provider."""

SIGN_IN = "/console/sign-in"
FOLLOW_LINK = f"{SIGN_IN}/link"
"""The page that a link to sign in leads to."""
HOME = "/console"

_OWN_PATH = re.compile(r"/console(?:[/?][!-\[\]-~]*)?")
"""A path of the console with its query: no host, no backslash, nothing that is not visible."""


class NotSignedIn(Exception):
    """Says why a provider's answer signs nobody in."""


def is_plain(request: web.Request, clients: Clients) -> bool:
    """Returns whether the browser reaches this server over http on its own machine."""
    return clients.scheme(request) == "http" and _is_loopback(clients.host(request))


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) else host
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def presented(request: web.Request, clients: Clients) -> str | None:
    """Returns the text of the session's cookie, if the request has one."""
    name = COOKIE if is_plain(request, clients) else SECURE_COOKIE
    return request.cookies.get(name) or None


def check_origin(request: web.Request, clients: Clients) -> None:
    """Raises `Forbidden` if a page of another origin sends this request. With a session's cookie,
    the browser has to declare that a page of this service does."""
    if presented(request, clients) is None:
        origin.check_same_origin(request, clients)
    else:
        origin.check_own_page(request, clients)


def give(response: web.StreamResponse, text: str, request: web.Request, clients: Clients) -> None:
    """Adds the cookie of a session that begins. The server ends the session, so the cookie's own
    age is only that of the longest one."""
    plain = is_plain(request, clients)
    name = COOKIE if plain else SECURE_COOKIE
    _set(response, name, text, sessions.LIFETIME_MS // 1000, is_plain=plain)


def take(response: web.StreamResponse, request: web.Request, clients: Clients) -> None:
    """Makes the browser forget the cookie."""
    plain = is_plain(request, clients)
    _set(response, COOKIE if plain else SECURE_COOKIE, "", 0, is_plain=plain)


def begin[Kept: msgspec.Struct](
    response: web.StreamResponse, kept: Kept, request: web.Request, clients: Clients
) -> None:
    """Adds the cookie of a sign-in that has begun at a provider."""
    text = urlsafe_b64encode(msgspec.json.encode(kept)).decode()
    plain = is_plain(request, clients)
    name = BEGUN if plain else f"__Host-{BEGUN}"
    _set(response, name, text, BEGUN_S, is_plain=plain)


def begun[Kept: msgspec.Struct](
    request: web.Request, clients: Clients, kind: type[Kept]
) -> Kept | None:
    """Returns what `begin` kept in this browser, if it is there."""
    name = BEGUN if is_plain(request, clients) else f"__Host-{BEGUN}"
    try:
        return msgspec.json.decode(urlsafe_b64decode(request.cookies.get(name, "")), type=kind)
    except (ValueError, msgspec.MsgspecError):
        return None


def end_begun(response: web.StreamResponse, request: web.Request, clients: Clients) -> None:
    """Makes the browser forget the sign-in that had begun."""
    plain = is_plain(request, clients)
    _set(response, BEGUN if plain else f"__Host-{BEGUN}", "", 0, is_plain=plain)


def _set(response: web.StreamResponse, name: str, text: str, age_s: int, *, is_plain: bool) -> None:
    response.set_cookie(
        name,
        text,
        max_age=age_s,
        path="/",
        secure=not is_plain,
        httponly=True,
        samesite="Lax",
    )


def own_path(text: str | None) -> str:
    """Returns the path if it is one of the console, else the console's first page. So no link to
    the sign-in leads to another site."""
    return text if text is not None and _OWN_PATH.fullmatch(text) else HOME


async def caller_of(
    access: Access, clients: Clients, wanted: PageAccess, request: web.Request
) -> Caller:
    """Returns the person whose session this is. Raises `SignIn` without a living session,
    `NotFound` for a project of others, and `Forbidden` if the role does not allow the page."""
    text, project = presented(request, clients), request.match_info.get("project")
    address = clients.address(request)
    session = text and await access.session(text, project, address=address)
    if not session:
        raise _sign_in(request, clients)
    permissions = roles.NOTHING
    if wanted.permission is not None:
        if session.log_id is None or session.role is None:
            raise NotFound
        permissions = roles.PERMISSIONS[session.role]
        if wanted.permission not in permissions:
            raise Forbidden
    return Caller(
        kind="user",
        actor=f"user/{session.actor_id}",
        actor_id=session.actor_id,
        project=project,
        log_id=session.log_id,
        token_id=session.token_id,
        permissions=permissions,
        email=session.email,
    )


def _sign_in(request: web.Request, clients: Clients) -> SignIn | FragmentSignIn:
    is_fragment, prefix = "HX-Request" in request.headers, clients.prefix(request)
    page = own_path(_shown_page(request, prefix) if is_fragment else _wanted_page(request))
    location = f"{prefix}{SIGN_IN}" + ("" if page == HOME else f"?next={quote(page, safe='/')}")
    return FragmentSignIn(location) if is_fragment else SignIn(location)


def _wanted_page(request: web.Request) -> str | None:
    """Returns the page that is asked for. A command is not repeated after the sign-in."""
    return request.raw_path if request.method in {"GET", "HEAD"} else None


def _shown_page(request: web.Request, prefix: str) -> str | None:
    """Returns the page that htmx updates a part of."""
    try:
        shown = URL(request.headers.get("HX-Current-URL", ""), encoded=True)
    except ValueError:
        return None
    return shown.raw_path_qs.removeprefix(prefix)
