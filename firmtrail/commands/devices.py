"""Makes the commands on devices: register, change, decommission and restore, rotate a secret.

Each runs inside one commit of the project's log: the event, the view and the secret's row are
written together or not at all. Secrets come in sealed (access/device_secrets.py), since sealing may
take a slow hash, which has no place in a transaction.
"""

from collections.abc import Awaitable, Callable, Sequence
from itertools import batched
from typing import NamedTuple

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from firmtrail.access import seen
from firmtrail.access.device_secrets import SealedSecret, insert_secrets, revoke_secrets
from firmtrail.events.fleet import DeviceChanged, DeviceRegistered, DeviceSecretIssued
from firmtrail.events.times import time_text
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules import device
from firmtrail.rules.device import DeviceState, Refused

PIECE_DEVICES = 250
"""The number of devices that are registered before other tasks get the event loop."""


class DeviceRegistration(NamedTuple):
    """Holds a device to register, with its first secret."""

    secret: SealedSecret
    attributes: DeviceRegistered = DeviceRegistered()

    @property
    def device(self) -> str:
        return self.secret.device


class RegisteredDevice(NamedTuple):
    """Holds the device after its registration; `is_new` is False if it only got a new secret."""

    state: DeviceState
    is_new: bool


class WantedChange(NamedTuple):
    """Holds the changes that are wanted of a device."""

    attributes: DeviceChanged
    decommissioned: bool | UnsetType = UNSET


def register(
    registrations: Sequence[DeviceRegistration], *, actor: str
) -> LogCommand[list[RegisteredDevice | Refused]]:
    """Registers devices; one that exists is refused in its place, and the others are not."""
    return _registering(registrations, _none, actor)


def register_or_reissue(
    registrations: Sequence[DeviceRegistration], *, actor: str
) -> LogCommand[list[RegisteredDevice | Refused]]:
    """Registers devices as `register` does, but gives the new secret to an existing device that
    never authenticated; its old secret ends. It helps if the answer with the secrets was lost."""
    return _registering(registrations, never_seen, actor)


def _registering(
    registrations: Sequence[DeviceRegistration],
    reissued: Callable[[Commit, Sequence[str]], Awaitable[frozenset[str]]],
    actor: str,
) -> LogCommand[list[RegisteredDevice | Refused]]:
    """Returns a command that registers devices in pieces. `reissued` returns those of the existing
    devices that get a new secret."""

    async def command(commit: Commit) -> list[RegisteredDevice | Refused]:
        outcomes: list[RegisteredDevice | Refused] = []
        for some in batched(registrations, PIECE_DEVICES):
            if outcomes:
                await commit.flush()
            names = [one.device for one in some]
            states = await commit.devices(names)
            unseen = await reissued(commit, [name for name in names if name in states])
            outcomes += await _register_some(commit, some, unseen, actor)
        return outcomes

    return command


async def _none(_commit: Commit, _devices: Sequence[str]) -> frozenset[str]:
    return frozenset()


async def _register_some(
    commit: Commit, some: Sequence[DeviceRegistration], unseen: frozenset[str], actor: str
) -> list[RegisteredDevice | Refused]:
    outcomes = [_register(commit, one, unseen, actor) for one in some]
    issued = [
        one.secret
        for one, outcome in zip(some, outcomes, strict=True)
        if isinstance(outcome, RegisteredDevice)
    ]
    reissued = [
        revoke_secrets(commit.draft.project, outcome.state.device)
        for outcome in outcomes
        if isinstance(outcome, RegisteredDevice) and not outcome.is_new
    ]
    await commit.run(*reissued, insert_secrets(commit.draft.project, issued, commit.draft.now_ms))
    return outcomes


def _register(
    commit: Commit, one: DeviceRegistration, unseen: frozenset[str], actor: str
) -> RegisteredDevice | Refused:
    state = commit.draft.fold.states.get(one.device)
    stream = f"device/{one.device}"
    if state is not None and one.device in unseen and not state.decommissioned:
        commit.draft.record(stream, DeviceSecretIssued(one.secret.secret_id), actor=actor)
        return RegisteredDevice(state, is_new=False)
    wanted = replace(one.attributes, secret_id=one.secret.secret_id)
    try:
        event = device.decide_registration(state, wanted, one.device)
    except Refused as refused:
        return refused
    commit.draft.record(stream, event, actor=actor)
    return RegisteredDevice(commit.draft.fold.states[one.device], is_new=True)


async def never_seen(commit: Commit, devices: Sequence[str]) -> frozenset[str]:
    """Returns those of these existing devices that never made an authenticated call. The first call
    of each of them waits until this commit ends, and is then refused."""
    silent = [name for name in devices if commit.draft.fold.states[name].recorded_position is None]
    if not silent:
        return frozenset()
    [rows] = await commit.run(seen.claim_never_seen(commit.draft.project, silent))
    return frozenset(name for (name,) in rows)


def change(
    name: str, wanted: WantedChange, *, secret: SealedSecret | None = None, actor: str
) -> LogCommand[DeviceState]:
    """Changes a device's attributes, decommissions it, or restores it with a new `secret`. Records
    nothing if nothing would change. Raises `Refused`."""

    async def command(commit: Commit) -> DeviceState:
        state = device.existing_device(await commit.devices([name]), name)
        events = device.decide_change(state, *wanted)
        for event in events:
            commit.draft.record(f"device/{name}", event, actor=actor)
        after = commit.draft.fold.states[name]
        if after.decommissioned != state.decommissioned:
            await commit.run(revoke_secrets(commit.draft.project, name))
            if not after.decommissioned:
                assert secret is not None, "a device is restored with a secret"
                issued = DeviceSecretIssued(secret.secret_id, new_counting=True)
                await _issue(commit, secret, issued, actor)
        return after

    return command


def rotate_secret(
    secret: SealedSecret, *, overlap_s: int = 0, new_hardware: bool = False, actor: str
) -> LogCommand[str | None]:
    """Issues a further secret; returns the time until which earlier ones stay valid, None if they
    end immediately. With `new_hardware`, the device begins a new counting."""

    async def command(commit: Commit) -> str | None:
        device.active_device(await commit.devices([secret.device]), secret.device)
        until_ms = commit.draft.now_ms + overlap_s * 1000 if overlap_s else None
        until = None if until_ms is None else time_text(until_ms)
        await commit.run(revoke_secrets(commit.draft.project, secret.device, until_ms))
        issued = DeviceSecretIssued(secret.secret_id, until, new_counting=new_hardware)
        await _issue(commit, secret, issued, actor)
        return until

    return command


async def _issue(
    commit: Commit, secret: SealedSecret, issued: DeviceSecretIssued, actor: str
) -> None:
    commit.draft.record(f"device/{secret.device}", issued, actor=actor)
    await commit.run(insert_secrets(commit.draft.project, [secret], commit.draft.now_ms))
