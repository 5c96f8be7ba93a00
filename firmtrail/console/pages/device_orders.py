"""Changes a device from its page: accept, reject, ask, pin, labels, retry, secret, decommission and
restore."""

import re
from typing import Any

import msgspec
from aiohttp import web

from firmtrail.access.device_secrets import make_secret
from firmtrail.commands import devices as commands
from firmtrail.commands import enrolment, steering
from firmtrail.commands.devices import WantedChange
from firmtrail.commands.once import CommandAnswer
from firmtrail.console import confirm, render
from firmtrail.console.confirm import Confirmation, ConfirmationForm, Figure, FormField
from firmtrail.console.pages.device import DEVICE
from firmtrail.console.rows import OPERATE, PageQuery, action, page
from firmtrail.events.fleet import DeviceChanged
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import device_and_control
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.scalars import NAME_PATTERN, Name, Sha256, VersionText
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules.device import DeviceState, existing_device

ASKED_FOR_S = 86_400
TAGS_MAX = 32

_NAME = re.compile(NAME_PATTERN)


class PinForm(ConfirmationForm, frozen=True, kw_only=True):
    """Names the version of a pin; without one, the pin is removed."""

    version: VersionText | None = None


class RetryForm(ConfirmationForm, frozen=True, kw_only=True):
    """Names the version that a device may try again."""

    version: VersionText


class LabelsForm(ConfirmationForm, frozen=True, kw_only=True):
    """Holds all labels of a device; an empty field removes a label."""

    model: Name | None = None
    cohort: Name | None = None
    tags: str = ""
    """The tags, with spaces or commas between them."""


class AcceptForm(ConfirmationForm, frozen=True, kw_only=True):
    """Names the key that the person saw, so that no other one is accepted."""

    offered: Sha256 | None = None


def seen_of(state: DeviceState) -> str:
    """Returns a text that changes with the device's labels, pin, admission and key."""
    labels = (state.model, state.cohort, state.tags, state.pinned, state.decommissioned)
    return msgspec.json.encode((*labels, state.pending, state.offered_key)).decode()


def tags_of(text: str) -> tuple[str, ...]:
    """Returns the tags of a form's field. Raises `Invalid` with the first one that is no name."""
    tags = tuple(dict.fromkeys(re.split(r"[\s,]+", text.strip()))) if text.strip() else ()
    wrong = next((each for each in tags if not _NAME.match(each)), None)
    if wrong is not None:
        reason = f"{wrong[:64]!r} is not a tag: it needs 1 to 64 letters, digits and . _ -"
        raise invalid_parameter("tags", reason)
    if len(tags) > TAGS_MAX:
        raise invalid_parameter("tags", f"a device has at most {TAGS_MAX} tags")
    return tags


async def _device(call: AnyCall) -> tuple[int, DeviceState]:
    seen, _ = await device_and_control(call, call.path("device"))
    if seen.state is None:
        raise NotFound(f"There is no device {call.path('device')}.")
    return seen.counts.size, seen.state


def _asked(state: DeviceState, **members: Any) -> Confirmation:
    """Returns a confirmation of a change of this device; no change of a device takes a reason."""
    back = ("devices", state.device)
    return Confirmation(back=back, takes_reason=False, nav="devices", **members)


def _pin(state: DeviceState) -> Confirmation:
    return _asked(
        state,
        title=f"Pin {state.device}",
        lead="A pinned device gets this version, up or down, whatever rollouts say. Leave the "
        "field empty to remove the pin.",
        button="Set the pin",
        fields=(
            FormField(
                "version",
                "Version",
                state.pinned or "",
                f"It runs {state.version or 'an unknown version'}.",
            ),
        ),
        is_dangerous=False,
    )


def _labels(state: DeviceState) -> Confirmation:
    return _asked(
        state,
        title=f"Labels of {state.device}",
        lead="Rollouts choose devices by model, cohort and tag.",
        button="Save",
        fields=(
            FormField("model", "Model", state.model or ""),
            FormField("cohort", "Cohort", state.cohort or ""),
            FormField("tags", "Tags", " ".join(state.tags), "With spaces between them."),
        ),
        is_dangerous=False,
    )


