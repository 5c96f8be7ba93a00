"""Serves the commands on a rollout that was started: advance, plan, pause, resume, abort."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from firmtrail.commands import steering as commands
from firmtrail.commands.once import CommandAnswer, answering, keep, kept, once
from firmtrail.http import respond
from firmtrail.http.api.rollout_plans import (
    Percent,
    WantedPlan,
    hundredths,
    phases_of,
    too_fine,
)
from firmtrail.http.api.rollouts import ROLLOUT, Rollout, shown_now, withdrawn_at_ms_of
from firmtrail.http.api.rows import CHANGED, OPERATE, POST, command
from firmtrail.http.api.wire import Because, StrictBody, too_long
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import consistent_read
from firmtrail.http.faults import raise_if_broken
from firmtrail.http.rollout_tries import planned_with_approvals
from firmtrail.http.rollouts import CommandMaker, person_of, rollout_of
from firmtrail.http.route import Handler, Route
from firmtrail.http.scalars import FreeText
from firmtrail.recording.commit import Commit
from firmtrail.rules import rollout
from firmtrail.rules.control import Control


class Advance(Because, frozen=True, kw_only=True):
    """Sets the share of its devices that a rollout reaches; it has to grow. Without a percentage,
    the next phase of its plan begins."""

    percent: Percent | None = None

    def __post_init__(self) -> None:
        raise_if_broken(too_long("reason", self.reason), too_fine(self.percent))


class PlanChange(Because, frozen=True, kw_only=True):
    """Gives a rollout the phases that follow those that it began."""

    plan: WantedPlan


class Rejection(StrictBody, frozen=True, kw_only=True):
    """Gives the reason why a rollout is rejected; the reason is stored outside the log."""

    reason: FreeText

    def __post_init__(self) -> None:
        raise_if_broken(too_long("reason", self.reason))


class Commanded(msgspec.Struct, frozen=True):
    """Records under an Idempotency-Key of a command: first that the command was done, and then the
    answer.

    The answer is stored later because its counts are read only after the commit.
    """

    log_size: int = 0
    rollout: Rollout | None = None


async def post_advance(call: Call[Any, Advance]) -> web.Response:
    """Let a rollout reach more of its devices."""
    percent = call.body.percent
    make = partial(commands.advance, reach=None if percent is None else hundredths(percent))
    return await _answer(call, make)


async def post_plan(call: Call[Any, PlanChange]) -> web.Response:
    """Change the plan of a rollout: the phases that it began stay, and others follow."""
    phases = phases_of(call.body.plan)
    wanted = await planned_with_approvals(call, call.path("id"), phases)
    return await _answer(call, partial(commands.change_plan, wanted=wanted))


async def post_pause(call: Call[Any, Because]) -> web.Response:
    """Pause a rollout: nothing more is offered until it is resumed."""
    return await _answer(call, commands.pause)


async def post_resume(call: Call[Any, Because]) -> web.Response:
    """Resume a paused rollout; earlier failures no longer count towards pausing it."""
    return await _answer(call, commands.resume)


async def post_approve(call: Call[Any, Because]) -> web.Response:
    """Approve a rollout that waits for it; the person who started it can't."""
    return await _answer(call, partial(commands.approve, person=person_of(call)))


async def post_reject(call: Call[Any, Rejection]) -> web.Response:
    """Reject a rollout that waits for approval, which ends it."""
    return await _answer(call, partial(commands.reject, person=person_of(call)))


async def post_abort(call: Call[Any, Because]) -> web.Response:
    """End a rollout: it decides nothing any more."""
    return await _answer(call, commands.abort)


async def _answer(call: AnyCall, make: CommandMaker) -> web.Response:
    """Answers with the rollout as a read of it would, so that the next command can name its
    ETag."""
    answer = await kept(call.services.db, call.key) or await _commanded(call, make)
    done = msgspec.convert(answer.body, Commanded, from_attributes=True)
    if done.rollout is None:
        async with consistent_read(call) as now:
            done = Commanded(now.size, await shown_now(call, now))
        if call.key is not None:
            async with call.services.db.transaction() as tx:
                await keep(tx, call.key, CommandAnswer(200, done))
    return respond.changed_resource(done.rollout, done.log_size)


async def _commanded(call: AnyCall, make: CommandMaker) -> CommandAnswer:
    command = make(call.path("id"), reason=call.body.reason, actor=call.caller.actor)
    check = await _precondition(call)

    async def checked(commit: Commit) -> Commanded:
        check(commit.draft.control)
        await command(commit)
        return Commanded()

    return await once(call.services.recorder, call.log_id, call.key, answering(200, checked))


async def _precondition(call: AnyCall) -> Callable[[Control], None]:
    """Returns the check of If-Match that the commit makes.

    The progress takes time to count, so it is compared before the log's head is locked. While the
    head is locked, only another command on the rollout, or the withdrawal of its release, counts as
    a change.
    """
    if "If-Match" not in call.request.headers:
        return lambda _control: None
    async with consistent_read(call) as now:
        seen, body = now.control, await shown_now(call, now)

    def state(control: Control) -> tuple[rollout.RolloutState, int | None]:
        found = rollout_of(call, control)
        return found, withdrawn_at_ms_of(control, found)

    def check(control: Control) -> None:
        respond.check_match(call, body if state(control) == state(seen) else None)

    return check


def _row(name: str, handler: Handler, body: type[msgspec.Struct]) -> Route:
    return command(
        POST,
        f"{ROLLOUT}/{name}",
        handler,
        OPERATE,
        body=body,
        answers={200: Rollout},
        refusals={409, 412},
        sends=CHANGED,
    )


ROUTES = (
    _row("advance", post_advance, Advance),
    _row("plan", post_plan, PlanChange),
    _row("pause", post_pause, Because),
    _row("resume", post_resume, Because),
    _row("abort", post_abort, Because),
    _row("approve", post_approve, Because),
    _row("reject", post_reject, Rejection),
)
