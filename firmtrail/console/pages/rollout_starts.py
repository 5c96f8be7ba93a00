"""Shows the form that starts a rollout, with the numbers and the forecast of a dry run, and starts
it.

The form describes a body of the API, whose own types and rules find what is wrong. Nothing that a
person wrote is lost then: the form comes back with each fault next to its field.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from firmtrail.commands import steering as commands
from firmtrail.commands.once import CommandAnswer
from firmtrail.console import confirm, openings, render, rollout_forms
from firmtrail.console.confirm import FormKey
from firmtrail.console.here import Moment
from firmtrail.console.openings import OpeningsPicture
from firmtrail.console.pages.rollouts import ROLLOUTS, Counts, counts_of
from firmtrail.console.plan_steps import PlanStep, expected_steps
from firmtrail.console.rollout_forms import Texts
from firmtrail.console.rows import OPERATE, PageQuery, action, page
from firmtrail.events.steering import RolloutStarted
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.faults import faults_of
from firmtrail.http.rollout_tries import (
    closed_window,
    first_outlook,
    plan_time,
    unstarted,
    with_approvals,
)
from firmtrail.http.route import Route
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules import control, rollout, version
from firmtrail.rules.control import Control
from firmtrail.rules.device import Refused
from firmtrail.rules.outlook import window_of
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.settings import RolloutWindow

NEW = f"{ROLLOUTS}/start"

FIELDS = (*rollout_forms.SINGLE_FIELDS, *rollout_forms.row_names())
DEFAULTS = {"percent": "10"}

StartQuery = rollout_forms.struct_of("StartQuery", FIELDS, PageQuery)
StartForm = rollout_forms.struct_of("StartForm", FIELDS, FormKey)


class StartResource(NamedTuple):
    """Holds the start of a rollout as the API has it."""

    body: type[msgspec.Struct]
    wanted_of: Callable[[AnyCall, Any], RolloutStarted]
    """Returns the rollout that a body asks for. Raises `Refused`."""


class Tried(NamedTuple):
    """Holds what a rollout would do, if it were approved now in case it needs approval."""

    wanted: RolloutStarted
    counts: Counts
    reached: int
    steps: list[PlanStep]
    doubts: Sequence[str]
    """Why phases may reach too few devices by chance."""
    picture: OpeningsPicture | None
    """The openings of the window that its offers wait for, if there is one."""
    window: RolloutWindow
    closed: Sequence[str]
    """A sentence, if the window is closed when it starts."""


def routes(resource: StartResource) -> tuple[Route, ...]:
    """Returns the routes of the page, made from the resource of the API."""
    shown = _Page(resource)
    return (
        page(NEW, shown.get_start, OPERATE, query=StartQuery),
        action(NEW, shown.post_start, form=StartForm, refusals={409}),
    )


class _Page:
    """Holds the handlers of the page."""

    def __init__(self, resource: StartResource) -> None:
        self._resource = resource

    async def get_start(self, call: Call[Any, None]) -> web.Response:
        """Show the form of a new rollout, and what the rollout that it describes would do."""
        texts = _with_defaults(rollout_forms.asked_texts(call.request.query, FIELDS))
        if not texts["model"] or not texts["version"]:
            return await _shown(call, texts)
        wanted, faults = self._read(call, texts)
        if wanted is None:
            return await _shown(call, texts, faults=faults)
        try:
            return await _shown(call, texts, wanted=await with_approvals(call, wanted))
        except Refused as refused:
            return await _shown(call, texts, faults=_of(refused), status=refused.status)

    async def post_start(self, call: Call[PageQuery, Any]) -> web.Response:
        """Start a rollout."""
        texts = {name: getattr(call.body, name) for name in FIELDS}
        wanted, faults = self._read(call, texts)
        if wanted is None:
            return await _shown(call, texts, faults=faults)
        try:
            start = commands.start(await with_approvals(call, wanted), actor=call.caller.actor)
            return await started(call, call.body.key, start)
        except Refused as refused:
            if not refused.member:
                raise
            return await _shown(call, texts, faults=_of(refused), status=refused.status)

    def _read(self, call: AnyCall, texts: Texts) -> tuple[RolloutStarted | None, dict[str, str]]:
        """Returns the rollout that the fields describe, or the faults by the fields' names."""
        form = rollout_forms.read_start(texts)
        found = faults_of(form.body, self._resource.body)
        faults = rollout_forms.by_field(found, form.rows) | form.faults
        if faults:
            return None, faults
        try:
            body = msgspec.convert(form.body, self._resource.body)
            return self._resource.wanted_of(call, body), {}
        except Refused as refused:
            return None, _of(refused)


def _with_defaults(texts: dict[str, str]) -> dict[str, str]:
    return texts if any(texts[name] for name in rollout_forms.row_names()) else texts | DEFAULTS


def _of(refused: Refused) -> dict[str, str]:
    """Returns the refusal as the fault of the field that it is about, or of the release."""
    return {refused.member or "version": refused.detail}


async def _shown(
    call: AnyCall,
    texts: Texts,
    *,
    wanted: RolloutStarted | None = None,
    faults: dict[str, str] | None = None,
    status: int = HTTPStatus.UNPROCESSABLE_ENTITY,
) -> web.Response:
    """Shows the form with these texts, and next to it what the rollout would do, or the faults."""
    async with consistent_read(call) as now:
        tried = None if wanted is None else await _tried(call, now, wanted)
        releases = offerable(now.control)
    return render.page(
        call,
        "rollout_new.html",
        title="Start a rollout",
        moment=Moment(now.size),
        status=status if faults else HTTPStatus.OK,
        releases=releases,
        **rollout_forms.shown(texts, faults or {}),
        tried=tried,
        key=confirm.new_key(),
    )


async def _tried(call: AnyCall, now: ConsistentRead, wanted: RolloutStarted) -> Tried:
    """Counts the devices of a rollout that is not started. Raises `Refused`."""
    approved = msgspec.structs.replace(wanted, approvals=None, started_by=None)
    found = unstarted(call, control.decide_rollout(now.control, approved))
    counts, at = await counts_of(call, now, found), plan_time(call, now.control)
    reach = found.plan[-1].reach if found.plan else found.reach
    window, start_ms = window_of(now.control, found), found.start_at_ms
    ahead = await first_outlook(call, now, found, counts.matching)
    return Tried(
        wanted,
        counts,
        counts.matching * reach // rollout.BUCKETS,
        expected_steps(found, at, ahead),
        ahead.doubts,
        openings.from_start(window.times, start_ms, at.now_ms) if window.times else None,
        window,
        [*closed_window(now.control, found, max(at.now_ms, start_ms or 0))],
    )


def offerable(found: Control) -> list[ReleaseKey]:
    """Returns the releases that can be offered, by model, the highest version first."""
    keys = [key for key, each in found.releases.items() if not each.is_withdrawn]
    keys.sort(key=lambda key: version.precedence(key.version), reverse=True)
    return sorted(keys, key=lambda key: key.model)


async def started(call: AnyCall, key: str | None, order: LogCommand[RolloutState]) -> web.Response:
    """Starts a rollout or a recall once for the key of the form, and leads to its page."""

    async def command(commit: Commit) -> CommandAnswer:
        return CommandAnswer(201, {"rollout": (await order(commit)).id})

    body = await confirm.run(call, key, command)
    return render.redirect(call, "rollouts", body["rollout"])
