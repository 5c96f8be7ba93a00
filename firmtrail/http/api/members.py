"""Serves the members of a project, and the people and tokens that are the actors of its log."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from firmtrail.access import people
from firmtrail.access.roles import Role
from firmtrail.commands import access as commands
from firmtrail.commands.erase_user import erase_user
from firmtrail.commands.once import CommandAnswer
from firmtrail.events.access import TokenIssued
from firmtrail.events.entry import decode
from firmtrail.events.event import Recorded
from firmtrail.events.times import time_text
from firmtrail.eventstore import short_streams
from firmtrail.eventstore.lineage import Segment
from firmtrail.http import lists, respond
from firmtrail.http.api.rows import (
    ADMINISTER,
    DELETE,
    LOCAL_PROJECT,
    POST,
    READ,
    P,
    command,
    listing,
    resource,
)
from firmtrail.http.api.wire import StrictBody, TimeText, time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import LOCAL
from firmtrail.http.errors import NotFound
from firmtrail.http.lists import ListPage, ListQuery, SortKey, page_of, text_before
from firmtrail.http.logs import log_and_position, older_logs
from firmtrail.http.scalars import Email, Id, NewEmail, Password
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand


class WantedMember(StrictBody, frozen=True, kw_only=True):
    """Names the member to add, or the new role of a member."""

    email: NewEmail
    role: Role


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a member and its role."""

    actor_id: Id
    email: str | None
    role: Role


class RoleSince(msgspec.Struct, frozen=True, kw_only=True):
    """Names the role from a time on; null: the membership ended."""

    role: Role | None
    since: TimeText
    position: int
    log: int | UnsetType = UNSET
    """The log of `position`, if it is not the project's newest."""


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Describes what an actor id of the log stands for: a user, or a token and its holder."""

    actor_id: Id
    kind: Literal["user", "token"]
    holder: Id | None
    email: str | None
    roles: list[RoleSince]
    erased_at: TimeText | None


class LocalUser(StrictBody, frozen=True, kw_only=True):
    """Names a member; a password replaces the earlier one."""

    email: NewEmail
    role: Role
    password: Password | None = None


class LocalErasure(StrictBody, frozen=True, kw_only=True):
    """Names the person to erase."""

    email: Email


async def get_members(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List the members and their roles, by id."""
    db, project = call.db, call.project

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        rows = await people.members(db, project, after=text_before(place), limit=limit + 1)
        return page_of(rows, limit, lambda row: (row.actor_id,), _member)

    return await lists.answer(call, Member, fetch, partial(people.members_count, db, project))


async def post_member(call: Call[Any, WantedMember]) -> web.Response:
    """Add a member, or give a member another role."""
    wanted = call.body
    if call.key is not None and (user := await people.by_email(call.services.db, wanted.email)):
        call.key = call.key._replace(about=user.actor_id)
    set_member = commands.set_member(wanted.email, wanted.role, actor=call.caller.actor)
    return await respond.run_once(call, _answering(set_member))


async def delete_member(call: Call[Any, None]) -> web.Response:
    """End a membership, and its tokens."""
    remove = commands.remove_member(call.path("id"), actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, remove)
    return respond.no_content()


async def get_actor(call: Call[Any, None]) -> web.Response:
    """Return the person or token that an actor id of the log stands for."""
    actor_id = call.path("id")
    kind: Literal["user", "token"] = "token" if actor_id.startswith("t_") else "user"
    history = await _history(call, f"{kind}/{actor_id}")
    if not history:
        raise NotFound(f"The log names no actor {actor_id}.")
    old = await older_logs(call, (each.position for each in history))
    first = history[0].event
    holder = first.holder if isinstance(first, TokenIssued) else None
    user = await people.by_id(call.services.db, holder or actor_id)
    body = Actor(
        actor_id=actor_id,
        kind=kind,
        holder=holder,
        email=user.email if user else None,
        roles=[_role_since(each, old) for each in history],
        erased_at=time_or_none(user.erased_at_ms) if user else None,
    )
    return respond.resource(call, body)


async def post_local_user(call: Call[Any, LocalUser]) -> web.Response:
    """Add a member with a password, which only the operator of the service may set."""
    wanted = call.body
    password_hash = None
    if wanted.password is not None:
        password_hash = await call.services.access.hasher.hash("user", wanted.password, call.lane)
    set_member = commands.set_member(
        wanted.email, wanted.role, actor=call.caller.actor, password_hash=password_hash
    )
    return await respond.run_once(call, _answering(set_member))


async def post_local_erasure(call: Call[Any, LocalErasure]) -> web.Response:
    """Erase a person."""
    services = call.services
    user = await people.by_email(services.db, call.body.email)
    if user is None:
        raise NotFound("No user has this e-mail address.")
    await erase_user(services.db, services.recorder, user.actor_id, actor=call.caller.actor)
    return respond.no_content()


async def _history(call: AnyCall, stream: str) -> list[Recorded]:
    rows = await short_streams.read(call.db, call.log_id, stream)
    return [decode(position, text) for position, _, text in rows]


def _answering(set_member: LogCommand[commands.NewMember]) -> LogCommand[CommandAnswer]:
    async def command(commit: Commit) -> CommandAnswer:
        done = await set_member(commit)
        return CommandAnswer(201 if done.is_new else 200, _member(done.member))

    return command


def _member(row: people.Membership) -> Member:
    return Member(actor_id=row.actor_id, email=row.email, role=row.role)


def _role_since(recorded: Recorded, old: Sequence[Segment]) -> RoleSince:
    role = getattr(recorded.event, "role", None)
    since = time_text(recorded.recorded_at_ms)
    number, position = log_and_position(old, recorded.position)
    return RoleSince(role=role, since=since, position=position, log=number)


ROUTES = (
    listing(f"{P}/members", get_members, READ, Member),
    command(
        POST,
        f"{P}/members",
        post_member,
        ADMINISTER,
        body=WantedMember,
        answers={201: Member, 200: Member},
    ),
    command(DELETE, f"{P}/members/{{id}}", delete_member, ADMINISTER),
    resource(f"{P}/actors/{{id}}", get_actor, READ, Actor),
    command(
        POST,
        f"{LOCAL_PROJECT}/users",
        post_local_user,
        LOCAL,
        body=LocalUser,
        answers={201: Member, 200: Member},
        refusals={404, 409},
    ),
    command(POST, "/local/erasures", post_local_erasure, LOCAL, body=LocalErasure, refusals={404}),
)
