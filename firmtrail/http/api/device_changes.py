"""Serves the commands that change devices: register, change, decommission, restore, new secrets.

Secrets are made and sealed before the commit, because sealing may take a slow hash. Each is shown
once, in the answer to the request that made it.
"""

from collections.abc import Sequence
from itertools import batched
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.access.credentials import new_secret
from firmtrail.access.device_secrets import make_secret, seal
from firmtrail.commands import devices as commands
from firmtrail.commands.once import CommandAnswer
from firmtrail.events.fleet import DeviceChanged
from firmtrail.http import errors, respond
from firmtrail.http.api import devices
from firmtrail.http.api.devices import Device, DeviceChange, Registered, Registration
from firmtrail.http.api.rows import CHANGED, DELETE, OPERATE, PATCH, POST, D, P, command
from firmtrail.http.api.wire import StrictBody, TimeText
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import Invalid, ProblemBody
from firmtrail.http.pace import Pace
from firmtrail.http.route import AnyOf, ListOf
from firmtrail.recording.commit import Commit
from firmtrail.rules.device import Refused

SEALED_TOGETHER = 200
"""Secrets that are sealed before other work gets a turn."""

DEVICES_MAX = 10_000
"""Limits the devices of one registration."""


class RegistrationsQuery(msgspec.Struct, frozen=True):
    """Chooses with never_seen that existing devices that never authenticated get a new secret."""

    reissue: Literal["never_seen"] | None = None


class Rotation(StrictBody, frozen=True, kw_only=True):
    """Asks for a new secret; the earlier ones stay valid for `overlap_s`. With `new_hardware` the
    device counts its reports from the beginning, so its seq starts over."""

    overlap_s: Annotated[int, Meta(ge=0, le=30 * 86_400)] = 0
    new_hardware: bool = False


class NewSecret(msgspec.Struct, frozen=True):
    """Shows a new secret, this once."""

    device: str
    secret: str | None
    others_until: TimeText | None


type RegisterCall = Call[RegistrationsQuery, Registration | list[Registration]]


async def post_devices(call: RegisterCall) -> web.Response:
    """Register one device, or up to 10 000 in one commit.

    In an array, a device that exists already is refused in its place.
    """
    is_array = isinstance(call.body, list)
    wanted = call.body if isinstance(call.body, list) else [call.body]
    _check_distinct(wanted)
    texts, registrations = await _with_secrets(call, wanted)
    make = commands.register if call.query.reissue is None else commands.register_or_reissue
    register = make(registrations, actor=call.caller.actor)
    shown = {each.device: texts[each.device] for each in wanted if each.secret is None}

    async def command(commit: Commit) -> CommandAnswer:
        outcomes = await register(commit)
        if not is_array:
            return _registered_one(outcomes[0], shown)
        return await _registered_many(call, outcomes, shown)

    return await respond.run_once(call, command)


async def _with_secrets(
    call: AnyCall, wanted: Sequence[Registration]
) -> tuple[dict[str, str], list[commands.DeviceRegistration]]:
    """Returns the secrets by device, and the registrations with their secrets sealed."""
    texts: dict[str, str] = {}
    registrations: list[commands.DeviceRegistration] = []
    pace = Pace()
    for group in batched(wanted, SEALED_TOGETHER):
        made = {each.device: each.secret or new_secret() for each in group}
        sealed = await seal(call.services.access.hasher, list(made.items()), call.lane)
        registrations += [
            commands.DeviceRegistration(secret, devices.registration(each))
            for secret, each in zip(sealed, group, strict=True)
        ]
        texts |= made
        if pace.is_due():
            await pace.pause()
    return texts, registrations


def _check_distinct(wanted: Sequence[Registration]) -> None:
    names: set[str] = set()
    faults = []
    for index, each in enumerate(wanted):
        if each.device in names:
            faults.append(errors.Fault("is named twice in this array", f"/{index}/device"))
        names.add(each.device)
    if faults:
        raise Invalid("The array names a device twice. Name each device once.", faults=faults)


