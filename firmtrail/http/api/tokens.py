"""Serves API tokens: list, issue and end them.

Callers see their own tokens; an admin sees those of all members of a project, and their logins.
"""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from firmtrail.access import people, roles, tokens
from firmtrail.access.roles import Role
from firmtrail.access.tokens import MemberToken, Token
from firmtrail.commands import access as commands
from firmtrail.commands.once import answering
from firmtrail.events.times import time_text, unix_ms
from firmtrail.http import lists, respond
from firmtrail.http.api.rows import ADMINISTER, DELETE, LOCAL_PROJECT, POST, P, command, listing
from firmtrail.http.api.wire import StrictBody, TimeText, outside_calendar, time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import LOCAL, USER
from firmtrail.http.errors import Fault, Forbidden, Invalid, NotFound
from firmtrail.http.faults import raise_if_broken
from firmtrail.http.lists import ListPage, ListQuery, SortKey, page_of, text_before
from firmtrail.http.scalars import Email, Id, Name, ProjectName
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand

REGISTERS_MAX = 10_000
"""How many devices a token registers at most, unless it is issued for another number."""

type TokenName = Annotated[str, Meta(max_length=64, pattern=r"^[^\x00-\x1f]*$(?!\n)")]

type TimeWithOffset = Annotated[datetime, Meta(tz=True)]


class TokenTerms(StrictBody, frozen=True, kw_only=True):
    """Holds the terms of an API token. With `registers`, which needs the role gateway, it registers
    the unknown devices that it names, as devices of `model`, and at most `registers_max`."""

    name: TokenName = ""
    role: Role | None = None
    expires_at: TimeWithOffset | None = None
    registers: bool = False
    model: Name | None = None
    registers_max: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None

    def __post_init__(self) -> None:
        faults = [outside_calendar("expires_at", self.expires_at)]
        if self.registers and self.role != "gateway":
            faults.append(("registers", 'needs the role "gateway"'))
        if not self.registers:
            named = {"model": self.model, "registers_max": self.registers_max}
            faults += [
                (name, "is only for a token that registers")
                for name, value in named.items()
                if value is not None
            ]
        raise_if_broken(*faults)


class WantedToken(TokenTerms, frozen=True, kw_only=True):
    """Names an API token to issue; without `role` it has the issuer's role."""

    project: ProjectName


class LocalToken(TokenTerms, frozen=True, kw_only=True):
    """Names an API token for a member; without `role` it has the member's role."""

    email: Email


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """Describes an API token; `token`, its text, is shown once."""

    id: Id
    name: str
    project: ProjectName
    role: Role
    created_at: TimeText
    expires_at: TimeText | None
    issued_by: Id | None
    """The API token that issued it, and with which it ends; null if a login issued it."""
    registers: bool
    """Whether it registers the unknown devices that it names."""
    model: Name | None
    registers_max: int | None
    registered: int
    """How many devices it has registered."""
    token: str | UnsetType | None = UNSET


