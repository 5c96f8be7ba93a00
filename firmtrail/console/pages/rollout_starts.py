"""Shows the forms that start a rollout or recall a release, with the numbers of a dry run, and
starts them."""

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from firmtrail.commands import steering as commands
from firmtrail.commands.once import CommandAnswer
from firmtrail.console import confirm, render
from firmtrail.console.confirm import Choice, Confirmation, ConfirmationForm, Figure, FormField
from firmtrail.console.here import Moment
from firmtrail.console.pages.rollouts import ROLLOUTS, Counts, counts_of
from firmtrail.console.percentages import PercentText, hundredths
from firmtrail.console.rows import OPERATE, PROJECT, PageQuery, action, page
from firmtrail.events.steering import RollbackStarted, RolloutStarted
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.rollout_tries import unstarted, with_approvals
from firmtrail.http.scalars import Name, VersionText
from firmtrail.projections import rollout_devices
from firmtrail.projections.rollout_devices import RollbackCounts
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules import control, rollout, version
from firmtrail.rules.control import Control
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.rollout import RolloutState

RECALL = f"{PROJECT}/releases/{{model}}/{{version}}/recall"
NEW = f"{ROLLOUTS}/start"

CHOICES_MAX = 12
"""Limits the versions that the page of a recall links; the address takes any other one."""

type FailedPercent = Annotated[int, Meta(ge=0, le=100)]
type MinReports = Annotated[int, Meta(ge=1, le=10**9)]


class StartQuery(PageQuery, frozen=True, kw_only=True):
    """Describes a rollout that is tried: with a model and a version, the page shows its numbers."""

    model: Name | None = None
    version: VersionText | None = None
    cohort: Name | None = None
    tag: Name | None = None
    percent: PercentText = "10"
    failed_percent: FailedPercent | None = None
    min_reports: MinReports | None = None


class StartForm(ConfirmationForm, frozen=True, kw_only=True):
    """Describes a rollout that is started."""

    model: Name
    version: VersionText
    cohort: Name | None = None
    tag: Name | None = None
    percent: PercentText
    failed_percent: FailedPercent | None = None
    min_reports: MinReports | None = None


class RecallQuery(PageQuery, frozen=True, kw_only=True):
    """Chooses where the devices go; without a version, each goes to its previous one."""

    to: VersionText | None = None


class RecallForm(ConfirmationForm, frozen=True, kw_only=True):
    """Describes a recall."""

    to: VersionText | None = None
    fallback: VersionText | None = None
    percent: PercentText = "100"


def _wanted(asked: StartQuery | StartForm) -> RolloutStarted:
    """Returns the rollout that is asked for. Raises `Invalid` for parts that exclude each other or
    need each other."""
    if asked.cohort is not None and asked.tag is not None:
        raise invalid_parameter("tag", "can't be combined with a cohort; name only one of the two")
    if (asked.failed_percent is None) != (asked.min_reports is None):
        raise invalid_parameter("min_reports", "is needed together with the share of failures")
    return RolloutStarted(
        asked.version or "",
        asked.model or "",
        hundredths(asked.percent),
        asked.cohort,
        asked.tag,
        asked.failed_percent,
        asked.min_reports,
    )


async def get_start(call: Call[StartQuery, None]) -> web.Response:
    """Show the form of a new rollout, and the numbers of what it describes."""
    query, counts, reached = call.query, None, 0
    async with consistent_read(call) as now:
        releases = _offerable(now.control)
        if query.model is not None and query.version is not None:
            wanted = control.decide_rollout(now.control, _wanted(query))
            counts = await _tried(call, now, wanted)
            reached = counts.matching * wanted.reach // rollout.BUCKETS
    return render.page(
        call,
        "rollout_new.html",
        title="Start a rollout",
        moment=Moment(now.size),
        releases=releases,
        query=query,
        counts=counts,
        reached=reached,
        key=confirm.new_key(),
    )


