"""Registers the unknown devices that a registering token names.

The endpoint does it for the device of a request, on each route that a gateway may call, in any
protocol; a route whose body names devices does it for these.
"""

import asyncio
from collections.abc import Iterable

from firmtrail.commands import enrolment
from firmtrail.commands.enrolment import Joiner
from firmtrail.http.call import AnyCall
from firmtrail.projections import device_current


async def join(call: AnyCall) -> None:
    """Registers the device of the request, which the project does not know. Raises `Refused` or
    `TooManyAttempts`."""
    if name := call.path("device"):
        await _join(call, [name])


async def join_named(call: AnyCall, names: Iterable[str]) -> None:
    """Registers those of these devices that the project does not know, if the caller registers
    devices. Raises as `join` does."""
    if not call.caller.registers:
        return
    distinct = [name for name in dict.fromkeys(names) if name]
    read = call.services.queries.devices.get
    rows = await asyncio.gather(*(read((call.log_id, name)) for name in distinct))
    found = (device_current.size_and_device(each)[1] for each in rows)
    unknown = [name for name, known in zip(distinct, found, strict=True) if known is None]
    if unknown:
        await _join(call, unknown)


async def _join(call: AnyCall, names: list[str]) -> None:
    token_id = call.caller.token_id
    assert token_id is not None, "only a token registers devices"
    await call.services.access.registrations.of_token(token_id, len(names))
    joiner = Joiner(call.caller.actor, token_id)
    await call.services.recorder.act(call.log_id, enrolment.join(names, joiner))
