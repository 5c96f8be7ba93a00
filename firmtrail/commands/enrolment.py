"""Makes the commands on devices that join: register them, offer a key, accept and reject.

Each runs inside one commit of the project's log, so the number of devices that a token registered
is exact. `rules/enrolment.py` decides.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.access import credentials, device_secrets, seen, tokens
from firmtrail.access.device_secrets import SealedSecret, insert_secrets, revoke_secrets
from firmtrail.commands.devices import never_seen
from firmtrail.database.database import Statement
from firmtrail.events.event import Event
from firmtrail.events.fleet import DeviceDecommissioned, DeviceKeyAccepted, DeviceKeyOffered
from firmtrail.eventstore import log
from firmtrail.projections import device_current
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules import enrolment
from firmtrail.rules.device import DeviceState, Refused, existing_device

ALONE_MAX = 10_000
"""No device joins without a token once the project has this many, so strangers fill no log."""


class Joiner(NamedTuple):
    """Names the caller through which devices join."""

    actor: str
    token_id: str | None = None
    """The token that registers the devices; None: it registers none."""
    may_name: bool = True
    """Whether it may act for devices that exist."""


def key_digest(key: str) -> str:
    """Returns the form in which a device's key is stored among its secrets, given the SHA-256 of
    the key. It is the digest of no text."""
    return f"{device_secrets.KEY}{key}"


def join(names: Sequence[str], joiner: Joiner) -> LogCommand[None]:
    """Registers those of these devices that the project does not know. Raises `Refused` if they may
    not join."""

    async def command(commit: Commit) -> None:
        states = await commit.devices(names)
        await _register(commit, [name for name in names if name not in states], joiner)

    return command


async def _register(commit: Commit, unknown: Sequence[str], joiner: Joiner) -> None:
    if not unknown:
        return
    setting, model = commit.draft.control.settings.enrolment, None
    if joiner.token_id is not None:
        model = await _taken(commit, joiner.token_id, len(unknown))
    else:
        await _check_room(commit)
    event = enrolment.decide_joining(setting, model, is_named=joiner.token_id is not None)
    for name in unknown:
        commit.draft.record(f"device/{name}", event, actor=joiner.actor)


async def _check_room(commit: Commit) -> None:
    [[[devices]]] = await commit.run(device_current.count_to(commit.draft.log_id, ALONE_MAX))
    if devices >= ALONE_MAX:
        raise Refused(
            "enrolment_closed",
            f"The project has {ALONE_MAX} devices: further ones join only through a token.",
            status=403,
        )


async def _taken(commit: Commit, token_id: str, devices: int) -> str | None:
    """Counts the devices that the token registers, and returns the model that they get."""
    draft = commit.draft
    [rows] = await commit.run(tokens.take_places(draft.project, token_id, devices, draft.now_ms))
    if not rows:
        raise Refused(
            "registers_max",
            "The token registers no more devices: it has registered as many as it may.",
            status=403,
        )
    model: str | None = rows[0][0]
    return model


def offer_key(name: str, key: str, joiner: Joiner) -> LogCommand[bool]:
    """Offers a public key, by its SHA-256, as the device's own; returns whether it is accepted,
    which counts as a call of the device. An unknown device is registered. Raises `Refused`."""

    async def command(commit: Commit) -> bool:
        draft = commit.draft
        enrolment.check_offer(draft.control.settings.enrolment, is_named=joiner.may_name)
        is_new = name not in await commit.devices([name])
        if is_new:
            await _register(commit, [name], joiner)
        is_first = is_new or (joiner.may_name and await _takes_first_key(commit, name))
        state, secret_id = draft.fold.states[name], credentials.new_id("k")
        replaces = joiner.may_name and await _waits_alone(commit, state)
        event = enrolment.decide_key(state, key, secret_id, is_first=is_first, replaces=replaces)
        match event:
            case DeviceKeyOffered() if not joiner.may_name:
                await _record_alone(commit, name, event, joiner.actor)
            case DeviceKeyOffered() | DeviceKeyAccepted():
                await _record(commit, name, [event], joiner.actor)
        is_accepted = isinstance(event, DeviceKeyAccepted)
        if is_accepted:
            await commit.run(seen.called([(draft.project, name, draft.now_ms)]))
        return is_accepted

    return command


def alone_id(key: str) -> str:
    """Returns the id of the event of a key that is offered without a token. It is the same each
    time that this key is offered for the device, so one look-up finds out whether it was."""
    return f"s.alone.{key}"


def find_alone(log_id: int, name: str, key: str) -> Statement:
    """Finds out whether this key was offered for the device without a token, in this log."""
    return log.find(log_id, [(f"device/{name}", alone_id(key))])


async def _waits_alone(commit: Commit, state: DeviceState) -> bool:
    """Returns whether a key waits for which nobody vouched."""
    if state.offered_key is None:
        return False
    [found] = await commit.run(find_alone(commit.draft.log_id, state.device, state.offered_key))
    return bool(found)


async def _record_alone(commit: Commit, name: str, event: DeviceKeyOffered, actor: str) -> None:
    """Records that a key was offered without a token. If the same key was offered so before, an
    earlier event has the id of `alone_id` already, and the new event gets another one."""
    [found] = await commit.run(find_alone(commit.draft.log_id, name, event.key))
    event_id = None if found else alone_id(event.key)
    commit.draft.record(f"device/{name}", event, actor=actor, event_id=event_id)


async def _takes_first_key(commit: Commit, name: str) -> bool:
    """Returns whether the device never authenticated, and has no key that it could."""
    [keys] = await commit.run(device_secrets.keys_of(commit.draft.project, name))
    return not keys and bool(await never_seen(commit, [name]))


def accept(name: str, *, key: str | None = None, actor: str) -> LogCommand[DeviceState]:
    """Accepts a device that waits, and the key that waits for it. Raises `Refused`."""

    async def command(commit: Commit) -> DeviceState:
        state = existing_device(await commit.devices([name]), name)
        events = enrolment.decide_acceptance(state, key, credentials.new_id("k"))
        return await _record(commit, name, events, actor)

    return command


def reject(name: str, *, actor: str) -> LogCommand[DeviceState]:
    """Decommissions a device that waits, or refuses the key that waits for it. Raises `Refused`."""

    async def command(commit: Commit) -> DeviceState:
        state = existing_device(await commit.devices([name]), name)
        return await _record(commit, name, [enrolment.decide_rejection(state)], actor)

    return command


async def _record(commit: Commit, name: str, events: Sequence[Event], actor: str) -> DeviceState:
    """Records events of the device, and changes its secrets as they say."""
    project, now_ms = commit.draft.project, commit.draft.now_ms
    for event in events:
        commit.draft.record(f"device/{name}", event, actor=actor)
        if isinstance(event, DeviceKeyAccepted | DeviceDecommissioned):
            await commit.run(revoke_secrets(project, name))
        if isinstance(event, DeviceKeyAccepted):
            accepted = SealedSecret(name, event.secret_id, key_digest(event.key))
            await commit.run(insert_secrets(project, [accepted], now_ms))
    return commit.draft.fold.states[name]
