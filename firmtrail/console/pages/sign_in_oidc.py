"""Lets a person sign in at an OpenID Connect provider, and come back with a session.

What binds the two requests together (state, nonce, PKCE's verifier, and the page that the person
wanted) is in a cookie of the browser that began, for ten minutes. So nobody can complete a sign-in
that another browser began (RFC 9700, 4.7).
"""

import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.access import credentials, people
from firmtrail.console import render
from firmtrail.console.pages.sign_in import NextPage, refused_page, signed_in
from firmtrail.console.rows import page
from firmtrail.database.database import Unavailable
from firmtrail.http import sessions as cookies
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import PUBLIC
from firmtrail.http.errors import NotFound
from firmtrail.http.sessions import NotSignedIn

if TYPE_CHECKING:
    from firmtrail.http.oidc import OidcSignIn

BEGIN = f"{cookies.SIGN_IN}/oidc"
BACK = f"{BEGIN}/back"

AWAY = "The provider does not answer at the moment. Try again, or sign in with a password."
NOT_BEGUN = "This browser has not begun to sign in, or began too long ago. Begin again."
REFUSED = "The provider did not sign you in: {why}."
UNKNOWN = "Nobody here has the address {email}. Ask an admin of your project to add you."

type Answered = Annotated[str, Meta(max_length=4_096)]


class BeginQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Names the page to show after the sign-in."""

    next: NextPage | None = None


class BackQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Holds what the provider sends along with the browser. Further parameters are ignored, as RFC
    6749 (4.1.2) demands: each provider adds its own."""

    state: Answered = ""
    code: Answered = ""
    error: Answered = ""


class Begun(msgspec.Struct, frozen=True):
    """Holds what a browser keeps while its person is at the provider."""

    state: str
    nonce: str
    verifier: str
    next: str


async def get_begin(call: Call[BeginQuery, None]) -> web.Response:
    """Send the person to the provider."""
    oidc = _provider(call)
    begun = Begun(
        state=credentials.new_session(),
        nonce=credentials.new_session(),
        verifier=credentials.new_session(),
        next=cookies.own_path(call.query.next),
    )
    try:
        address = await oidc.address(
            _back(call), state=begun.state, nonce=begun.nonce, verifier=begun.verifier
        )
    except Unavailable:
        return refused_page(call, HTTPStatus.SERVICE_UNAVAILABLE, AWAY)
    headers = {**render.HEADERS, "Cache-Control": "no-store", "Location": address}
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers=headers)
    cookies.begin(response, begun, call.request, call.services.clients)
    return response


async def get_back(call: Call[BackQuery, None]) -> web.Response:
    """Sign in the person that the provider has sent back."""
    response = await _came_back(call, _provider(call))
    cookies.end_begun(response, call.request, call.services.clients)
    return response


async def _came_back(call: Call[BackQuery, None], oidc: "OidcSignIn") -> web.Response:
    begun = cookies.begun(call.request, call.services.clients, Begun)
    if begun is None or not hmac.compare_digest(begun.state.encode(), call.query.state.encode()):
        return refused_page(call, HTTPStatus.BAD_REQUEST, NOT_BEGUN)
    if call.query.error or not call.query.code:
        why = REFUSED.format(why=call.query.error or "it sent no code")
        return refused_page(call, HTTPStatus.UNAUTHORIZED, why)
    try:
        email = await oidc.email(
            call.query.code, _back(call), nonce=begun.nonce, verifier=begun.verifier
        )
    except Unavailable:
        return refused_page(call, HTTPStatus.SERVICE_UNAVAILABLE, AWAY)
    except NotSignedIn as error:
        return refused_page(call, HTTPStatus.UNAUTHORIZED, REFUSED.format(why=error))
    user = await people.by_email(call.services.db, email)
    if user is None:
        return refused_page(call, HTTPStatus.FORBIDDEN, UNKNOWN.format(email=email))
    return await signed_in(call, user.actor_id, begun.next)


def _provider(call: AnyCall) -> "OidcSignIn":
    if call.services.oidc is None:
        raise NotFound("People sign in with a password here.")
    return call.services.oidc


def _back(call: AnyCall) -> str:
    """Returns the address to which the provider sends the browser back."""
    clients, request = call.services.clients, call.request
    return f"{clients.scheme(request)}://{clients.host(request)}{call.prefix}{BACK}"


ROUTES = (
    page(BEGIN, get_begin, PUBLIC, query=BeginQuery, answers={303: None}),
    page(BACK, get_back, PUBLIC, query=BackQuery, takes_any_query=True, answers={303: None}),
)
