"""Handles what users call to let others in: logging in, projects, members, actors."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from aiohttp import web

from firmtrail.access import credentials, people, projects, settings, tokens
from firmtrail.commands import access as commands
from firmtrail.commands.accept_clock import accept_clock
from firmtrail.commands.continue_log import continue_log
from firmtrail.commands.erase_user import erase_user
from firmtrail.commands.once import Answer, keep, recall
from firmtrail.database.database import Transaction
from firmtrail.events.access import TokenIssued
from firmtrail.events.entry import decode
from firmtrail.events.event import Recorded
from firmtrail.events.fleet import SettingsChanged
from firmtrail.events.times import time_text
from firmtrail.eventstore import log
from firmtrail.eventstore.continued import Part
from firmtrail.http import access_bodies as bodies
from firmtrail.http import lists, respond, token_api
from firmtrail.http.answers import time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.endpoint import key_of
from firmtrail.http.errors import Conflict, Forbidden, NotFound, Unauthorized
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.http.logs import log_and_position, log_of, older_logs
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Command
from firmtrail.rules.settings import INITIAL, Settings

LOGIN_MS = 24 * 3600 * 1000


async def post_login(call: Call[Any, bodies.Login]) -> web.Response:
    """A token for an e-mail address and its password."""
    access = call.services.access
    actor_id = await access.login(call.body.email, call.body.password, address=call.address)
    if actor_id is None:
        raise Unauthorized
    # The body holds the password, of which no fast hash is to be kept; it is the right one.
    key = key_of(call.request, actor_id, people.normal(call.body.email).encode())
    async with call.services.db.transaction() as tx:
        answer = await recall(tx, key) if key else None
        if answer is None:
            answer = await _log_in(tx, actor_id, access.now_ms())
            if key:
                await keep(tx, key, answer)
    return respond.json(answer.status, answer.body, respond.NO_STORE)


async def _log_in(tx: Transaction, actor_id: str, now_ms: int) -> Answer:
    text, expires_at_ms = credentials.new_token(), now_ms + LOGIN_MS
    await tx.run(
        tokens.forget_expired_logins(actor_id, now_ms),
        tokens.insert_login(actor_id, text, now_ms, expires_at_ms),
    )
    return Answer(200, bodies.LoggedIn(text, time_text(expires_at_ms)))


async def get_projects(call: Call[ListQuery, None]) -> web.StreamResponse:
    """The projects that the caller is a member of; over an API token, the one that it is for."""
    db, actor_id = call.services.db, str(call.caller.actor_id)
    is_system, only = call.caller.kind == "system", (await token_api.scope_of(call)).project

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        after = token_api.after(place)
        if is_system:
            rows = await projects.page(db, after=after, limit=limit + 1)
        else:
            rows = await projects.page_of_member(db, actor_id, only, after=after, limit=limit + 1)
        next_place = lists.next_key(rows, limit, lambda row: (row.project,))
        return ListPage([_listed(row) for row in rows[:limit]], next_place)

    async def count() -> int:
        if is_system:
            return await projects.count(db)
        return await projects.count_of_member(db, actor_id, only)

    return await lists.answer(call, bodies.ListedProject, fetch, count)


_BY_OPERATOR = (
    "No project was created: on this server only its operator creates projects. Ask the operator "
    "to run `firmtrail project add`, or to serve with `--projects open`."
)


async def post_project(call: Call[Any, bodies.WantedProject]) -> web.Response:
    """Creates a project; its admin is the caller. An API token is for one project, not for more."""
    caller, project = call.caller, call.body.project
    if caller.kind != "system" and call.services.projects == "operator":
        raise Forbidden(_BY_OPERATOR)
    if (await token_api.scope_of(call)).project is not None:
        raise Forbidden
    answer = await commands.add_project(
        call.services.db,
        project,
        actor=caller.actor,
        creator=None if caller.kind == "system" else caller.actor_id,
        above=call.services.recorder.floors.number(project),
        key=call.key,
    )
    headers = {"Location": f"{call.prefix}/api/v1/projects/{project}"}
    return respond.json(answer.status, _project(project, INITIAL), headers)


async def get_project(call: Call[Any, None]) -> web.Response:
    """The project and its settings."""
    return respond.resource(call, await _current(call))


async def patch_project(call: Call[Any, bodies.SettingsChange]) -> web.Response:
    """Set the settings named; those that are so already stay unrecorded."""

    async def command(commit: Commit) -> None:
        before = await _current(call)  # the commit holds the head: nobody else changes them
        respond.check_match(call, before)
        members = {
            name: value
            for name, value in msgspec.structs.asdict(call.body).items()
            if value is not msgspec.UNSET and value != getattr(before, name)
        }
        if members:
            event = SettingsChanged(**members)
            await commands.change_settings(event, actor=call.caller.actor)(commit)

    await call.services.recorder.act(call.log_id, command)
    return respond.resource(call, await _current(call))


async def get_members(call: Call[ListQuery, None]) -> web.StreamResponse:
    """The members, by their ids."""
    db, project = call.services.db, call.project

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        rows = await people.members(db, project, after=token_api.after(place), limit=limit + 1)
        next_place = lists.next_key(rows, limit, lambda row: (row.actor_id,))
        return ListPage([_member(row) for row in rows[:limit]], next_place)

    async def count() -> int:
        return await people.members_count(db, project)

    return await lists.answer(call, bodies.Member, fetch, count)


async def post_member(call: Call[Any, bodies.WantedMember]) -> web.Response:
    """A new member, or another role for a present one."""
    wanted = call.body
    if call.key is not None and (user := await people.by_email(call.services.db, wanted.email)):
        call.key = call.key._replace(about=user.actor_id)
    set_member = commands.set_member(wanted.email, wanted.role, actor=call.caller.actor)
    return await respond.run_once(call, _told(set_member))


async def delete_member(call: Call[Any, None]) -> web.Response:
    """End a membership."""
    remove = commands.remove_member(call.path("id"), actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, remove)
    return respond.no_content()


async def delete_text(call: Call[Any, None]) -> web.Response:
    """Erase the free text beside an event, of the newest log or of an older one."""
    head = await log.head(call.services.db, await log_of(call))
    position = int(call.path("position") or -1)
    erase = commands.erase_text(head, position, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, erase)
    await call.services.db.scrub()
    return respond.no_content()


async def get_actor(call: Call[Any, None]) -> web.Response:
    """Who an actor id of this project's log is."""
    actor_id = call.path("id")
    kind: Literal["user", "token"] = "token" if actor_id.startswith("t_") else "user"
    history = await _history(call, f"{kind}/{actor_id}")
    if not history:
        raise NotFound(f"The log names no actor {actor_id}.")
    old = await older_logs(call, (each.position for each in history))
    first = history[0].event
    holder = first.holder if isinstance(first, TokenIssued) else None
    user = await people.by_id(call.services.db, holder or actor_id)
    body = bodies.Actor(
        actor_id=actor_id,
        kind=kind,
        holder=holder,
        email=user.email if user else None,
        roles=[_role_since(each, old) for each in history],
        erased_at=time_or_none(user.erased_at_ms) if user else None,
    )
    return respond.resource(call, body)


