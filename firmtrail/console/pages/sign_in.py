"""Lets a person sign in and out. The session is in a cookie, see http/sessions.py.

A person that signs in gets a new session; one that the browser had before ends. Failed attempts are
counted as those of the API's login, and take the same work.
"""

from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from firmtrail.access import credentials, logins, sessions
from firmtrail.access.hashing import TooManyAttempts
from firmtrail.commands import demo
from firmtrail.console import render
from firmtrail.console.rows import CONSOLE, SIGNED_IN, action, page
from firmtrail.database.database import Unavailable
from firmtrail.http import errors
from firmtrail.http import sessions as cookies
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import PUBLIC
from firmtrail.http.errors import RequestInfo

MISSING = "Enter your e-mail address and your password."
WRONG = "The e-mail address or the password is wrong."
TOO_MANY = "There were too many attempts. Wait {seconds} s, and try again."
UNAVAILABLE = "The service cannot sign you in at the moment. Try again in {seconds} s."
USED = (
    "This link was used before, or is older than a minute. Make another one with "
    "`firmtrail console`."
)
NOT_PRIVATE = (
    "Your browser keeps no session for a server that it reaches over plain http, because others "
    "could read it on the way. Open this page over https."
)

DEMO = (demo.EMAIL, demo.PASSWORD)
"""The address and the password that open a server that shows the demo to anybody."""

type NextPage = Annotated[str, Meta(max_length=4_096, description="a page of the console")]
type Typed = Annotated[str, Meta(max_length=1_024)]


class SignInQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Names the page to show after the sign-in."""

    next: NextPage | None = None


class SignInForm(msgspec.Struct, frozen=True, kw_only=True):
    """Holds what a person typed, and the page to show then."""

    email: Typed = ""
    password: Typed = ""
    next: NextPage | None = None


class LinkQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the code of a link that signs its person in once."""

    code: Typed = ""


class LinkForm(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the code of a link."""

    code: Typed


type SignInCall = Call[Any, SignInForm]


async def get_sign_in(call: Call[SignInQuery, None]) -> web.Response:
    """Show the form to sign in."""
    return _form(call, HTTPStatus.OK, next_page=call.query.next)


async def post_sign_in(call: SignInCall) -> web.Response:
    """Sign in with an e-mail address and a password."""
    form = call.body
    if _is_overheard(call):
        return _refused(call, HTTPStatus.BAD_REQUEST, NOT_PRIVATE)
    if not (form.email and form.password):
        return _refused(call, HTTPStatus.UNPROCESSABLE_ENTITY, MISSING)
    try:
        actor_id = await call.services.access.login(form.email, form.password, address=call.address)
    except (TooManyAttempts, Unavailable) as error:
        return _not_now(call, error)
    if actor_id is None:
        return _refused(call, HTTPStatus.UNAUTHORIZED, WRONG)
    return await signed_in(call, actor_id, form.next)


async def get_link(call: Call[LinkQuery, None]) -> web.Response:
    """Show the button that signs in with a link. Reading the page uses no link up."""
    headers = {"Cache-Control": "no-store"}
    return render.page(
        call, "sign_in_link.html", title="Sign in", code=call.query.code, headers=headers
    )


async def post_link(call: Call[Any, LinkForm]) -> web.Response:
    """Sign in with a link, once."""
    access, code = call.services.access, call.body.code
    async with call.services.db.transaction() as tx:
        [found] = await tx.run(sessions.follow(code, access.now_ms()))
    if not found:
        await access.hasher.count_guess("user", call.address)
        return _form(call, HTTPStatus.UNAUTHORIZED, USED, next_page=None)
    [[actor_id]] = found
    return await signed_in(call, actor_id, None)


async def signed_in(call: AnyCall, actor_id: str, next_page: str | None) -> web.Response:
    """Begins a session of this person, and sends the browser to the page that it wanted."""
    request, clients, now_ms = call.request, call.services.clients, call.services.access.now_ms()
    text, before = credentials.new_session(), cookies.presented(request, clients)
    async with call.services.db.transaction() as tx:
        await tx.run(
            logins.forget_expired_logins(actor_id, now_ms),
            *([sessions.end(before)] if before else []),
            sessions.begin(actor_id, text, now_ms),
        )
    response = _sent_to(call, cookies.own_path(next_page))
    cookies.give(response, text, request, clients)
    return response


async def post_sign_out(call: Call[Any, Any]) -> web.Response:
    """End the session, on every server."""
    request, clients = call.request, call.services.clients
    async with call.services.db.transaction() as tx:
        await tx.run(sessions.end(cookies.presented(request, clients) or ""))
    response = _sent_to(call, cookies.SIGN_IN)
    cookies.take(response, request, clients)
    return response


def _is_overheard(call: AnyCall) -> bool:
    """Returns whether the browser says that it reached this page over plain http. It would not keep
    the cookie of a session."""
    page_of_form = call.request.headers.get(hdrs.ORIGIN, "")
    is_plain = cookies.is_plain(call.request, call.services.clients)
    return page_of_form.startswith("http://") and not is_plain


def _not_now(call: SignInCall, error: TooManyAttempts | Unavailable) -> web.Response:
    problem = errors.problem_of(error, RequestInfo(call.request_id, call.address))
    sentence = TOO_MANY if isinstance(error, TooManyAttempts) else UNAVAILABLE
    words = sentence.format(seconds=problem.headers["Retry-After"])
    return _refused(call, problem.status, words, problem.headers)


def refused_page(call: AnyCall, status: int, words: str) -> web.Response:
    """Returns the form with a sentence that says why a person was not signed in."""
    return _form(call, status, words, next_page=None)


def _refused(
    call: SignInCall, status: int, words: str, headers: dict[str, str] | None = None
) -> web.Response:
    form = call.body
    return _form(call, status, words, headers=headers, email=form.email, next_page=form.next)


def _form(
    call: AnyCall,
    status: int,
    words: str = "",
    *,
    next_page: str | None,
    email: str = "",
    headers: dict[str, str] | None = None,
) -> web.Response:
    next_page = cookies.own_path(next_page)
    return render.page(
        call,
        "sign_in.html",
        title="Sign in",
        status=status,
        headers=headers,
        words=words,
        email=email,
        provider=None if call.services.oidc is None else call.services.oidc.issuer,
        next_page="" if next_page == cookies.HOME else next_page,
        demo=DEMO if call.services.serving.is_demo else None,
    )


def _sent_to(call: AnyCall, path: str) -> web.Response:
    headers = {**render.HEADERS, "Cache-Control": "no-store", "Location": f"{call.prefix}{path}"}
    return web.Response(status=HTTPStatus.SEE_OTHER, headers=headers)


SIGN_IN = f"{CONSOLE}/sign-in"

ROUTES = (
    page(SIGN_IN, get_sign_in, PUBLIC, query=SignInQuery),
    action(SIGN_IN, post_sign_in, PUBLIC, form=SignInForm),
    page(cookies.FOLLOW_LINK, get_link, PUBLIC, query=LinkQuery),
    action(cookies.FOLLOW_LINK, post_link, PUBLIC, form=LinkForm),
    action(f"{CONSOLE}/sign-out", post_sign_out, SIGNED_IN),
)
