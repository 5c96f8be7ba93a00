"""Serves the operator's commands that move a project away from this instance.

`firmtrail project move` calls them over the socket of the server, in the order that
`moving/__init__.py` explains.
"""

import asyncio
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.commands import move_project, new_address
from firmtrail.events.log import ProjectMoveStarted
from firmtrail.http import respond
from firmtrail.http.api.rows import LOCAL_PROJECT, POST, command
from firmtrail.http.api.wire import StrictBody
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import LOCAL
from firmtrail.http.errors import Conflict
from firmtrail.http.faults import BrokenRule, raise_if_broken
from firmtrail.publishing import checkpoint
from firmtrail.publishing.minimum_sizes import LogName

END_WAIT_S = 30


class WantedMove(StrictBody, frozen=True, kw_only=True):
    """Asks to stop a project, because it is moved to another instance."""

    to: Annotated[str, Meta(min_length=1, max_length=200)]
    """The name of the other instance."""
    address: str
    """The address at which that instance is served."""

    def __post_init__(self) -> None:
        raise_if_broken(_broken_address(self.address))


def _broken_address(address: str | None) -> BrokenRule | None:
    if isinstance(address, str):
        try:
            new_address.check(address)
        except ValueError as error:
            return "address", str(error)
    return None


class StoppedProject(msgspec.Struct, frozen=True):
    """Describes the last log of a project that takes no changes, and what proves its end."""

    log: int
    size: int
    checkpoint: str
    """The checkpoint of this size, a signed note."""
    key: str
    """The verifier key line of the log."""


async def post_local_move(call: Call[None, WantedMove]) -> web.Response:
    """Stop a project for a move, and publish the end of its log."""
    services, publisher = call.services, call.services.publisher
    if publisher is None:
        raise Conflict(
            "The end of the log can't be signed, because there is no key. Name the signing key and "
            "the place of the published checkpoints; for a file, the first `firmtrail serve` makes "
            "both.",
            code="publishing_off",
        )
    wanted = ProjectMoveStarted(call.body.to, call.body.address)
    stopped = await move_project.start(
        services.db, services.recorder, call.log_id, wanted=wanted, actor=call.caller.actor
    )
    await services.moves.look()
    name = LogName(call.project, stopped.number)
    try:
        async with asyncio.timeout(END_WAIT_S):
            last = await publisher.served.covering(call.log_id, stopped.size)
    except TimeoutError as error:
        raise Conflict(
            f"The end of log {name} was not published in {END_WAIT_S} s. Look for `log "
            "refused` in the log of the server, and try again.",
            code="not_published",
        ) from error
    key = checkpoint.key_line(await publisher.served.verifier(name))
    return respond.json(200, StoppedProject(name.number, stopped.size, last.note, key))


async def post_local_move_end(call: AnyCall) -> web.Response:
    """Answer all requests of a moved project with its new address."""
    await move_project.finish(call.services.db, call.log_id)
    await call.services.moves.look()
    return web.Response(status=204)


async def post_local_move_undo(call: AnyCall) -> web.Response:
    """Let a project continue here that was being moved."""
    services = call.services
    await move_project.undo(
        services.db, call.log_id, services.recorder.minimum_sizes, call.caller.actor
    )
    await services.moves.look()
    return web.Response(status=204)


MOVE = f"{LOCAL_PROJECT}/move"
_REFUSALS = frozenset({404, 409})

ROUTES = (
    command(
        POST,
        MOVE,
        post_local_move,
        LOCAL,
        body=WantedMove,
        answers={200: StoppedProject},
        refusals=_REFUSALS,
    ),
    command(POST, f"{MOVE}/end", post_local_move_end, LOCAL, refusals=_REFUSALS),
    command(POST, f"{MOVE}/undo", post_local_move_undo, LOCAL, refusals=_REFUSALS),
)
