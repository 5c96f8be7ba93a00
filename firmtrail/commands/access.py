"""Makes the commands on projects, members, tokens and settings.

Each runs inside one commit of the project's log: the rows of access and the event that records them
are written together or not at all, and the lock of the head makes commands on one project follow
each other. The log names people and tokens by their ids; addresses, passwords and digests stay in
the access tables. Every command raises `Refused` if a rule refuses it.
"""

import msgspec

from firmtrail.access import credentials, logins, people, projects, settings, tokens
from firmtrail.access.people import Membership
from firmtrail.access.roles import PERMISSIONS, Permissions, Role
from firmtrail.access.tokens import Token
from firmtrail.commands.once import (
    KEY_REUSED,
    CommandAnswer,
    IdempotencyKey,
    allowed,
    forget_text,
    keep,
    recall,
    refusal,
)
from firmtrail.database.database import Database, Transaction
from firmtrail.events.access import (
    MemberAdded,
    MemberChanged,
    MemberRemoved,
    TokenIssued,
    TokenRevoked,
)
from firmtrail.events.fleet import SettingsChanged
from firmtrail.events.log import TextErased
from firmtrail.events.times import time_text
from firmtrail.eventstore import log
from firmtrail.publishing.minimum_sizes import MinimumSizes
from firmtrail.recording.commit import Commit, begin
from firmtrail.recording.recorder import LogCommand, start_log
from firmtrail.rules.device import Refused
from firmtrail.rules.settings import INITIAL

MORE_THAN_ISSUER = "A token may do no more than its issuer and its holder."


class NewProject(msgspec.Struct, frozen=True):
    """Holds the answer to the creator of a project."""

    project: str


class NewMember(msgspec.Struct, frozen=True):
    """Holds a member as set; `is_new` says whether the membership is new."""

    member: Membership
    is_new: bool


class TokenRequest(msgspec.Struct, frozen=True):
    """Holds a request for a token."""

    holder: str
    name: str
    role: Role
    expires_at_ms: int | None = None
    issued_by: str | None = None
    """The API token that makes the request; None for a login, or the operator of the service."""
    registers_max: int | None = None
    """How many unknown devices the token registers at most; None: it registers none."""
    model: str | None = None
    """The model of the devices that it registers."""


class NewToken(msgspec.Struct, frozen=True):
    """Holds a token with its text, which is never shown again."""

    token: Token
    text: str


async def add_project(
    db: Database,
    project: str,
    *,
    actor: str,
    creator: str | None,
    above: int = 0,
    key: IdempotencyKey | None = None,
) -> CommandAnswer:
    """Creates a project with its first log, its settings, and its creator as admin, in one commit.

    `creator` is a user's id, or None if the operator of the service creates the project. The log's
    number is greater than `above`, so than any that was published for a project of this name.
    """
    try:
        async with db.transaction() as tx:
            if key is not None and (known := await recall(tx, key)):
                return allowed(known)
            answer = CommandAnswer(201, NewProject(project))
            if key is not None:
                await keep(tx, key, answer)
            await _create(tx, project, actor=actor, creator=creator, above=above)
            return answer
    except Refused as refused:
        if key is None or refused.code == KEY_REUSED:
            raise
        # The rollback has released the key, so another request may have been faster.
        async with db.transaction() as tx:
            if known := await recall(tx, key):
                return allowed(known)
            await keep(tx, key, refusal(refused))
        raise


async def _create(
    tx: Transaction, project: str, *, actor: str, creator: str | None, above: int
) -> None:
    [reserved] = await tx.run(projects.reserve(project))
    if not reserved:
        raise Refused("project_exists", await _taken(tx, project))
    commit = await start_project(tx, project, actor=actor, above=above)
    if creator is not None:
        await tx.run(people.set_role(project, creator, "admin"))
        commit.draft.record(f"user/{creator}", MemberAdded(creator, "admin"), actor=actor)
    await commit.finish()


async def _taken(tx: Transaction, project: str) -> str:
    """Says why the name is taken."""
    [there] = await tx.run(projects.one(project))
    if there:
        return f"There is already a project {project}."
    return (
        f"The name {project} is kept for a project of another instance, whose move to this one was "
        "undone or is not over."
    )