async def _tried(call: AnyCall, now: ConsistentRead, wanted: RolloutStarted) -> Counts:
    found = unstarted(call, wanted)
    return await counts_of(call, now, found)


def _offerable(found: Control) -> list[ReleaseKey]:
    """Returns the releases that can be offered, by model, the highest version first."""
    keys = [key for key, each in found.releases.items() if not each.is_withdrawn]
    keys.sort(key=lambda key: version.precedence(key.version), reverse=True)
    return sorted(keys, key=lambda key: key.model)


async def post_start(call: Call[PageQuery, StartForm]) -> web.Response:
    """Start a rollout."""
    wanted = await with_approvals(call, _wanted(call.body))
    start = commands.start(wanted, actor=call.caller.actor)
    return await _started(call, call.body.key, start)


async def _started(call: AnyCall, key: str | None, order: LogCommand[RolloutState]) -> web.Response:
    async def command(commit: Commit) -> CommandAnswer:
        return CommandAnswer(201, {"rollout": (await order(commit)).id})

    body = await confirm.run(call, key, command)
    return render.redirect(call, "rollouts", body["rollout"])


async def get_recall(call: Call[RecallQuery, None]) -> web.Response:
    """Ask to confirm the recall of a release, with the numbers of a dry run."""
    model, bad = call.path("model"), call.path("version")
    to = call.query.to
    async with consistent_read(call) as now:
        _check_known(now.control, model, bad)
        wanted = RollbackStarted(bad, model, rollout.BUCKETS, to)
        control.decide_rollback(now.control, wanted)
        counts = await rollout_devices.rollback_counts(
            now.reader,
            call.log_id,
            unstarted(call, wanted),
            now.control,
            now_ms=call.services.access.now_ms(),
        )
        others = [key.version for key in _offerable(now.control) if key.model == model]
    choices = [Choice("its previous version", {"to": None}, to is None)]
    choices += [Choice(each, {"to": each}, each == to) for each in others if each != bad]
    asked = _recall_of(model, bad, to, counts)._replace(choices=choices[:CHOICES_MAX])
    return confirm.page(call, asked, size=now.size)


def _check_known(found: Control, model: str, bad: str) -> None:
    if ReleaseKey(model, bad) not in found.releases:
        raise NotFound(f"{model} has no release {bad}.")


def _recall_of(model: str, bad: str, to: str | None, counts: RollbackCounts) -> Confirmation:
    return Confirmation(
        title=f"Recall {bad} on {model}",
        lead=f"{bad} is withdrawn for good, and each device that runs it is sent "
        + (f"to {to}." if to else "back to the version that it ran before."),
        button=f"Recall {bad}",
        back=("releases", model, bad),
        numbers=(
            Figure("devices run it", counts.devices, "bad"),
            Figure("have no earlier good version", counts.no_previous, "warn"),
            Figure("are pinned to another version", counts.pinned),
            Figure("made no call for 7 days", counts.silent),
        ),
        fields=()
        if to
        else (
            FormField(
                "fallback",
                "Version for devices without an earlier one",
                hint="Optional: without it they stay where they are.",
            ),
        ),
        hidden={"to": to} if to else {},
        choices_label="Send them to:",
        needs_reason=True,
        nav="releases",
    )


async def post_recall(call: Call[PageQuery, RecallForm]) -> web.Response:
    """Withdraw a release and send the devices that run it back."""
    body = call.body
    confirm.check_reason(body, is_needed=True)
    wanted = RollbackStarted(
        call.path("version"),
        call.path("model"),
        hundredths(body.percent),
        body.to,
        None if body.to else body.fallback,
    )
    recall = commands.roll_back(wanted, body.reason, actor=call.caller.actor)
    return await _started(call, body.key, recall)


ROUTES = (
    page(NEW, get_start, OPERATE, query=StartQuery),
    action(NEW, post_start, form=StartForm, refusals={409}),
    page(RECALL, get_recall, OPERATE, query=RecallQuery),
    action(RECALL, post_recall, form=RecallForm, refusals={409}),
)