class HeldToken(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a valid token of a project, or a login of one of its members, for an admin."""

    id: Id
    kind: Literal["token", "login"]
    name: str
    role: Role | None
    """Null for a login, which has its holder's role."""
    holder: Id
    email: str | None
    issued_by: Id | None
    created_at: TimeText
    expires_at: TimeText | None


async def get_tokens(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List the caller's API tokens; an API token lists those of its project."""
    db, actor_id = call.db, str(call.caller.actor_id)
    only = (await scope_of(call)).project

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        rows = await tokens.page(db, actor_id, only, after=text_before(place), limit=limit + 1)
        return page_of(rows, limit, lambda row: (row.token_id,), _token)

    return await lists.answer(call, ApiToken, fetch, partial(tokens.count, db, actor_id, only))


async def post_token(call: Call[Any, WantedToken]) -> web.Response:
    """Issue an API token of the caller for one project; it is shown only this once.

    A token that an API token issues expires no later than that token, and ends with it.
    """
    asked, caller = call.body, call.caller
    rights = await tokens.rights(call.services.db, str(caller.token_id), asked.project)
    log_id = await call.services.access.project(asked.project)
    if rights is None or log_id is None:
        raise NotFound
    if rights.member_role == "gateway":
        raise Forbidden
    wanted = commands.TokenRequest(
        holder=str(caller.actor_id),
        name=asked.name,
        role=asked.role or rights.token_role or rights.member_role,
        expires_at_ms=_future_ms(call, asked.expires_at),
        issued_by=None if rights.token_role is None else caller.token_id,
        registers_max=_registers_max(asked),
        model=asked.model,
    )
    issue = commands.issue_token(wanted, roles.effective(*rights), actor=caller.actor)
    return await respond.run_once(call, answering(201, _shown(issue)), log_id=log_id)


async def delete_token(call: Call[Any, None]) -> web.Response:
    """End an API token of the caller.

    An API token ends only tokens that may do no more than itself.
    """
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
    """List the project's valid tokens, and the logins of its members."""
    db, project, now_ms = call.db, call.project, call.services.access.now_ms()

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        after = text_before(place)
        rows = await tokens.page_of_members(db, project, now_ms, after=after, limit=limit + 1)
        return page_of(rows, limit, lambda row: (row.token_id,), _member_token)

    count = partial(tokens.count_of_members, db, project, now_ms)
    return await lists.answer(call, HeldToken, fetch, count)


async def delete_project_token(call: Call[Any, None]) -> web.Response:
    """End a token of the project with those that it issued, or a login of a member."""
    end = commands.end_token(call.path("id"), actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, end)
    return respond.no_content()


async def post_local_token(call: Call[Any, LocalToken]) -> web.Response:
    """Issue an API token for a member."""
    asked = call.body
    user = await people.by_email(call.services.db, asked.email)
    role = user and await people.role_of(call.services.db, call.project, user.actor_id)
    if user is None or role is None:
        raise NotFound("No member of the project has this e-mail address.")
    wanted = commands.TokenRequest(
        holder=user.actor_id,
        name=asked.name,
        role=asked.role or role,
        expires_at_ms=_future_ms(call, asked.expires_at),
        registers_max=_registers_max(asked),
        model=asked.model,
    )
    issue = commands.issue_token(wanted, roles.EVERYTHING, actor=call.caller.actor)
    return await respond.run_once(call, answering(201, _shown(issue)))


async def scope_of(call: AnyCall) -> tokens.Scope:
    """Returns where the caller's token is valid; a login and the local socket are valid
    everywhere."""
    token_id = call.caller.token_id
    if token_id is None:
        return tokens.Scope(None, None)
    return await tokens.scope(call.services.db, token_id)


def _shown(issue: LogCommand[commands.NewToken]) -> LogCommand[ApiToken]:
    async def command(commit: Commit) -> ApiToken:
        issued = await issue(commit)
        return msgspec.structs.replace(_token(issued.token), token=issued.text)

    return command


def _registers_max(asked: TokenTerms) -> int | None:
    return (asked.registers_max or REGISTERS_MAX) if asked.registers else None


def _future_ms(call: AnyCall, moment: datetime | None) -> int | None:
    if moment is None:
        return None
    moment_ms = unix_ms(moment)
    if moment_ms <= call.services.access.now_ms():
        raise Invalid(
            "The expiry lies in the past.", faults=[Fault("lies in the past", "/expires_at")]
        )
    return moment_ms


def _token(row: Token) -> ApiToken:
    return ApiToken(
        id=row.token_id,
        name=row.name,
        project=row.project,
        role=row.role,
        created_at=time_text(row.created_at_ms),
        expires_at=time_or_none(row.expires_at_ms),
        issued_by=row.issued_by,
        registers=row.registers,
        model=row.model,
        registers_max=row.registers_max,
        registered=row.registered,
    )


def _member_token(row: MemberToken) -> HeldToken:
    return HeldToken(
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


ROUTES = (
    listing("/api/v1/tokens", get_tokens, USER, ApiToken),
    command(
        POST,
        "/api/v1/tokens",
        post_token,
        USER,
        body=WantedToken,
        answers={201: ApiToken},
        refusals={404, 409},
    ),
    command(DELETE, "/api/v1/tokens/{id}", delete_token, USER, refusals={404, 409}),
    listing(f"{P}/tokens", get_project_tokens, ADMINISTER, HeldToken),
    command(DELETE, f"{P}/tokens/{{id}}", delete_project_token, ADMINISTER, refusals=frozenset()),
    command(
        POST,
        f"{LOCAL_PROJECT}/tokens",
        post_local_token,
        LOCAL,
        body=LocalToken,
        answers={201: ApiToken},
        refusals={403, 404},
    ),
)
