"""Reads the names that Mender's clients give: the device's, and the project's."""

import re
import time
from typing import Any

import msgspec

from firmtrail.http import scalars
from firmtrail.http.call import AnyCall
from firmtrail.rules.settings import Settings

IDENTITIES = ("device_id", "serial_number", "serial", "mac")
"""The members of an identity that name the device, the first that it has, if it has several."""

_is_device = re.compile(scalars.DEVICE_PATTERN).match
_is_project = re.compile(scalars.PROJECT_PATTERN).match


def now_s() -> float:
    """Returns the time of this process's clock, which decides what is expired."""
    return time.time()


def is_project(text: str) -> bool:
    return _is_project(text) is not None


async def settings(call: AnyCall, log_id: int) -> Settings:
    """Returns the project's settings."""
    async with call.services.db.moment() as reader:
        _, control = await call.services.recorder.controls.at_moment(reader, log_id)
    return control.settings


async def identity_attribute(call: AnyCall, log_id: int) -> str | None:
    """Returns the member of an identity that names the device, if the project sets one."""
    return (await settings(call, log_id)).mender_id_attribute


def device_of(id_data: str, attribute: str | None) -> str | None:
    """Returns the device that an identity names: by the attribute if it is given, else by its only
    member, else by one of `IDENTITIES`. None: it names no device."""
    try:
        identity = msgspec.json.decode(id_data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    if attribute is not None:
        name = identity.get(attribute)
    elif len(identity) == 1:
        [name] = identity.values()
    else:
        name = next((identity[each] for each in IDENTITIES if each in identity), None)
    return name if isinstance(name, str) and _is_device(name) else None
