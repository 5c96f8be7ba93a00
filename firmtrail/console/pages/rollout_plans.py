"""Shows the form that changes the plan of a rollout, with the forecast of the new one, and changes
it."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from firmtrail.commands import steering as commands
from firmtrail.console import confirm, places, render, rollout_forms
from firmtrail.console.confirm import ConfirmationForm
from firmtrail.console.here import Moment
from firmtrail.console.pages.rollout_orders import obey, seen_of
from firmtrail.console.pages.rollouts import ROLLOUT, Counts, counts_of
from firmtrail.console.plan_steps import PlanStep, steps
from firmtrail.console.rollout_forms import Texts
from firmtrail.console.rows import OPERATE, PageQuery, action, page
from firmtrail.events.event import Recorded
from firmtrail.events.steering import PlanPhase, RolloutPlanChanged
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.faults import faults_of
from firmtrail.http.rollout_tries import plan_time, planned_with_approvals
from firmtrail.http.rollouts import name_of, rollout_of
from firmtrail.http.route import Route
from firmtrail.rules import phases, rollout, rollout_decisions
from firmtrail.rules.device import Refused
from firmtrail.rules.outlook import outlook
from firmtrail.rules.rollout import RolloutState, stream

PLAN = f"{ROLLOUT}/plan"

FIELDS = tuple(rollout_forms.row_names())
PlanQuery = rollout_forms.struct_of("PlanQuery", FIELDS, PageQuery)
PlanForm = rollout_forms.struct_of("PlanForm", FIELDS, ConfirmationForm)


class PlanResource(NamedTuple):
    """Holds the plan of a rollout as the API has it."""

    body: type[msgspec.Struct]
    """A body with the member `plan`."""
    phases_of: Callable[[Any], tuple[PlanPhase, ...]]
    """Returns the phases of that member as events hold them."""


class TriedPlan(NamedTuple):
    """Holds a rollout as it would be with the new plan, if that were approved now."""

    steps: list[PlanStep]
    doubts: Sequence[str]
    """Why phases may reach too few devices by chance."""
    approvals: int


def routes(resource: PlanResource) -> tuple[Route, ...]:
    """Returns the routes of the page, made from the resource of the API."""
    shown = _Page(resource)
    return (
        page(PLAN, shown.get_plan, OPERATE, query=PlanQuery, refusals={409}),
        action(PLAN, shown.post_plan, form=PlanForm, refusals={409, 412}),
    )


class _Page:
    """Holds the handlers of the page."""

    def __init__(self, resource: PlanResource) -> None:
        self._resource = resource

    async def get_plan(self, call: Call[Any, None]) -> web.Response:
        """Show the form of a changed plan, and what the rollout would do with it."""
        texts = rollout_forms.asked_texts(call.request.query, FIELDS)
        if not any(texts.values()):
            return await _shown(call, None)
        wanted, faults = self._read(texts)
        if faults:
            return await _shown(call, texts, faults=faults)
        event = await planned_with_approvals(call, call.path("id"), wanted)
        try:
            return await _shown(call, texts, event=event)
        except Refused as refused:
            return await _shown(call, texts, faults={"percent": refused.detail}, refused=refused)

    async def post_plan(self, call: Call[PageQuery, Any]) -> web.Response:
        """Change the plan of a rollout."""
        body, name = call.body, call.path("id")
        texts = {each: getattr(body, each) for each in FIELDS}
        confirm.check_reason(body)
        wanted, faults = self._read(texts)
        if faults:
            return await _shown(call, texts, faults=faults)
        event = await planned_with_approvals(call, name, wanted)
        actor = call.caller.actor
        change = commands.change_plan(name, reason=body.reason, actor=actor, wanted=event)
        return await obey(call, change)

    def _read(self, texts: Texts) -> tuple[tuple[PlanPhase, ...], dict[str, str]]:
        """Returns the phases that the fields describe, and the faults by the fields' names."""
        form = rollout_forms.read_plan(texts)
        found = faults_of(form.body, self._resource.body)
        faults = rollout_forms.by_field(found, form.rows) | form.faults
        if faults:
            return (), faults
        body: Any = msgspec.convert(form.body, self._resource.body)
        return self._resource.phases_of(body.plan), {}


async def _shown(
    call: AnyCall,
    texts: Texts | None,
    *,
    event: RolloutPlanChanged | None = None,
    faults: dict[str, str] | None = None,
    refused: Refused | None = None,
) -> web.Response:
    """Shows the form with these texts, or with the phases that have not begun. It also says what
    the rollout would do, or what is wrong."""
    async with consistent_read(call) as now:
        found = rollout_of(call, now.control)
        seen, counts = seen_of(now.control, found), await counts_of(call, now, found)
        tried = None if event is None else await _tried(call, now, event, counts)
    status = HTTPStatus.UNPROCESSABLE_ENTITY if refused is None else refused.status
    at = plan_time(call, now.control)
    texts = _present(found, rollout.begun_phases(found, at.now_ms)) if texts is None else texts
    return render.page(
        call,
        "rollout_plan.html",
        title=f"Plan of the {name_of(found)}",
        moment=Moment(now.size),
        status=status if faults else HTTPStatus.OK,
        rollout=found,
        reach=rollout.reach_at(found, at),
        counts=counts,
        **rollout_forms.shown(texts, faults or {}),
        tried=tried,
        seen=seen,
        key=confirm.new_key(),
    )


def _present(found: RolloutState, begun: int) -> dict[str, str]:
    """Returns the fields of the phases that have not begun."""
    return dict.fromkeys(FIELDS, "") | rollout_forms.texts_of_phases(found.plan[begun:])


async def _tried(
    call: AnyCall, now: ConsistentRead, event: RolloutPlanChanged, counts: Counts
) -> TriedPlan:
    """Returns the rollout with the changed plan. Raises `Refused`."""
    found, at = rollout_of(call, now.control), plan_time(call, now.control)
    rollout_decisions.decide_plan_change(found, event, at)
    orders = await places.orders(call, now, stream(found.id))
    past = [each.recorded for each in reversed(orders)]
    approved = msgspec.structs.replace(event, approvals=None, changed_by=None)
    change = Recorded(now.size, at.now_ms, stream(found.id), "", "", approved)
    then = phases.past([*past, change], at)
    seen = await counts.seen(now, call.log_id, then.state)
    ahead = outlook(now.control, then.state, at, seen)
    lines = steps(then.state, at, then.times, ahead)
    return TriedPlan(lines, ahead.doubts, event.approvals or 0)
