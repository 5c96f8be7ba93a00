"""Takes the attributes of a device."""

from typing import Any

from aiohttp import web

from firmtrail.commands import attributes as commands
from firmtrail.http.call import Call
from firmtrail.protocols.hawkbit.shapes import ConfigData
from firmtrail.rules.attributes import fitted


async def put_config_data(call: Call[Any, ConfigData]) -> web.Response:
    """Say what the device is. A version or a model among it is recorded if it is news."""
    services = call.services
    whose = commands.DeviceOfLog(call.log_id, call.project, call.path("device"))
    change = commands.AttributesChange(
        call.body.mode, fitted(call.body.data), call.caller.actor, services.access.now_ms()
    )
    await commands.set_attributes(services.db, services.recorder, whose, change)
    return web.Response(status=200)