async def start_project(tx: Transaction, project: str, *, actor: str, above: int) -> Commit:
    """Starts a log of the project and makes it the project's; returns its first commit, in which
    the initial settings are recorded. The log's number is greater than `above`."""
    log_id = await start_log(tx, project, above=above)
    await tx.run(projects.set_log(project, log_id))
    commit = await begin(tx, log_id, MinimumSizes())
    initial = SettingsChanged(**msgspec.structs.asdict(INITIAL))
    commit.draft.record(settings.stream(project), initial, actor=actor)
    return commit


def set_member(
    email: str, role: Role, *, actor: str, password_hash: str | None = None
) -> LogCommand[NewMember]:
    """Makes the person with this address a member, or gives the member this role.

    A person that is not known becomes a user. A `password_hash` replaces the user's password and
    ends the user's logins; it is for the operator of the service alone, since a user belongs to no
    project.
    """

    async def command(commit: Commit) -> NewMember:
        actor_id = await _user(commit, email, password_hash)
        before = await _role(commit, actor_id)
        if before == "admin" != role:
            await _check_other_admin(commit, actor_id)
        if before != role:
            await commit.run(people.set_role(commit.draft.project, actor_id, role))
            event = MemberAdded if before is None else MemberChanged
            commit.draft.record(f"user/{actor_id}", event(actor_id, role), actor=actor)
        return NewMember(Membership(actor_id, people.normal(email), role), before is None)

    return command


def remove_member(member: str, *, actor: str) -> LogCommand[None]:
    """Ends a membership, and with it the member's tokens of this project."""

    async def command(commit: Commit) -> None:
        role = await _role(commit, member)
        if role is None:
            raise Refused("not_found", "There is no such member.", 404)
        if role == "admin":
            await _check_other_admin(commit, member)
        [_, ended] = await commit.run(
            people.set_role(commit.draft.project, member, None),
            tokens.revoke_all(commit.draft.project, member, commit.draft.now_ms),
        )
        for [token_id] in ended:
            commit.draft.record(f"token/{token_id}", TokenRevoked(token_id), actor=actor)
        commit.draft.record(f"user/{member}", MemberRemoved(member), actor=actor)

    return command


def issue_token(wanted: TokenRequest, issuer: Permissions, *, actor: str) -> LogCommand[NewToken]:
    """Issues an API token that may do no more than its issuer and its holder.

    A token that an API token issues expires with that token at the latest. The lock of the head
    makes this and a revocation of the issuer follow each other, so no token is issued by one that
    has ended.
    """

    async def command(commit: Commit) -> NewToken:
        role = await _role(commit, wanted.holder)
        if role is None:
            raise Refused("not_found", "The token's holder is not a member of the project.", 404)
        if not _needed(wanted) <= issuer & PERMISSIONS[role]:
            raise Refused("forbidden", MORE_THAN_ISSUER, 403)
        token = _token(commit, wanted, await _limited(commit, wanted))
        text = credentials.new_token()
        await commit.run(tokens.insert(token, wanted.holder, text))
        issued = _issued(token, wanted.holder)
        commit.draft.record(f"token/{token.token_id}", issued, actor=actor)
        return NewToken(token, text)

    return command


def _token(commit: Commit, wanted: TokenRequest, expires_at_ms: int | None) -> Token:
    return Token(
        token_id=credentials.new_id("t"),
        name=wanted.name,
        project=commit.draft.project,
        role=wanted.role,
        created_at_ms=commit.draft.now_ms,
        expires_at_ms=expires_at_ms,
        issued_by=wanted.issued_by,
        registers=wanted.registers_max is not None,
        model=wanted.model,
        registers_max=wanted.registers_max,
    )


def _issued(token: Token, holder: str) -> TokenIssued:
    expires_at = None if token.expires_at_ms is None else time_text(token.expires_at_ms)
    return TokenIssued(
        token.token_id,
        holder,
        token.role,
        expires_at,
        registers=token.registers,
        model=token.model,
        registers_max=token.registers_max,
    )


