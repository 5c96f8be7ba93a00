"""Serves the decisions about devices, and keys of devices, that wait to be accepted."""

from typing import Any

import msgspec
from aiohttp import web

from firmtrail.commands import enrolment as commands
from firmtrail.commands.once import CommandAnswer
from firmtrail.http import respond
from firmtrail.http.api.rows import OPERATE, POST, D, command
from firmtrail.http.api.wire import StrictBody
from firmtrail.http.call import Call
from firmtrail.http.scalars import DeviceName, Name, Sha256
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules.device import DeviceState


class Acceptance(StrictBody, frozen=True, kw_only=True):
    """Names the key to accept, so that no other one is accepted. Without it, any is."""

    key: Sha256 | None = None


class JoinedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a device after the decision about it."""

    device: DeviceName
    model: Name | None
    pending: bool
    offered_key: Sha256 | None
    decommissioned: bool


async def post_acceptance(call: Call[Any, Acceptance]) -> web.Response:
    """Accept a device that waits, and the key that waits for it.

    A key that is accepted ends every earlier credential of the device.
    """
    accept = commands.accept(call.path("device"), key=call.body.key, actor=call.caller.actor)
    return await respond.run_once(call, _answering(accept))


async def post_rejection(call: Call[Any, None]) -> web.Response:
    """Decommission a device that waits; of a device that was accepted before, refuse the key."""
    reject = commands.reject(call.path("device"), actor=call.caller.actor)
    return await respond.run_once(call, _answering(reject))


def _answering(decide: LogCommand[DeviceState]) -> LogCommand[CommandAnswer]:
    async def command(commit: Commit) -> CommandAnswer:
        state = await decide(commit)
        return CommandAnswer(
            200,
            JoinedDevice(
                device=state.device,
                model=state.model,
                pending=state.pending,
                offered_key=state.offered_key,
                decommissioned=state.decommissioned,
            ),
        )

    return command


ROUTES = (
    command(
        POST,
        f"{D}/accept",
        post_acceptance,
        OPERATE,
        body=Acceptance,
        answers={200: JoinedDevice},
        refusals={404, 409},
    ),
    command(
        POST,
        f"{D}/reject",
        post_rejection,
        OPERATE,
        answers={200: JoinedDevice},
        refusals={404, 409},
    ),
)