def _registered_one(
    outcome: commands.RegisteredDevice | Refused, shown: dict[str, str]
) -> CommandAnswer:
    if isinstance(outcome, Refused):
        raise outcome
    return CommandAnswer(
        201 if outcome.is_new else 200,
        devices.registered(outcome.state, shown.get(outcome.state.device)),
    )


async def _registered_many(
    call: AnyCall, outcomes: Sequence[commands.RegisteredDevice | Refused], shown: dict[str, str]
) -> CommandAnswer:
    is_any_new = any(
        isinstance(each, commands.RegisteredDevice) and each.is_new for each in outcomes
    )
    items: list[errors.ProblemBody | Registered] = []
    pace = Pace()
    for each in outcomes:
        if isinstance(each, Refused):
            items.append(errors.problem_body(errors.refusal(each), call.request_id))
        else:
            items.append(devices.registered(each.state, shown.get(each.state.device)))
        if pace.is_due():
            await pace.pause()
    return CommandAnswer(201 if is_any_new else 200, items)


async def patch_device(call: Call[Any, DeviceChange]) -> web.Response:
    """Change a device's labels or pin, decommission it, or restore it.

    If-Match guards against every other change of the device.
    """
    name, wanted = call.path("device"), call.body
    is_restoring = wanted.decommissioned is False
    text, secret = make_secret(name) if is_restoring else (None, None)
    change = commands.WantedChange(devices.change(wanted), wanted.decommissioned)
    apply = commands.change(name, change, secret=secret, actor=call.caller.actor)

    async def command(commit: Commit) -> bool:
        before = (await commit.devices([name])).get(name)
        if "If-Match" in call.request.headers:  # the head is locked: nothing changes until the end
            _, body = await devices.shown_now(call, name)
            respond.check_match(call, body)
        after = await apply(commit)
        return before is not None and before.decommissioned and not after.decommissioned

    is_restored = await call.services.recorder.act(call.log_id, command)
    size, shown = await devices.shown_now(call, name)
    if is_restored and text is not None:
        return respond.json(200, msgspec.structs.replace(shown, secret=text), respond.NO_STORE)
    return respond.changed_resource(shown, size)


async def delete_device(call: Call[Any, None]) -> web.Response:
    """Decommission a device: its secrets end, its history stays."""
    change = commands.WantedChange(DeviceChanged(), decommissioned=True)
    command = commands.change(call.path("device"), change, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, command)
    return respond.no_content()


async def post_secret(call: Call[Any, Rotation]) -> web.Response:
    """Create a new secret for a device; it is shown only this once.

    The earlier secrets end immediately, or after `overlap_s`.
    """
    name = call.path("device")
    text, secret = make_secret(name)
    rotate = commands.rotate_secret(
        secret,
        overlap_s=call.body.overlap_s,
        new_hardware=call.body.new_hardware,
        actor=call.caller.actor,
    )

    async def command(commit: Commit) -> CommandAnswer:
        return CommandAnswer(201, NewSecret(name, text, await rotate(commit)))

    return await respond.run_once(call, command)


_REGISTERED = AnyOf((Registered, ListOf(AnyOf((Registered, ProblemBody)))))

ROUTES = (
    command(
        POST,
        f"{P}/devices",
        post_devices,
        OPERATE,
        query=RegistrationsQuery,
        body=Registration | list[Registration],
        array_items_max=DEVICES_MAX,
        answers={201: _REGISTERED, 200: _REGISTERED},
    ),
    command(
        PATCH, D, patch_device, OPERATE, body=DeviceChange, answers={200: Device}, sends=CHANGED
    ),
    command(DELETE, D, delete_device, OPERATE),
    command(POST, f"{D}/secret", post_secret, OPERATE, body=Rotation, answers={201: NewSecret}),
)