async def post_local_user(call: Call[Any, bodies.LocalUser]) -> web.Response:
    """A member with a password: what only the operator of the service may set."""
    wanted = call.body
    password_hash = None
    if wanted.password is not None:
        password_hash = await call.services.access.hasher.hash("user", wanted.password, call.lane)
    set_member = commands.set_member(
        wanted.email, wanted.role, actor=call.caller.actor, password_hash=password_hash
    )
    return await respond.run_once(call, _told(set_member))


async def post_local_log(call: Call[Any, bodies.WantedLog]) -> web.Response:
    """Go on in a new log, where the one that is there is not what was published."""
    services, floors = call.services, call.services.recorder.floors
    head = await log.head(services.db, call.log_id)
    name = LogName(head.project, head.number)
    if services.publisher is not None:
        await services.publisher.check()
    if name not in floors.refused and not call.body.even_if_whole:
        raise Conflict("Nothing is known to be wrong with the log.", code="log_is_whole")
    last = services.publisher and await services.publisher.last(name)
    done = await continue_log(
        services.db,
        call.log_id,
        checkpoint=last.note if last else None,
        above=floors.number(head.project),
        actor=call.caller.actor,
    )
    floors.refused.pop(name, None)
    body = bodies.ContinuedLog(
        project=head.project, log=done.number, continues=done.old_number, size=done.size
    )
    return respond.json(201, body)


async def post_local_clock(call: AnyCall) -> web.Response:
    """Write to a log whose last event is ahead of the clock."""
    done = await accept_clock(call.services.db, call.log_id)
    body = bodies.AcceptedClock(
        project=call.project, log=done.number, recorded_at=time_text(done.recorded_at_ms)
    )
    return respond.json(200, body)


async def post_local_erasure(call: Call[Any, bodies.LocalErasure]) -> web.Response:
    """Erase a person."""
    services = call.services
    user = await people.by_email(services.db, call.body.email)
    if user is None:
        raise NotFound("No user has this e-mail address.")
    await erase_user(services.db, services.recorder, user.actor_id, actor=call.caller.actor)
    return respond.no_content()


async def _current(call: AnyCall) -> bodies.Project:
    current = await settings.current(call.services.db, call.log_id, call.project)
    return _project(call.project, current)


async def _history(call: AnyCall, stream: str) -> list[Recorded]:
    rows = await log.read_stream(call.services.db, call.log_id, stream)
    return [decode(position, text) for position, _, text in rows]


def _told(set_member: Command[commands.NewMember]) -> Command[Answer]:
    async def command(commit: Commit) -> Answer:
        done = await set_member(commit)
        return Answer(201 if done.is_new else 200, _member(done.member))

    return command


def _listed(row: projects.Project) -> bodies.ListedProject:
    return bodies.ListedProject(
        project=row.project, role=row.role, created_at=time_text(row.created_at_ms)
    )


def _project(project: str, current: Settings) -> bodies.Project:
    return bodies.Project(project=project, **msgspec.structs.asdict(current))


def _member(row: people.Member) -> bodies.Member:
    return bodies.Member(actor_id=row.actor_id, email=row.email, role=row.role)


def _role_since(recorded: Recorded, old: Sequence[Part]) -> bodies.RoleSince:
    role = getattr(recorded.event, "role", None)
    since = time_text(recorded.recorded_at_ms)
    number, position = log_and_position(old, recorded.position)
    return bodies.RoleSince(role=role, since=since, position=position, log=number)
