"""What users call to change devices: register, change, decommission, restore, new secrets.

Secrets are made and sealed before the commit, as that may take a slow hash; each is shown once, in
the answer to the very request that made it.
"""

from collections.abc import Sequence
from itertools import batched
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET

from firmtrail.access import NewSecret, new_secret, seal
from firmtrail.commands import devices as commands
from firmtrail.commands.devices import Registered
from firmtrail.commands.once import Answer
from firmtrail.events.fleet import DeviceChanged
from firmtrail.http import answers, bodies, errors, fleet_api, respond
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import Invalid
from firmtrail.http.pace import Pace
from firmtrail.recording.commit import Commit
from firmtrail.rules.device import Refused

SEALED_TOGETHER = 200

type RegisterCall = Call[bodies.RegistrationsQuery, bodies.Registration | list[bodies.Registration]]


async def post_devices(call: RegisterCall) -> web.Response:
    """Register one device, or many in one commit; an existing one is refused in its place."""
    is_array = isinstance(call.body, list)
    wanted = call.body if isinstance(call.body, list) else [call.body]
    _check_distinct(wanted)
    texts, registrations = await _with_secrets(call, wanted)
    register = commands.register(
        registrations,
        reissue_never_seen=call.query.reissue is not None,
        actor=call.caller.actor,
    )
    shown = {each.device: texts[each.device] for each in wanted if each.secret is None}

    async def command(commit: Commit) -> Answer:
        outcomes = await register(commit)
        if not is_array:
            return _registered_one(outcomes[0], shown)
        return await _registered_many(call, outcomes, shown)

    return await respond.run_once(call, command)


async def _with_secrets(
    call: AnyCall, wanted: Sequence[bodies.Registration]
) -> tuple[dict[str, str], list[commands.Registration]]:
    """The secrets by device, and what is to be registered, with the secrets sealed."""
    texts: dict[str, str] = {}
    registrations: list[commands.Registration] = []
    pace = Pace()
    for some in batched(wanted, SEALED_TOGETHER):
        made = {each.device: each.secret or new_secret() for each in some}
        sealed = await seal(call.services.access.hasher, list(made.items()), call.lane)
        registrations += [
            commands.Registration(secret, each.model, each.cohort, tuple(dict.fromkeys(each.tags)))
            for secret, each in zip(sealed, some, strict=True)
        ]
        texts |= made
        if pace.is_due():
            await pace.pause()
    return texts, registrations


def _check_distinct(wanted: Sequence[bodies.Registration]) -> None:
    names: set[str] = set()
    faults = []
    for index, each in enumerate(wanted):
        if each.device in names:
            faults.append(errors.Fault("stands twice in this array", f"/{index}/device"))
        names.add(each.device)
    if faults:
        raise Invalid("A device stands twice in this array.", faults=faults)


def _registered_one(outcome: Registered | Refused, shown: dict[str, str]) -> Answer:
    if isinstance(outcome, Refused):
        raise outcome
    return Answer(201 if outcome.is_new else 200, _registered(outcome, shown))


async def _registered_many(
    call: AnyCall, outcomes: Sequence[Registered | Refused], shown: dict[str, str]
) -> Answer:
    is_any_new = any(isinstance(each, Registered) and each.is_new for each in outcomes)
    items: list[errors.ProblemBody | answers.Registered] = []
    pace = Pace()
    for each in outcomes:
        if isinstance(each, Refused):
            items.append(errors.problem_body(errors.refusal(each), call.request_id))
        else:
            items.append(_registered(each, shown))
        if pace.is_due():
            await pace.pause()
    return Answer(201 if is_any_new else 200, items)


def _registered(outcome: Registered, shown: dict[str, str]) -> answers.Registered:
    state = outcome.state
    return answers.Registered(
        device=state.device,
        model=state.model,
        cohort=state.cohort,
        tags=state.tags,
        secret=shown.get(state.device, UNSET),
    )


async def patch_device(call: Call[Any, bodies.DeviceChange]) -> web.Response:
    """Change what is known of a device; If-Match holds against every other change."""
    name, wanted = call.path("device"), call.body
    text = new_secret() if wanted.decommissioned is False else None
    secret = None if text is None else await _sealed(call, name, text)
    tags = wanted.tags if wanted.tags is UNSET else tuple(dict.fromkeys(wanted.tags))
    change = commands.Change(
        DeviceChanged(wanted.model, wanted.cohort, tags, wanted.pinned), wanted.decommissioned
    )
    apply = commands.change(name, change, secret=secret, actor=call.caller.actor)

    async def command(commit: Commit) -> bool:
        before = (await commit.devices([name])).get(name)
        await _check_match(call, name)
        after = await apply(commit)
        return before is not None and before.decommissioned and not after.decommissioned

    is_restored = await call.services.recorder.act(call.log_id, command)
    size, body = await fleet_api.shown_now(call, name)
    if is_restored and text is not None:
        return respond.json(200, msgspec.structs.replace(body, secret=text), respond.NO_STORE)
    return respond.changed_resource(body, size)


async def _check_match(call: AnyCall, name: str) -> None:
    """The commit holds the log's head, so nothing can change between this read and its end."""
    if "If-Match" in call.request.headers:
        _, body = await fleet_api.shown_now(call, name)
        respond.check_match(call, body)


async def delete_device(call: Call[Any, None]) -> web.Response:
    """Decommission a device: its secrets are dead, its history stays."""
    change = commands.Change(DeviceChanged(), decommissioned=True)
    command = commands.change(call.path("device"), change, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, command)
    return respond.no_content()


async def post_secret(call: Call[Any, bodies.Rotation]) -> web.Response:
    """A new secret for a device; the ones before it die immediately, or after `overlap_s`."""
    name, text = call.path("device"), new_secret()
    rotate = commands.rotate_secret(
        await _sealed(call, name, text),
        overlap_s=call.body.overlap_s,
        new_hardware=call.body.new_hardware,
        actor=call.caller.actor,
    )

    async def command(commit: Commit) -> Answer:
        return Answer(201, answers.NewSecret(name, text, await rotate(commit)))

    return await respond.run_once(call, command)


async def _sealed(call: AnyCall, name: str, text: str) -> NewSecret:
    [secret] = await seal(call.services.access.hasher, [(name, text)], call.lane)
    return secret
