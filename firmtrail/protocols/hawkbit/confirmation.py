"""Answers clients that ask whether a device confirms its actions first.

Here an operator approves, and not the device: actions are always confirmed automatically. A device
that does not want an action rejects it.
"""

from aiohttp import web

from firmtrail.http import respond
from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import look_at
from firmtrail.http.errors import Conflict
from firmtrail.protocols.hawkbit.files import PROTOCOL
from firmtrail.protocols.hawkbit.shapes import AutoConfirmState, ConfirmationBase


async def get_confirmation(call: AnyCall) -> web.Response:
    """Return that actions are confirmed automatically."""
    size = (await look_at(call, protocol=PROTOCOL)).seen.counts.size
    return respond.resource(call, ConfirmationBase(AutoConfirmState(active=True)), size)


async def post_activate(call: AnyCall) -> web.Response:
    """Confirm actions automatically, which is always so."""
    await look_at(call, protocol=PROTOCOL)
    return web.Response(status=200)


async def post_deactivate(call: AnyCall) -> web.Response:
    """Refuse to let the device confirm each action."""
    await look_at(call, protocol=PROTOCOL)
    detail = (
        "Actions are confirmed automatically, and a device can't change that. "
        "It can reject an action by its feedback."
    )
    raise Conflict(detail, code="always_confirmed")
