"""Keeps the inventory that a device sends as the attributes of the device.

The inventory is hostile input, but never an error that stops an update: `fitted` cuts long values,
and leaves out everything that does not fit.
"""

from typing import Any

import msgspec
from aiohttp import web

from firmtrail.commands.attributes import AttributesChange, DeviceOfLog, set_attributes
from firmtrail.http import incoming
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import BadRequest
from firmtrail.http.pace import Pace
from firmtrail.http.surrogates import storable
from firmtrail.rules.attributes import Mode, changed_as_fits, fitted


class InventoryAttribute(msgspec.Struct, frozen=True):
    """Holds one fact, or a list of facts."""

    name: str
    value: Any = None


INVENTORY_BYTES_MAX = 128 * 1024

# Without a hook, msgspec takes long for a number such as 1e300.
_decode = msgspec.json.Decoder(list[InventoryAttribute], float_hook=float).decode


async def put_inventory(call: AnyCall) -> web.Response:
    """Replace the device's attributes."""
    return await _changed(call, "replace")


async def patch_inventory(call: AnyCall) -> web.Response:
    """Change those of the device's attributes that are named."""
    return await _changed(call, "merge")


async def _changed(call: AnyCall, mode: Mode) -> web.Response:
    body = await incoming.read_bytes(
        call.request, takes_arrays=False, single_bytes_max=INVENTORY_BYTES_MAX
    )
    try:
        found = _decode(await storable(body, Pace()))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("The body is not an inventory.") from None
    services = call.services
    said = fitted({each.name: each.value for each in found})
    now_ms = services.access.now_ms()
    change = AttributesChange(mode, said, call.caller.actor, now_ms, changed_as_fits)
    whose = DeviceOfLog(call.log_id, call.project, call.path("device"))
    await set_attributes(services.db, services.recorder, whose, change)
    return web.Response()
