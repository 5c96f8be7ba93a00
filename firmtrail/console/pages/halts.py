"""Halts a project, which stops its offers, and ends the halt."""

from aiohttp import web

from firmtrail.commands import steering as commands
from firmtrail.console import confirm, render
from firmtrail.console.confirm import Choice, Confirmation, ConfirmationForm, Figure
from firmtrail.console.rows import OPERATE, PROJECT, PageQuery, action, page
from firmtrail.http.call import Call
from firmtrail.http.decisions import consistent_read
from firmtrail.http.rollouts import under_way
from firmtrail.projections import fleet_versions

HALT = f"{PROJECT}/halt"
RESUME = f"{PROJECT}/resume"


class HaltQuery(PageQuery, frozen=True, kw_only=True):
    """Chooses whether recalls stop too."""

    all: bool = False


class HaltForm(ConfirmationForm, frozen=True, kw_only=True):
    """Halts all but recalls, or everything."""

    all: bool = False


async def get_halt(call: Call[HaltQuery, None]) -> web.Response:
    """Ask to confirm the halt of the project, with the numbers."""
    is_all = call.query.all
    async with consistent_read(call) as now:
        _, counts = await fleet_versions.counts(now.reader, call.log_id)
        rollouts = [*under_way(call, now.control)]
    devices = sum(each.devices for each in counts)
    asked = _halt_of(call.project, devices, len(rollouts), is_all=is_all)
    return confirm.page(call, asked, size=now.size)


def _halt_of(project: str, devices: int, rollouts: int, *, is_all: bool) -> Confirmation:
    stopped = Figure(
        "devices are offered nothing",
        devices,
        "bad",
        of_one="device is offered nothing",
    )
    running = Figure(
        "rollouts and recalls are under way", rollouts, of_one="rollout or recall is under way"
    )
    return Confirmation(
        title=f"Halt {project}",
        lead="Every device that asks is offered nothing, until somebody ends the halt. Devices "
        "that have begun an update may finish it."
        + ("" if is_all else " Recalls continue, so that devices leave a bad version."),
        button="Halt everything" if is_all else "Halt all but recalls",
        back=(),
        numbers=(stopped, running),
        choices=(
            Choice("all but recalls", {"all": None}, not is_all),
            Choice("everything, recalls too", {"all": "true"}, is_all),
        ),
        choices_label="Halt:",
        hidden={"all": "true"} if is_all else {},
        nav="fleet",
    )


async def post_halt(call: Call[PageQuery, HaltForm]) -> web.Response:
    """Halt the project."""
    body = call.body
    confirm.check_reason(body)
    halt = commands.halt(body.reason, is_all=body.all, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, halt)
    return render.redirect(call)


async def get_resume(call: Call[PageQuery, None]) -> web.Response:
    """Ask to confirm the end of the halt."""
    async with consistent_read(call) as now:
        rollouts = [*under_way(call, now.control)]
    asked = Confirmation(
        title=f"End the halt of {call.project}",
        lead="Devices that ask are offered versions again.",
        button="End the halt",
        back=(),
        numbers=(
            Figure(
                "rollouts and recalls continue",
                len(rollouts),
                of_one="rollout or recall continues",
            ),
        ),
        is_dangerous=False,
        nav="fleet",
    )
    return confirm.page(call, asked, size=now.size)


async def post_resume(call: Call[PageQuery, ConfirmationForm]) -> web.Response:
    """End the halt of the project."""
    confirm.check_reason(call.body)
    end = commands.end_halt(call.body.reason, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, end)
    return render.redirect(call)


ROUTES = (
    page(HALT, get_halt, OPERATE, query=HaltQuery),
    action(HALT, post_halt, form=HaltForm, refusals={409}),
    page(RESUME, get_resume, OPERATE),
    action(RESUME, post_resume, form=ConfirmationForm, refusals={409}),
)
