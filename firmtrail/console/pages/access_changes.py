"""Changes who may do what: adds and removes members, issues and ends tokens, ends sessions."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.access import logins, people, tokens
from firmtrail.access.roles import Role
from firmtrail.commands import access as commands
from firmtrail.commands.once import CommandAnswer
from firmtrail.console import confirm, render
from firmtrail.console.confirm import Confirmation, ConfirmationForm, Figure
from firmtrail.console.pages.access import ACCESS
from firmtrail.console.rows import ADMINISTER, READ, PageQuery, action, page
from firmtrail.events.times import unix_ms
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import Permission
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.scalars import NewEmail
from firmtrail.recording.commit import Commit

MEMBER = f"{ACCESS}/members/{{id}}"
TOKEN = f"{ACCESS}/tokens/{{id}}"

type NewTokenName = Annotated[str, Meta(max_length=64, pattern=r"^[^\x00-\x1f]*$(?!\n)")]


class MemberForm(msgspec.Struct, frozen=True, kw_only=True):
    """Names a member, new or not, and the role to give."""

    email: NewEmail
    role: Role


class RoleForm(msgspec.Struct, frozen=True, kw_only=True):
    """Names the new role of a member."""

    role: Role


class TokenForm(msgspec.Struct, frozen=True, kw_only=True):
    """Names a token to issue; it ends at the end of the day `expires` in UTC, if one is given."""

    name: NewTokenName = ""
    role: Role
    expires: date | None = None


async def post_member(call: Call[Any, MemberForm]) -> web.Response:
    """Add a member, or give a member another role."""
    form = call.body
    set_member = commands.set_member(form.email, form.role, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, set_member)
    return render.redirect(call, "access")


async def post_role(call: Call[Any, RoleForm]) -> web.Response:
    """Give a member another role."""
    email = (await _member(call)).email
    if email is None:
        raise NotFound("There is no such member.")
    set_member = commands.set_member(email, call.body.role, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, set_member)
    return render.redirect(call, "access")


async def get_member_removal(call: Call[PageQuery, None]) -> web.Response:
    """Ask whether to remove a member, and say what ends with the membership."""
    member = await _member(call)
    count = await tokens.count(call.db, member.actor_id, call.project)
    shown = member.email or member.actor_id
    asked = Confirmation(
        title="Remove a member",
        lead=f"{shown} can no longer see or do anything in {call.project}. The log keeps what "
        "they did. To give the role back, add them again; their tokens stay revoked.",
        button="Remove the member",
        back=("access",),
        numbers=(
            Figure(
                "tokens that end with the membership",
                count,
                "bad",
                of_one="token that ends with the membership",
            ),
        ),
        takes_reason=False,
        nav="access",
    )
    return confirm.page(call, asked)


async def post_member_removal(call: Call[Any, ConfirmationForm]) -> web.Response:
    """Remove a member with the tokens that the member has in the project."""
    remove = commands.remove_member(call.path("id"), actor=call.caller.actor)

    async def command(commit: Commit) -> CommandAnswer:
        await remove(commit)
        return CommandAnswer(200, {})

    await confirm.run(call, call.body.key, command)
    return render.redirect(call, "access")


async def post_token(call: Call[Any, TokenForm]) -> web.Response:
    """Issue an API token of the person, and show it once."""
    form, caller = call.body, call.caller
    wanted = commands.TokenRequest(
        holder=str(caller.actor_id),
        name=form.name,
        role=form.role,
        expires_at_ms=_end_of(call, form.expires),
    )
    issue = commands.issue_token(wanted, caller.permissions, actor=caller.actor)
    issued = await call.services.recorder.act(call.log_id, issue)
    return render.secret(
        call, "access_token.html", title="New token", token=issued.token, text=issued.text
    )


def _end_of(call: AnyCall, day: date | None) -> int | None:
    """Returns the end of this day in UTC. Raises `Invalid` if it has ended or is too far away."""
    if day is None:
        return None
    if day.year == date.max.year:
        raise invalid_parameter("expires", "is too far away")
    following = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    if unix_ms(following) <= call.services.access.now_ms():
        raise invalid_parameter("expires", "lies in the past")
    return unix_ms(following)


async def get_token_end(call: Call[PageQuery, None]) -> web.Response:
    """Ask whether to end a token or a login, and say whose it is."""
    asked = Confirmation(
        title="End a token or a session",
        lead=await _whose(call) + " What uses it is refused from the next request on, and "
        "tokens that it issued end with it. This can't be taken back.",
        button="End it",
        back=("access",),
        takes_reason=False,
        nav="access",
    )
    return confirm.page(call, asked)


async def _whose(call: AnyCall) -> str:
    """Returns a sentence that names the token or login. Raises `NotFound`."""
    token_id, db = call.path("id"), call.db
    own = await tokens.one(db, str(call.caller.actor_id), call.project, token_id)
    if own is not None:
        return f"This is your token {own.name or 'without a name'}, which acts as {own.role}."
    if Permission.ADMINISTER in call.caller.permissions:
        found = await tokens.one_of_members(
            db, call.project, call.services.access.now_ms(), token_id
        )
        if found is not None:
            kind = "a session" if found.role is None else f"a token that acts as {found.role}"
            name = f" named {found.name}" if found.role and found.name else ""
            return f"This is {kind}{name} of {found.email or found.actor_id}."
    raise NotFound("There is no such token.")


async def post_token_end(call: Call[Any, Any]) -> web.Response:
    """End a token of the person; an admin ends those of all members, and their logins."""
    await _whose(call)
    end = commands.end_token(call.path("id"), actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, end)
    return render.redirect(call, "access")


async def post_login_end(call: Call[Any, Any]) -> web.Response:
    """End a login or a session of the person, on every server."""
    async with call.services.db.transaction() as tx:
        [ended] = await tx.run(logins.end_login(str(call.caller.actor_id), call.path("id")))
    if not ended:
        raise NotFound("There is no such session: it may have ended already.")
    return render.redirect(call, "access")


async def _member(call: AnyCall) -> people.Membership:
    """Returns the member that the path names. Raises `NotFound`."""
    db, actor_id = call.db, call.path("id")
    role, account = await people.role_of(db, call.project, actor_id), None
    if role is not None:
        account = await people.by_id(db, actor_id)
    if role is None or account is None:
        raise NotFound("There is no such member.")
    return people.Membership(actor_id, account.email, role)


ROUTES = (
    action(f"{ACCESS}/members", post_member, ADMINISTER, form=MemberForm),
    action(f"{MEMBER}/role", post_role, ADMINISTER, form=RoleForm),
    page(f"{MEMBER}/remove", get_member_removal, ADMINISTER),
    action(f"{MEMBER}/remove", post_member_removal, ADMINISTER, form=ConfirmationForm),
    action(f"{ACCESS}/tokens", post_token, READ, form=TokenForm, answers={200: "text/html"}),
    page(f"{TOKEN}/end", get_token_end, READ),
    action(f"{TOKEN}/end", post_token_end, READ, form=ConfirmationForm),
    action(f"{ACCESS}/sessions/{{id}}/end", post_login_end, READ),
)