def _retry(state: DeviceState) -> Confirmation:
    return _asked(
        state,
        title=f"Let {state.device} try again",
        lead="Its failed attempts at this version are forgotten, so that it is offered again.",
        button="Clear the attempts",
        fields=(FormField("version", "Version", is_required=True),),
        is_dangerous=False,
    )


def _secret(state: DeviceState) -> Confirmation:
    return _asked(
        state,
        title=f"New secret for {state.device}",
        lead="Its present secrets end immediately, and the new one is shown once. Until the device "
        "has it, the device cannot call.",
        button="Make a new secret",
    )


def _decommission(state: DeviceState) -> Confirmation:
    return _asked(
        state,
        title=f"Decommission {state.device}",
        lead="Its secrets end and it is offered nothing more. Its history stays, and it can be "
        "restored with a new secret.",
        button="Decommission it",
        numbers=(Figure("is what it runs", state.version or "unknown"),),
    )


def _restore(state: DeviceState) -> Confirmation:
    return _asked(
        state,
        title=f"Restore {state.device}",
        lead="It comes back with its history, and gets a new secret, which is shown once.",
        button="Restore it",
        is_dangerous=False,
    )


def _accept(state: DeviceState) -> Confirmation:
    key = state.offered_key
    return _asked(
        state,
        title=f"Accept {state.device}",
        lead="It may call, report and get updates from now on. A key that is accepted ends every "
        "earlier credential of the device: compare it with that of the device first.",
        button="Accept it",
        numbers=() if key is None else (Figure("is the SHA-256 of its key", key),),
        hidden={} if key is None else {"offered": key},
        is_dangerous=False,
    )


def _reject(state: DeviceState) -> Confirmation:
    lead = "The device is decommissioned." if state.pending else "The device keeps its present key."
    return _asked(
        state,
        title=f"Reject {state.device if state.pending else f'the key of {state.device}'}",
        lead=lead,
        button="Reject it",
    )


_QUESTIONS = {
    "accept": _accept,
    "reject": _reject,
    "pin": _pin,
    "labels": _labels,
    "retry": _retry,
    "secret": _secret,
    "decommission": _decommission,
    "restore": _restore,
}


async def get_order(call: Call[PageQuery, None]) -> web.Response:
    """Ask to confirm a change of a device."""
    ask_to = _QUESTIONS[call.request.path.rpartition("/")[2]]
    size, state = await _device(call)
    return confirm.page(call, ask_to(state), seen=seen_of(state), size=size)


def _guarded[Answer](call: AnyCall, order: LogCommand[Answer]) -> LogCommand[Answer]:
    """Returns the command with the check that the device is as the person saw it."""
    name, body = call.path("device"), call.body

    async def command(commit: Commit) -> Answer:
        state = existing_device(await commit.devices([name]), name)
        confirm.check_seen(body, seen_of(state))
        return await order(commit)

    return command


async def _change(call: AnyCall, wanted: WantedChange) -> web.Response:
    name = call.path("device")
    change = commands.change(name, wanted, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, _guarded(call, change))
    return render.redirect(call, "devices", name)


async def post_ask(call: AnyCall) -> web.Response:
    """Ask a device which version it runs."""
    name = call.path("device")
    asking = steering.ask(name, expires_in_s=ASKED_FOR_S, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, asking)
    return render.redirect(call, "devices", name)


async def post_acceptance(call: Call[PageQuery, AcceptForm]) -> web.Response:
    """Accept a device that waits, and the key that waits for it."""
    name = call.path("device")
    order = enrolment.accept(name, key=call.body.offered, actor=call.caller.actor)
    return await _decide(call, order)


