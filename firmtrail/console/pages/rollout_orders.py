"""Shows the confirmations of orders to a rollout, and gives the orders: advance, pause, resume,
abort."""

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import NamedTuple

import msgspec
from aiohttp import web

from firmtrail.commands import steering as commands
from firmtrail.commands.once import CommandAnswer
from firmtrail.console import confirm, render
from firmtrail.console.confirm import Confirmation, ConfirmationForm, Figure, FormField
from firmtrail.console.pages.rollouts import ROLLOUT, counts_of
from firmtrail.console.percentages import PercentText, hundredths
from firmtrail.console.rows import OPERATE, PageQuery, action, page
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import consistent_read
from firmtrail.http.errors import NotFound
from firmtrail.http.rollout_tries import plan_time
from firmtrail.http.rollouts import CommandMaker, name_of, person_of, reach_of, rollout_of
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules.control import Control, is_over
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.rollout_decisions import decide_advance


class OrderForm(ConfirmationForm, frozen=True, kw_only=True):
    """Holds the fields of an order; only an advance has a percentage."""

    percent: PercentText | None = None


class OrderKind(NamedTuple):
    """Describes an order: the words of its page, and the command."""

    lead: str
    button: str
    is_dangerous: bool
    make: CommandMaker | None
    """None: the command needs more than a reason."""


KINDS: Mapping[str, OrderKind] = {
    "advance": OrderKind(
        "It reaches more of its devices. A rollout only grows: this cannot be taken back, but the "
        "rollout can be paused.",
        "Advance",
        False,  # noqa: FBT003
        None,
    ),
    "pause": OrderKind(
        "Nothing more is offered until somebody resumes it. Devices that have begun may finish.",
        "Pause",
        False,  # noqa: FBT003
        commands.pause,
    ),
    "resume": OrderKind(
        "It offers its version again. The failures so far no longer count towards pausing it.",
        "Resume",
        False,  # noqa: FBT003
        commands.resume,
    ),
    "approve": OrderKind(
        "It begins once as many members have approved it as the project asks for. The member that "
        "started it cannot approve it.",
        "Approve",
        False,  # noqa: FBT003
        None,
    ),
    "reject": OrderKind(
        "It ends for good, before it offered anything.",
        "Reject",
        True,  # noqa: FBT003
        None,
    ),
    "abort": OrderKind(
        "It ends for good and decides nothing any more. Devices keep what they run: to send them "
        "back, recall the release instead.",
        "Abort",
        True,  # noqa: FBT003
        commands.abort,
    ),
}


def kind_of(call: AnyCall) -> str:
    """Returns the order that the path names. Raises `NotFound`."""
    name = call.path("order")
    if name not in KINDS:
        raise NotFound("There is no such order.")
    return name


def seen_of(control: Control, found: RolloutState) -> str:
    """Returns a text that changes with each order to the rollout."""
    plan = sha256(msgspec.json.encode(found.plan)).hexdigest()[:16]
    is_withdrawn = is_over(control, found)
    return f"{is_withdrawn} {found.phase_position} {found.reach} {len(found.approved_by)} {plan}"


class AdvanceTerms(NamedTuple):
    """Holds what the page of an advance says and asks in addition to what the other orders do."""

    says: str
    fields: Sequence[FormField] = ()
    hidden: Mapping[str, str] = {}


NOTHING_MORE = AdvanceTerms("")


def _advance_of(call: AnyCall, control: Control, found: RolloutState) -> AdvanceTerms:
    """Returns what an advance needs: the next phase of the plan, as the person sees it, or without
    a plan a percentage. Raises `Refused` in the last phase."""
    if found.plan:
        after = decide_advance(found, None, plan_time(call, control)).reach
        percent = f"{after / 100:g}"
        says = f"The next phase of its plan begins now, and reaches {percent} %."
        return AdvanceTerms(says, hidden={"percent": percent})
    reach = reach_of(call, control, found)
    hint = f"It reaches {reach / 100:g} % now; give a higher percentage."
    return AdvanceTerms(
        "", [FormField("percent", "Percent of its devices", hint=hint, is_required=True)]
    )


async def get_order(call: Call[PageQuery, None]) -> web.Response:
    """Ask to confirm an order to a rollout, with its numbers."""
    name = kind_of(call)
    kind = KINDS[name]
    async with consistent_read(call) as now:
        found = rollout_of(call, now.control)
        counts = await counts_of(call, now, found)
        seen = seen_of(now.control, found)
        more = _advance_of(call, now.control, found) if name == "advance" else NOTHING_MORE
    figures = [Figure("devices match", counts.matching, of_one="device matches")]
    figures += [Figure(state.replace("_", " "), n) for state, n in counts.states.items()]
    asked = Confirmation(
        title=f"{kind.button} the {name_of(found)}",
        lead=f"{kind.lead} {more.says}".rstrip(),
        button=kind.button,
        back=("rollouts", found.id),
        numbers=figures,
        fields=more.fields,
        hidden=more.hidden,
        needs_reason=name == "reject",
        is_dangerous=kind.is_dangerous,
    )
    return confirm.page(call, asked, seen=seen, size=now.size)


def _maker(call: Call[PageQuery, OrderForm]) -> CommandMaker:
    """Returns the maker of a command that needs more than a reason."""
    match kind_of(call):
        case "approve":
            return partial(commands.approve, person=person_of(call))
        case "reject":
            confirm.check_reason(call.body, is_needed=True)
            return partial(commands.reject, person=person_of(call))
    return partial(commands.advance, reach=hundredths(call.body.percent))


async def post_order(call: Call[PageQuery, OrderForm]) -> web.Response:
    """Give an order to a rollout."""
    kind, body, name = KINDS[kind_of(call)], call.body, call.path("id")
    confirm.check_reason(body)
    make = kind.make or _maker(call)
    order = make(name, reason=body.reason, actor=call.caller.actor)
    return await obey(call, order)


async def obey(call: AnyCall, order: LogCommand[RolloutState]) -> web.Response:
    """Gives an order to the rollout of the path, once for the key of its form, if the rollout is as
    the person saw it; and leads to its page."""

    async def command(commit: Commit) -> CommandAnswer:
        control = commit.draft.control
        confirm.check_seen(call.body, seen_of(control, rollout_of(call, control)))
        await order(commit)
        return CommandAnswer(200, {})

    await confirm.run(call, call.body.key, command)
    return render.redirect(call, "rollouts", call.path("id"))


ROUTES = (
    page(f"{ROLLOUT}/{{order}}", get_order, OPERATE, refusals={409}),
    action(f"{ROLLOUT}/{{order}}", post_order, form=OrderForm, refusals={409, 412}),
)
