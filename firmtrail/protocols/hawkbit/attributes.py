"""Takes what a device says of itself: its attributes, and the version that it runs."""

from typing import Any

from aiohttp import web

from firmtrail.commands import attributes as commands
from firmtrail.http import running
from firmtrail.http.call import Call
from firmtrail.http.errors import Fault, Invalid
from firmtrail.protocols.hawkbit.shapes import ConfigData, InstalledVersion
from firmtrail.rules.attributes import changed_as_fits, fitted


async def put_config_data(call: Call[Any, ConfigData]) -> web.Response:
    """Say what the device is. A version or a model among it is recorded if it is news."""
    services = call.services
    whose = commands.DeviceOfLog(call.log_id, call.project, call.path("device"))
    change = commands.AttributesChange(
        call.body.mode,
        fitted(call.body.data),
        call.caller.actor,
        services.access.now_ms(),
        changed_as_fits,
    )
    await commands.set_attributes(services.db, services.recorder, whose, change)
    return web.Response(status=200)


async def put_installed(call: Call[Any, InstalledVersion]) -> web.Response:
    """Say which version the device runs. It is recorded if it is news, and then answered by 201."""
    said = await running.said(call, call.body.version)
    if said.version is None:
        reason = "must be a SemVer version, or a name that an artifact of the model carries"
        raise Invalid(f"/version: {reason}", faults=[Fault(reason, "/version")])
    return web.Response(status=201 if said.is_recorded else 200)