async def post_rejection(call: Call[PageQuery, ConfirmationForm]) -> web.Response:
    """Reject a device that waits, or the key that waits for it."""
    return await _decide(call, enrolment.reject(call.path("device"), actor=call.caller.actor))


async def _decide(call: AnyCall, order: LogCommand[DeviceState]) -> web.Response:
    """Runs the decision once for the key of its form."""

    async def command(commit: Commit) -> CommandAnswer:
        await _guarded(call, order)(commit)
        return CommandAnswer(200, {})

    await confirm.run(call, call.body.key, command)
    return render.redirect(call, "devices", call.path("device"))


async def post_pin(call: Call[PageQuery, PinForm]) -> web.Response:
    """Pin a device to a version, or remove its pin."""
    return await _change(call, WantedChange(DeviceChanged(pinned=call.body.version)))


async def post_labels(call: Call[PageQuery, LabelsForm]) -> web.Response:
    """Change the model, the cohort and the tags of a device."""
    body = call.body
    labels = DeviceChanged(model=body.model, cohort=body.cohort, tags=tags_of(body.tags))
    return await _change(call, WantedChange(labels))


async def post_retry(call: Call[PageQuery, RetryForm]) -> web.Response:
    """Let a device try a version again."""
    name = call.path("device")
    retry = steering.retry(name, call.body.version, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, retry)
    return render.redirect(call, "devices", name)


async def post_decommission(call: Call[PageQuery, ConfirmationForm]) -> web.Response:
    """Decommission a device."""
    return await _change(call, WantedChange(DeviceChanged(), decommissioned=True))


async def post_restore(call: Call[PageQuery, ConfirmationForm]) -> web.Response:
    """Restore a decommissioned device, and show its new secret once."""
    name = call.path("device")
    text, secret = make_secret(name)
    wanted = WantedChange(DeviceChanged(), decommissioned=False)
    restore = commands.change(name, wanted, secret=secret, actor=call.caller.actor)

    async def command(commit: Commit) -> CommandAnswer:
        before = existing_device(await commit.devices([name]), name)
        await restore(commit)
        return CommandAnswer(200, {"secret": text if before.decommissioned else None})

    return await _shown_once(call, command)


async def post_secret(call: Call[PageQuery, ConfirmationForm]) -> web.Response:
    """Make a new secret for a device, and show it once."""
    text, secret = make_secret(call.path("device"))
    rotate = commands.rotate_secret(secret, actor=call.caller.actor)

    async def command(commit: Commit) -> CommandAnswer:
        await rotate(commit)
        return CommandAnswer(201, {"secret": text})

    return await _shown_once(call, command)


async def _shown_once(call: AnyCall, command: LogCommand[CommandAnswer]) -> web.Response:
    body: Any = await confirm.run(call, call.body.key, command)
    name = call.path("device")
    return render.secret(
        call, "device_secret.html", title=f"Secret of {name}", device=name, secret=body["secret"]
    )


_SHOWS = {200: "text/html"}

ROUTES = (
    action(f"{DEVICE}/ask", post_ask, refusals={409}),
    action(f"{DEVICE}/accept", post_acceptance, form=AcceptForm, refusals={409, 412}),
    action(f"{DEVICE}/reject", post_rejection, form=ConfirmationForm, refusals={409, 412}),
    action(f"{DEVICE}/pin", post_pin, form=PinForm, refusals={409, 412}),
    action(f"{DEVICE}/labels", post_labels, form=LabelsForm, refusals={409, 412}),
    action(f"{DEVICE}/retry", post_retry, form=RetryForm, refusals={409}),
    action(f"{DEVICE}/secret", post_secret, form=ConfirmationForm, answers=_SHOWS, refusals={409}),
    action(f"{DEVICE}/decommission", post_decommission, form=ConfirmationForm, refusals={409, 412}),
    action(
        f"{DEVICE}/restore", post_restore, form=ConfirmationForm, answers=_SHOWS, refusals={409}
    ),
    *(page(f"{DEVICE}/{name}", get_order, OPERATE) for name in _QUESTIONS),
)
