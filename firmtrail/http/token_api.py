"""Handles what users call about tokens and logins: list, issue and end them.

Callers see their own; an admin sees those of all members of a project.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from firmtrail.access import people, roles, tokens
from firmtrail.access.tokens import Login, MemberToken, Token
from firmtrail.commands import access as commands
from firmtrail.commands.once import answering
from firmtrail.events.times import time_text
from firmtrail.http import access_bodies as bodies
from firmtrail.http import lists, respond
from firmtrail.http.answers import time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import Fault, Forbidden, Invalid, NotFound
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.http.times import unix_ms
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Command

NO_LOGIN = "This credential is no login: DELETE /api/v1/tokens/{id} ends an API token."


async def get_tokens(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List the caller's API tokens; over an API token, those of its project."""
    db, actor_id = call.services.db, str(call.caller.actor_id)
    only = (await scope_of(call)).project

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        rows = await tokens.page(db, actor_id, only, after=after(place), limit=limit + 1)
        return _page(rows, limit, _token)

    async def count() -> int:
        return await tokens.count(db, actor_id, only)

    return await lists.answer(call, bodies.ApiToken, fetch, count)


async def post_token(call: Call[Any, bodies.WantedToken]) -> web.Response:
    """Issue an API token of the caller, for one project.

    A token that an API token issues expires no later than that token, and ends with it.
    """
    asked, caller = call.body, call.caller
    rights = await tokens.rights(call.services.db, str(caller.token_id), asked.project)
    log_id = await call.services.access.project(asked.project)
    if rights is None or log_id is None:
        raise NotFound
    if rights.member_role == "gateway":
        raise Forbidden
    wanted = commands.WantedToken(
        holder=str(caller.actor_id),
        name=asked.name,
        role=asked.role or rights.token_role or rights.member_role,
        expires_at_ms=_future_ms(call, asked.expires_at),
        issued_by=None if rights.token_role is None else caller.token_id,
    )
    issue = commands.issue_token(wanted, roles.effective(*rights), actor=caller.actor)
    return await respond.run_once(call, answering(201, _shown(issue)), log_id=log_id)


async def delete_token(call: Call[Any, None]) -> web.Response:
    """End a token of the caller; an API token ends only tokens that may do no more than itself."""
    caller, scope = call.caller, await scope_of(call)
    token = await tokens.one(call.services.db, str(caller.actor_id), scope.project, call.path("id"))
    if token is None:
        raise NotFound
    if scope.role and not roles.PERMISSIONS[token.role] <= roles.PERMISSIONS[scope.role]:
        raise Forbidden
    log_id = await call.services.access.project(token.project)
    if log_id is None:
        raise NotFound
    end = commands.revoke_token(token.token_id, actor=caller.actor)
    await call.services.recorder.act(log_id, end)
    return respond.no_content()


