"""Serves the attributes of a device, the pairs of texts that it says of itself.

They are kept outside the log, so there is no past of them: an answer shows the present.
"""

from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.access import attributes
from firmtrail.access.attributes import ReportedAttributes
from firmtrail.commands import attributes as commands
from firmtrail.http import respond
from firmtrail.http.api import devices
from firmtrail.http.api.rows import DELETE, OPERATE, PUT, D, command, resource
from firmtrail.http.api.wire import StrictBody, TimeText, time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import DEVICE, DeviceAccess, Permission
from firmtrail.http.scalars import AttributeKey, AttributeValue
from firmtrail.rules.attributes import ATTRIBUTES_MAX, Attributes, Mode


class DeviceAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """Shows a device's attributes, and when they changed last."""

    data: dict[str, str]
    changed_at: TimeText | None


class WantedAttributes(StrictBody, frozen=True, kw_only=True):
    """Names attributes to add or to change, to have instead of all others, or to remove."""

    mode: Mode = "merge"
    data: Annotated[dict[AttributeKey, AttributeValue], Meta(max_length=ATTRIBUTES_MAX)]


async def get_attributes(call: AnyCall) -> web.Response:
    """Return what the device says of itself."""
    name = call.path("device")
    await devices.existing(call, name)
    found = await attributes.read(call.services.db, call.project, name)
    return respond.resource(call, _shown(found))


async def put_attributes(call: Call[Any, WantedAttributes]) -> web.Response:
    """Change what the device says of itself.

    A version or a model among it that differs from the recorded one is recorded too.
    """
    changed = await set_attributes(call, call.body.mode, call.body.data)
    return respond.json(200, _shown(changed))


async def delete_attributes(call: AnyCall) -> web.Response:
    """Erase what the device said of itself, and all traces of it in the database."""
    await devices.existing(call, call.path("device"))
    await attributes.forget(call.services.db, call.project, call.path("device"))
    await call.services.db.scrub()
    return respond.no_content()


async def set_attributes(call: AnyCall, mode: Mode, data: Attributes) -> ReportedAttributes:
    """Changes the attributes of the path's device, and records what follows from them."""
    services = call.services
    whose = commands.DeviceOfLog(call.log_id, call.project, call.path("device"))
    change = commands.AttributesChange(mode, data, call.caller.actor, services.access.now_ms())
    return await commands.set_attributes(services.db, services.recorder, whose, change)


def _shown(found: ReportedAttributes) -> DeviceAttributes:
    return DeviceAttributes(data=found.data, changed_at=time_or_none(found.changed_at_ms))


ROUTES = (
    resource(f"{D}/attributes", get_attributes, DeviceAccess(Permission.READ), DeviceAttributes),
    command(
        PUT,
        f"{D}/attributes",
        put_attributes,
        DEVICE,
        body=WantedAttributes,
        answers={200: DeviceAttributes},
    ),
    command(DELETE, f"{D}/attributes", delete_attributes, OPERATE, refusals=frozenset()),
)
