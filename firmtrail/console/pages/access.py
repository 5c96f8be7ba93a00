"""Shows who may do what in a project: members and roles, tokens, and the sessions of the person."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from aiohttp import web

from firmtrail.access import logins, people, roles, tokens
from firmtrail.access.logins import LoginSession
from firmtrail.access.people import Membership
from firmtrail.access.tokens import MemberToken, Token
from firmtrail.console import render
from firmtrail.console.rows import PROJECT, PageQuery, page
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import Permission
from firmtrail.http.scalars import Id

ACCESS = f"{PROJECT}/access"

SHOWN_MAX = 100
"""Limits the rows of each list on the page."""

ROLES_IN_WORDS = {
    "viewer": "reads",
    "operator": "reads, and steers devices, releases and rollouts",
    "auditor": "reads, also the log and the access record",
    "admin": "everything, also members, tokens and settings",
    "gateway": "reports for devices, and nothing else",
}


class AccessQuery(PageQuery, frozen=True, kw_only=True):
    """Continues one of the page's lists after a row."""

    members_after: Id | None = None
    tokens_after: Id | None = None
    all_after: Id | None = None


type AccessCall = Call[AccessQuery, None]


class ListPart(NamedTuple):
    """Holds the rows of a list that are shown, and the id after which it continues, if it does."""

    rows: list[Any]
    next: str | None


def part_of(rows: list[Any], ids: Iterable[str]) -> ListPart:
    """Returns the rows that are shown of one more than these."""
    if len(rows) <= SHOWN_MAX:
        return ListPart(rows, None)
    return ListPart(rows[:SHOWN_MAX], list(ids)[SHOWN_MAX - 1])


async def get_access(call: AccessCall) -> web.Response:
    """Show the members of the project, their tokens and sessions."""
    members, own = await _members(call), await _own_tokens(call)
    return render.page(
        call,
        "access.html",
        title="Access",
        members=members,
        tokens=own,
        logins=await _logins(call),
        everybodys=await _everybodys(call),
        me=call.caller.actor_id,
        current=call.caller.token_id,
        roles=ROLES_IN_WORDS,
        issuable=issuable(call),
    )


def issuable(call: AnyCall) -> list[str]:
    """Returns the roles that the person may give to a token."""
    mine = call.caller.permissions
    return [role for role in roles.ROLES if roles.PERMISSIONS[role] <= mine]


async def _members(call: AccessCall) -> ListPart:
    rows: list[Membership] = await people.members(
        call.db,
        call.project,
        after=call.query.members_after or "",
        limit=SHOWN_MAX + 1,
    )
    return part_of(rows, (row.actor_id for row in rows))


async def _own_tokens(call: AccessCall) -> ListPart:
    rows: list[Token] = await tokens.page(
        call.db,
        str(call.caller.actor_id),
        call.project,
        after=call.query.tokens_after or "",
        limit=SHOWN_MAX + 1,
    )
    return part_of(rows, (row.token_id for row in rows))


async def _logins(call: AccessCall) -> list[LoginSession]:
    """Returns the person's logins, also those in browsers; the page shows the first of them."""
    now_ms = call.services.access.now_ms()
    actor_id = str(call.caller.actor_id)
    return await logins.living(call.db, actor_id, now_ms, limit=SHOWN_MAX)


async def _everybodys(call: AccessCall) -> ListPart | None:
    """Returns the tokens and logins of all members, for those that may end them."""
    if Permission.ADMINISTER not in call.caller.permissions:
        return None
    rows: list[MemberToken] = await tokens.page_of_members(
        call.db,
        call.project,
        call.services.access.now_ms(),
        after=call.query.all_after or "",
        limit=SHOWN_MAX + 1,
    )
    return part_of(rows, (row.token_id for row in rows))


ROUTES = (page(ACCESS, get_access, query=AccessQuery),)