async def get_project_tokens(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List the living tokens of a project, and the logins of its members."""
    db, project, now_ms = call.services.db, call.project, call.services.access.now_ms()

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        begin = after(place)
        rows = await tokens.page_of_members(db, project, now_ms, after=begin, limit=limit + 1)
        return _page(rows, limit, _member_token)

    async def count() -> int:
        return await tokens.count_of_members(db, project, now_ms)

    return await lists.answer(call, bodies.HeldToken, fetch, count)


async def delete_project_token(call: Call[Any, None]) -> web.Response:
    """End a token of the project with those that it issued, or a login of a member."""
    end = commands.end_token(call.path("id"), actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, end)
    return respond.no_content()


async def post_logout(call: Call[Any, None]) -> web.Response:
    """End the login that the request came with."""
    caller = call.caller
    if caller.token_id is None or (await scope_of(call)).project is not None:
        raise Forbidden(NO_LOGIN)
    await _end_login(call, caller.token_id)
    return respond.no_content()


async def get_logins(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List the caller's logins that have not ended."""
    db, actor_id = call.services.db, str(call.caller.actor_id)
    now_ms = call.services.access.now_ms()

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        rows = await tokens.logins(db, actor_id, now_ms, after=after(place), limit=limit + 1)
        return _page(rows, limit, partial(_login, call))

    return await lists.answer(call, bodies.ListedLogin, fetch)


async def delete_login(call: Call[Any, None]) -> web.Response:
    """End one of the caller's logins; an API token ends none."""
    if (await scope_of(call)).project is not None:
        raise Forbidden(NO_LOGIN)
    if not await _end_login(call, call.path("id")):
        raise NotFound
    return respond.no_content()


async def _end_login(call: AnyCall, token_id: str) -> bool:
    async with call.services.db.transaction() as tx:
        [ended] = await tx.run(tokens.end_login(str(call.caller.actor_id), token_id))
    return bool(ended)


async def post_local_token(call: Call[Any, bodies.LocalToken]) -> web.Response:
    """Issue an API token for a member."""
    asked = call.body
    user = await people.by_email(call.services.db, asked.email)
    role = user and await people.role_of(call.services.db, call.project, user.actor_id)
    if user is None or role is None:
        raise NotFound("No member of the project has this e-mail address.")
    wanted = commands.WantedToken(
        holder=user.actor_id,
        name=asked.name,
        role=asked.role or role,
        expires_at_ms=_future_ms(call, asked.expires_at),
    )
    issue = commands.issue_token(wanted, roles.EVERYTHING, actor=call.caller.actor)
    return await respond.run_once(call, answering(201, _shown(issue)))


async def scope_of(call: AnyCall) -> tokens.Scope:
    """Return where the caller's token is good; a login's and the socket's scope is everything."""
    token_id = call.caller.token_id
    if token_id is None:
        return tokens.Scope(None, None)
    return await tokens.scope(call.services.db, token_id)


def after(place: SortKey | None) -> str:
    """Return the id or name where a page begins."""
    return str(place[0]) if place else ""


def _page[Row: (Token, Login, MemberToken)](
    rows: Sequence[Row], limit: int, show: Callable[[Row], msgspec.Struct]
) -> ListPage:
    end = lists.next_key(rows, limit, lambda row: (row.token_id,))
    return ListPage([show(row) for row in rows[:limit]], end)


def _shown(issue: Command[commands.NewToken]) -> Command[bodies.ApiToken]:
    async def command(commit: Commit) -> bodies.ApiToken:
        issued = await issue(commit)
        return msgspec.structs.replace(_token(issued.token), token=issued.text)

    return command


def _future_ms(call: AnyCall, moment: datetime | None) -> int | None:
    if moment is None:
        return None
    moment_ms = unix_ms(moment)
    if moment_ms <= call.services.access.now_ms():
        raise Invalid("It lies in the past.", faults=[Fault("lies in the past", "/expires_at")])
    return moment_ms


def _token(row: Token) -> bodies.ApiToken:
    return bodies.ApiToken(
        id=row.token_id,
        name=row.name,
        project=row.project,
        role=row.role,
        created_at=time_text(row.created_at_ms),
        expires_at=time_or_none(row.expires_at_ms),
        issued_by=row.issued_by,
    )


def _member_token(row: MemberToken) -> bodies.HeldToken:
    return bodies.HeldToken(
        id=row.token_id,
        kind="login" if row.role is None else "token",
        name=row.name,
        role=row.role,
        holder=row.actor_id,
        email=row.email,
        issued_by=row.issued_by,
        created_at=time_text(row.created_at_ms),
        expires_at=time_or_none(row.expires_at_ms),
    )


def _login(call: AnyCall, row: Login) -> bodies.ListedLogin:
    return bodies.ListedLogin(
        id=row.token_id,
        created_at=time_text(row.created_at_ms),
        expires_at=time_text(row.expires_at_ms),
        current=row.token_id == call.caller.token_id,
    )