def _needed(wanted: TokenRequest) -> Permissions:
    """Returns the permissions that the issuer and the holder need: a token that registers devices
    does a part of an operator's work."""
    registering = frozenset() if wanted.registers_max is None else frozenset({"operate"})
    return PERMISSIONS[wanted.role] | registering


async def _limited(commit: Commit, wanted: TokenRequest) -> int | None:
    """Returns when the wanted token expires: not after the API token that issues it. Raises
    `Refused` if that token has ended, or may do less than the wanted role."""
    if wanted.issued_by is None:
        return wanted.expires_at_ms
    [rows] = await commit.run(
        tokens.issuer(commit.draft.project, wanted.issued_by, commit.draft.now_ms)
    )
    if not rows:
        raise Refused(
            "forbidden", "The token that issues this one has ended. Use one that is valid.", 403
        )
    issuer = tokens.Issuer(*rows[0])
    if not _needed(wanted) <= PERMISSIONS[issuer.role]:
        raise Refused("forbidden", MORE_THAN_ISSUER, 403)
    ends = [each for each in (wanted.expires_at_ms, issuer.expires_at_ms) if each is not None]
    return min(ends, default=None)


def revoke_token(token_id: str, *, actor: str) -> LogCommand[None]:
    """Ends a token of the project, and every token that descends from it."""

    async def command(commit: Commit) -> None:
        if not await _revoke(commit, token_id, actor):
            raise Refused("not_found", "There is no such token.", 404)

    return command


def end_token(token_id: str, *, actor: str) -> LogCommand[None]:
    """Ends a token of the project with its descendants, or a login of one of its members."""

    async def command(commit: Commit) -> None:
        if await _revoke(commit, token_id, actor):
            return
        [ended] = await commit.run(logins.end_login_of_member(commit.draft.project, token_id))
        if not ended:
            raise Refused("not_found", "There is no such token or login.", 404)
        commit.draft.record(f"token/{token_id}", TokenRevoked(token_id), actor=actor)

    return command


async def _revoke(commit: Commit, token_id: str, actor: str) -> bool:
    [rows] = await commit.run(tokens.revoke(commit.draft.project, token_id, commit.draft.now_ms))
    for ended in sorted(each for [each] in rows):
        commit.draft.record(f"token/{ended}", TokenRevoked(ended), actor=actor)
    return bool(rows)


def change_settings(event: SettingsChanged, *, actor: str) -> LogCommand[None]:
    async def command(commit: Commit) -> None:
        commit.draft.record(settings.stream(commit.draft.project), event, actor=actor)

    return command


def erase_text(head: log.Head, position: int, *, actor: str) -> LogCommand[None]:
    """Erases the free text of the event at this position of a log, its salt, and every kept answer
    that shows it.

    The log of `head` is the project's newest log or one that was replaced. A replaced log takes no
    more events, so the newest log records the erasure.
    """

    async def command(commit: Commit) -> None:
        [erased] = await commit.run(log.erase_text(head.log_id, position))
        if not erased:
            raise Refused("not_found", "This event has no free text.", 404)
        [[_, text]] = erased
        await commit.run(forget_text(commit.draft.project, head.log_id, position, text))
        if head.log_id == commit.draft.log_id:
            commit.draft.record(f"event/{position}", TextErased(position), actor=actor)
        else:
            stream = f"log/{head.number}/event/{position}"
            commit.draft.record(stream, TextErased(position, head.number), actor=actor)

    return command


async def _user(commit: Commit, email: str, password_hash: str | None) -> str:
    """Returns the id of the user with this address, whose row is locked until the commit ends."""
    new_id = credentials.new_id("u")
    [[[actor_id]]] = await commit.run(people.ensure(new_id, email, commit.draft.now_ms))
    if password_hash is not None:
        await commit.run(
            people.set_password(actor_id, password_hash), logins.forget_logins(actor_id)
        )
    return str(actor_id)


async def _role(commit: Commit, actor_id: str) -> str | None:
    [rows] = await commit.run(people.role(commit.draft.project, actor_id))
    return rows[0][0] if rows else None


async def _check_other_admin(commit: Commit, actor_id: str) -> None:
    [others] = await commit.run(people.other_admin(commit.draft.project, actor_id))
    if not others:
        raise Refused("last_admin", "A project keeps at least one admin.")
