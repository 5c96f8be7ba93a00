"""Reads the names that Mender's clients give: the device's, and the project's."""

import re
import time

import msgspec

from firmtrail.http import scalars
from firmtrail.http.call import AnyCall
from firmtrail.rules.settings import Settings

IDENTITIES = ("device_id", "serial_number", "serial", "mac")
"""The members of an identity that name the device, the first that it has, if it has several."""

IDENTITY_BYTES_MAX = 4 * 1024
"""Limits an identity, since anybody may send one."""

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
        return await call.services.recorder.controls.settings_at(reader, log_id)


async def identity_attribute(call: AnyCall, log_id: int) -> str | None:
    """Returns the member of an identity that names the device, if the project sets one."""
    return (await settings(call, log_id)).mender_id_attribute


def device_of(id_data: str, attribute: str | None) -> str | None:
    """Returns the device that an identity names: by the attribute if it is given, else by its only
    member, else by one of `IDENTITIES`. None: it names no device."""
    if len(id_data) > IDENTITY_BYTES_MAX:
        return None
    try:
        identity = msgspec.json.decode(id_data, type=dict[str, msgspec.Raw])
        text = _named(identity, attribute)
        name = "" if text is None else msgspec.json.decode(text, type=str)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return name if _is_device(name) else None


def _named(identity: dict[str, msgspec.Raw], attribute: str | None) -> msgspec.Raw | None:
    if attribute is not None:
        return identity.get(attribute)
    if len(identity) == 1:
        return next(iter(identity.values()))
    return next((identity[each] for each in IDENTITIES if each in identity), None)
