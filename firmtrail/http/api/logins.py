"""Serves logins: log in and out, and list and end the caller's logins."""

from functools import partial
from typing import Any, Literal

import msgspec
from aiohttp import web

from firmtrail.access import credentials, logins, people, sessions
from firmtrail.commands.once import CommandAnswer, keep, recall
from firmtrail.database.database import Transaction
from firmtrail.events.times import time_text
from firmtrail.http import lists, respond
from firmtrail.http.api.rows import DELETE, POST, command, listing
from firmtrail.http.api.tokens import scope_of
from firmtrail.http.api.wire import StrictBody, TimeText, time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import LOCAL, PUBLIC, USER
from firmtrail.http.endpoint import key_of
from firmtrail.http.errors import Fault, Forbidden, Invalid, NotFound, Unauthorized
from firmtrail.http.lists import ListPage, ListQuery, SortKey, page_of, text_before
from firmtrail.http.scalars import Email, Id, Password
from firmtrail.http.sessions import FOLLOW_LINK

NO_LOGIN = "This credential is not a login: DELETE /api/v1/tokens/{id} ends an API token."


class Login(StrictBody, frozen=True, kw_only=True):
    """Names a user, with the password."""

    email: Email
    password: Password


class LoggedIn(msgspec.Struct, frozen=True):
    """Holds a token that acts as its user in every project; it is shown once."""

    token: str | None
    expires_at: TimeText


class ListedLogin(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a login of the caller; `current` marks the login that sends the request."""

    id: Id
    created_at: TimeText
    expires_at: TimeText
    kind: Literal["token", "console"]
    last_seen_at: TimeText | None
    """Null for a token, whose uses are not written."""
    current: bool


async def post_login(call: Call[Any, Login]) -> web.Response:
    """Log in: exchange an e-mail address and its password for a token."""
    access = call.services.access
    actor_id = await access.login(call.body.email, call.body.password, address=call.address)
    if actor_id is None:
        raise Unauthorized
    # The password is right. The key is made without it, since no fast hash of it may be stored.
    key = key_of(call.request, actor_id, people.normal(call.body.email).encode())
    async with call.services.db.transaction() as tx:
        answer = await recall(tx, key) if key else None
        if answer is None:
            answer = await _log_in(tx, actor_id, access.now_ms())
            if key:
                await keep(tx, key, answer)
    return respond.json(answer.status, answer.body, respond.NO_STORE)


async def _log_in(tx: Transaction, actor_id: str, now_ms: int) -> CommandAnswer:
    text = credentials.new_token()
    await tx.run(*logins.begin_login(actor_id, text, now_ms))
    return CommandAnswer(200, LoggedIn(text, time_text(now_ms + logins.LOGIN_MS)))


async def post_logout(call: Call[Any, None]) -> web.Response:
    """End the login that sends the request."""
    caller = call.caller
    if caller.token_id is None or (await scope_of(call)).project is not None:
        raise Forbidden(NO_LOGIN)
    await _end_login(call, caller.token_id)
    return respond.no_content()


async def get_logins(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List the caller's logins that have not ended."""
    db, actor_id = call.db, str(call.caller.actor_id)
    now_ms = call.services.access.now_ms()

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        rows = await logins.living(db, actor_id, now_ms, after=text_before(place), limit=limit + 1)
        return page_of(rows, limit, lambda row: (row.token_id,), partial(_login, call))

    return await lists.answer(call, ListedLogin, fetch)


async def delete_login(call: Call[Any, None]) -> web.Response:
    """End a login of the caller; an API token can't end one."""
    if (await scope_of(call)).project is not None:
        raise Forbidden(NO_LOGIN)
    if not await _end_login(call, call.path("id")):
        raise NotFound
    return respond.no_content()


async def _end_login(call: AnyCall, token_id: str) -> bool:
    async with call.services.db.transaction() as tx:
        [ended] = await tx.run(logins.end_login(str(call.caller.actor_id), token_id))
    return bool(ended)


def _login(call: AnyCall, row: logins.LoginSession) -> ListedLogin:
    return ListedLogin(
        id=row.token_id,
        created_at=time_text(row.created_at_ms),
        expires_at=time_text(row.expires_at_ms),
        kind="token" if row.used_at_ms is None else "console",
        last_seen_at=time_or_none(row.used_at_ms),
        current=row.token_id == call.caller.token_id,
    )


class WantedLink(StrictBody, frozen=True, kw_only=True):
    """Names the person to sign in; without it, the only admin of all projects."""

    email: Email | None = None


class SignInLink(msgspec.Struct, frozen=True):
    """Holds the path of a page that signs its person in, once, until `expires_at`."""

    path: str
    email: str
    expires_at: TimeText
    server: str | None
    """The address that the server listens on; None if it only answers commands."""


async def post_link(call: Call[Any, WantedLink]) -> web.Response:
    """Make a link that signs a person in to the console once."""
    db, now_ms = call.services.db, call.services.access.now_ms()
    user = await people.by_email(db, call.body.email or await _only_admin(call))
    if user is None or user.email is None:
        raise NotFound("No user has this e-mail address.")
    code = credentials.new_session()
    async with db.transaction() as tx:
        await tx.run(sessions.link(user.actor_id, code, now_ms))
    path = f"{FOLLOW_LINK}?code={code}"
    expires_at = time_text(now_ms + sessions.LINK_MS)
    server = next(iter(call.services.own_urls), None)
    link = SignInLink(path, user.email, expires_at, server)
    return respond.json(201, link, respond.NO_STORE)


async def _only_admin(call: AnyCall) -> str:
    found = await people.admins(call.services.db, 2)
    if len(found) == 1:
        return found[0]
    why = "there are several admins" if found else "there is no admin"
    reason = f"has to name the person to sign in: {why}"
    raise Invalid(f"/email: {reason}", faults=[Fault(reason, "/email")])


ROUTES = (
    command(
        POST,
        "/local/links",
        post_link,
        LOCAL,
        body=WantedLink,
        answers={201: SignInLink},
        refusals={404},
    ),
    command(
        POST,
        "/api/v1/login",
        post_login,
        PUBLIC,
        body=Login,
        answers={200: LoggedIn},
        refusals={401, 429, 503},
    ),
    command(POST, "/api/v1/logout", post_logout, USER, refusals=frozenset()),
    listing("/api/v1/logins", get_logins, USER, ListedLogin),
    command(DELETE, "/api/v1/logins/{id}", delete_login, USER, refusals={404}),
)
