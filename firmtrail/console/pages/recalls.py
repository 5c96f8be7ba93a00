"""Shows the form that recalls a release, with the numbers of a dry run, and recalls it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from firmtrail.commands import steering as commands
from firmtrail.console import confirm, filters, rollout_forms
from firmtrail.console.confirm import (
    Choice,
    Confirmation,
    ConfirmationForm,
    Figure,
    FigureTable,
    FormField,
)
from firmtrail.console.pages.rollout_starts import offerable, started
from firmtrail.console.percentages import PercentText, hundredths
from firmtrail.console.rollout_forms import FieldText
from firmtrail.console.rows import OPERATE, PROJECT, PageQuery, action, page
from firmtrail.events.steering import RollbackStarted, Window
from firmtrail.http.call import Call
from firmtrail.http.decisions import consistent_read
from firmtrail.http.errors import Fault, Invalid, NotFound
from firmtrail.http.faults import faults_of
from firmtrail.http.rollout_tries import recall_cautions, unstarted
from firmtrail.http.route import Route
from firmtrail.http.scalars import VersionText
from firmtrail.projections import rollout_devices
from firmtrail.projections.device_current import SILENT_DAYS
from firmtrail.projections.rollout_devices import RollbackCounts
from firmtrail.rules import control, rollout
from firmtrail.rules.control import Control
from firmtrail.rules.release import ReleaseKey

RECALL = f"{PROJECT}/releases/{{model}}/{{version}}/recall"

LOOKED_AT_MAX = 2_000
"""Limits the devices that the page looks at, for all figures but the first."""

CHOICES_MAX = 12
"""Limits the versions that the page of a recall links; the address takes any other one."""


class RecallQuery(PageQuery, frozen=True, kw_only=True):
    """Chooses where the devices go; without a version, each goes to its previous one."""

    to: VersionText | None = None


class RecallForm(ConfirmationForm, frozen=True, kw_only=True):
    """Describes a recall."""

    to: VersionText | None = None
    fallback: VersionText | None = None
    percent: PercentText = "100"
    window_cron: FieldText = ""
    window_for: FieldText = ""
    window_timezone: FieldText = ""


class WindowResource(NamedTuple):
    """Holds the window of a rollout as the API has it."""

    body: type[msgspec.Struct]
    window_of: Callable[[Any], Window]

    def read(self, texts: rollout_forms.Texts) -> Window | None:
        """Returns the window that the fields of a form describe, if any. Raises `Invalid`."""
        form = rollout_forms.read_window(texts)
        wanted = form.body["window"]
        found = faults_of(wanted, self.body, "/window") if wanted else []
        if faults := rollout_forms.by_field(found, form.rows) | form.faults:
            raise Invalid(
                "; ".join(f"{name}: {reason}" for name, reason in faults.items()),
                faults=[Fault(reason, parameter=name) for name, reason in faults.items()],
            )
        return self.window_of(msgspec.convert(wanted, self.body)) if wanted else None


_WINDOW = (
    FormField(
        "window_cron",
        "It opens at",
        hint="Optional: a cron expression, 0 2 * * * is each day at 2:00. Without it they go back "
        "at any time, whatever windows the settings name.",
    ),
    FormField("window_for", "It stays open for", hint="Such as 4 h."),
    FormField(
        "window_timezone",
        "In the time zone",
        hint="Such as Europe/Berlin; device: each device's own. Empty: UTC.",
    ),
)


async def get_recall(call: Call[RecallQuery, None]) -> web.Response:
    """Ask to confirm the recall of a release, with the numbers of a dry run."""
    model, bad = call.path("model"), call.path("version")
    to = call.query.to
    async with consistent_read(call) as now:
        _check_known(now.control, model, bad)
        wanted = RollbackStarted(bad, model, rollout.BUCKETS, to)
        control.decide_rollback(now.control, wanted)
        tried, now_ms = unstarted(call, wanted), call.services.access.now_ms()
        counts = await rollout_devices.rollback_counts(
            now.reader,
            (call.log_id, call.project),
            tried,
            now.control,
            now_ms=now_ms,
            looked_at_max=LOOKED_AT_MAX,
        )
        others = [key.version for key in offerable(now.control) if key.model == model]
    choices = [Choice("their previous versions", {"to": None}, to is None)]
    choices += [Choice(each, {"to": each}, each == to) for each in others if each != bad]
    asked = _recall_of(model, bad, to, counts)._replace(
        choices=choices[:CHOICES_MAX],
        warnings=recall_cautions(now.control, tried, counts.devices, now_ms),
    )
    return confirm.page(call, asked, size=now.size)


def _check_known(found: Control, model: str, bad: str) -> None:
    if ReleaseKey(model, bad) not in found.releases:
        raise NotFound(f"{model} has no release {bad}.")


_FALLBACK = FormField(
    "fallback",
    "Version for devices without an earlier one",
    hint="Optional: without it they stay where they are.",
)


def _recall_of(model: str, bad: str, to: str | None, counts: RollbackCounts) -> Confirmation:
    return Confirmation(
        title=f"Recall {bad} on {model}",
        lead=f"{bad} is withdrawn for good, and each device that runs it is sent "
        + (f"to {to}." if to else "back to the version that it ran before."),
        button=f"Recall {bad}",
        back=("releases", model, bad),
        numbers=_numbers(counts),
        fields=() if to else (_FALLBACK,),
        folded=_WINDOW,
        folded_label="Send them only in a window",
        hidden={"to": to} if to else {},
        table=_returns(counts),
        choices_label="Send them to:",
        needs_reason=True,
        nav="releases",
    )


def _numbers(counts: RollbackCounts) -> tuple[Figure, ...]:
    some = (
        Figure(
            "have no earlier good version",
            counts.no_previous,
            "warn",
            of_one="has no earlier good version",
        ),
        Figure(
            "are pinned to another version",
            counts.pinned,
            of_one="is pinned to another version",
        ),
        Figure(f"made no call for {SILENT_DAYS} days", counts.silent),
    )
    running = Figure("devices run it", counts.devices, "bad", of_one="device runs it")
    return (running, *(_among(counts, each) for each in some))


def _returns(counts: RollbackCounts) -> FigureTable:
    """Returns the table of the versions that devices go to."""
    whose = "they"
    if counts.looked_at != counts.devices:
        whose = f"the first {filters.number(counts.looked_at)} of them"
    rows = rollout_devices.common_returns(counts)
    return FigureTable(f"Where {whose} go", "Version", rows, "other versions")


def _among(counts: RollbackCounts, found: Figure) -> Figure:
    """Returns the figure with the number of devices that it is among. If the search found none of
    them, there is nothing that it could count."""
    if counts.looked_at == counts.devices:
        return found
    if counts.looked_at == 0:
        return Figure(found.label, "not counted")
    among = f"of the first {filters.number(counts.looked_at)}"
    one = f"{among} {found.of_one}" if found.of_one else ""
    return found._replace(label=f"{among} {found.label}", of_one=one)


def routes(windows: WindowResource) -> tuple[Route, ...]:
    """Returns the routes of the page, whose windows are those of the API."""

    async def post_recall(call: Call[PageQuery, RecallForm]) -> web.Response:
        """Withdraw a release and send the devices that run it back."""
        body = call.body
        confirm.check_reason(body, is_needed=True)
        texts = {name: getattr(body, name) for name in rollout_forms.WINDOW_FIELDS}
        wanted = RollbackStarted(
            call.path("version"),
            call.path("model"),
            hundredths(body.percent),
            body.to,
            None if body.to else body.fallback,
            window=windows.read(texts),
        )
        recall = commands.roll_back(wanted, body.reason, actor=call.caller.actor)
        return await started(call, body.key, recall)

    return (
        page(RECALL, get_recall, OPERATE, query=RecallQuery),
        action(RECALL, post_recall, form=RecallForm, refusals={409}),
    )
