"""Serves the halt of a project, which stops all offers, and its end."""

from typing import Any, Literal

import msgspec
from aiohttp import web

from firmtrail.commands import steering as commands
from firmtrail.commands.once import answering
from firmtrail.http import respond
from firmtrail.http.api.rows import OPERATE, POST, P, command
from firmtrail.http.api.wire import Because
from firmtrail.http.call import AnyCall, Call
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand


class Halt(Because, frozen=True, kw_only=True):
    """Stops the offers of rollouts; with `all`, those of rollbacks too."""

    all: bool = False


class HaltState(msgspec.Struct, frozen=True):
    """Says what is halted: rollouts only, everything, or nothing."""

    halted: Literal["rollouts", "all"] | None


async def post_halt(call: Call[Any, Halt]) -> web.Response:
    """Stop all offers in the project, except those of rollbacks."""
    body = call.body
    return await _halt(call, commands.halt(body.reason, is_all=body.all, actor=call.caller.actor))


async def post_end_of_halt(call: Call[Any, Because]) -> web.Response:
    """End the project's halt."""
    return await _halt(call, commands.end_halt(call.body.reason, actor=call.caller.actor))


async def _halt(call: AnyCall, command: LogCommand[None]) -> web.Response:
    async def halt(commit: Commit) -> HaltState:
        await command(commit)
        return HaltState(commit.draft.control.halt)

    return await respond.run_once(call, answering(200, halt))


ROUTES = (
    command(POST, f"{P}/halt", post_halt, OPERATE, body=Halt, answers={200: HaltState}),
    command(POST, f"{P}/resume", post_end_of_halt, OPERATE, body=Because, answers={200: HaltState}),
)
