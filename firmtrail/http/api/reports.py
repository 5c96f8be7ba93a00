"""Serves the reports of devices, and of gateways that report for devices."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.events.fleet import Status
from firmtrail.events.times import time_text, unix_ms
from firmtrail.http import respond
from firmtrail.http.api.receipts import Receipt, RefusedIndex, RefusedItem, ReportsSummary, proven
from firmtrail.http.api.rows import POST, D, P, command
from firmtrail.http.api.wire import outside_calendar
from firmtrail.http.call import Call
from firmtrail.http.callers import REPORTING_DEVICE, GatewayAccess, Permission
from firmtrail.http.errors import NotFound
from firmtrail.http.faults import BrokenRules
from firmtrail.http.joining import join_named
from firmtrail.http.route import AnyOf, ListOf
from firmtrail.http.scalars import DeviceName, Seq, VersionText, VisibleText, cut
from firmtrail.http.validate import FaultyItem, fault_text
from firmtrail.recording import reports as recording
from firmtrail.rules.device import Refused
from firmtrail.rules.report import ReportCommand


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Says what a device runs, or how far an update came."""

    version: VersionText
    status: Status = "installed"
    report_id: VisibleText | None = None
    seq: Seq | None = None
    occurred_at: Annotated[datetime, Meta(tz=True)] | None = None
    question: VisibleText | None = None
    rollout: VisibleText | None = None
    detail: str | None = None

    def __post_init__(self) -> None:
        if (fault := outside_calendar("occurred_at", self.occurred_at)) is not None:
            raise BrokenRules([fault])


class DeviceReport(Report, frozen=True, kw_only=True):
    """Describes a report that a gateway sends for a device."""

    device: DeviceName


class ReportsQuery(msgspec.Struct, frozen=True):
    """Chooses with skip that malformed items of an array are refused one by one."""

    faulty: Literal["skip"] | None = None


MINIMAL, PROOF = "return=minimal", "receipt=proof"

type OrFaulty[Item] = Item | FaultyItem

type ReportsCall = Call[ReportsQuery, Report | list[OrFaulty[Report]]]

type GatewayCall = Call[ReportsQuery, DeviceReport | list[OrFaulty[DeviceReport]]]


async def post_reports(call: ReportsCall) -> web.Response:
    """Report what the device runs, or how far an update came."""
    name, actor = call.path("device"), call.caller.actor
    if isinstance(call.body, list):
        items = [_command_or_refusal(name, item, actor) for item in call.body]
        return await _record_array(call, items)
    return await _record_one(call, _command(name, call.body, actor))


async def post_gateway_reports(call: GatewayCall) -> web.Response:
    """Report for any devices, as their gateway."""
    actor = call.caller.actor
    items_of_body = call.body if isinstance(call.body, list) else [call.body]
    await join_named(call, map(_device_of, items_of_body))
    if isinstance(call.body, list):
        items = [_command_or_refusal(_device_of(item), item, actor) for item in call.body]
        return await _record_array(call, items)
    return await _record_one(call, _command(call.body.device, call.body, actor))


async def _record_one(call: ReportsCall | GatewayCall, report: ReportCommand) -> web.Response:
    outcome = await call.services.recorder.report_one(call.log_id, report)
    status, receipt = 200 if outcome.duplicate else 201, _receipt(outcome)
    if not _prefers(call.request, PROOF):
        return respond.json(status, receipt)
    [receipt] = await proven(call, [receipt])
    return respond.json(status, receipt, _applied([receipt]))


async def _record_array(
    call: ReportsCall | GatewayCall, items: Sequence[ReportCommand | Refused]
) -> web.Response:
    """Records, as one unit, the items that are not refused already. Each answer takes its item's
    place."""
    reports = [item for item in items if isinstance(item, ReportCommand)]
    recorded = iter(await call.services.recorder.report(call.log_id, reports) if reports else [])
    outcomes = [item if isinstance(item, Refused) else next(recorded) for item in items]
    _check_device(call, outcomes)
    recorded_now = (each for each in outcomes if isinstance(each, recording.ReportReceipt))
    status = 200 if all(each.duplicate for each in recorded_now) else 201
    if _prefers(call.request, MINIMAL):
        return respond.json(status, _summary(outcomes), {"Preference-Applied": MINIMAL})
    answered = [_answer(outcome) for outcome in outcomes]
    if not _prefers(call.request, PROOF):
        return respond.json(status, answered)
    receipts = await proven(call, [each for each in answered if isinstance(each, Receipt)])
    in_order = iter(receipts)
    return respond.json(
        status,
        [next(in_order) if isinstance(each, Receipt) else each for each in answered],
        _applied(receipts),
    )


def _check_device(
    call: ReportsCall | GatewayCall, outcomes: Iterable[recording.ReportOutcome]
) -> None:
    """Refuses the whole request, and not single items, if the path names an unknown device."""
    if "device" in call.request.match_info:
        for outcome in outcomes:
            if isinstance(outcome, Refused) and outcome.status == NotFound.status:
                raise outcome


def _command(name: str, report: Report, actor: str) -> ReportCommand:
    return ReportCommand(
        name,
        report.version,
        report.status,
        actor,
        report_id=report.report_id,
        seq=report.seq,
        occurred_at_ms=None if report.occurred_at is None else unix_ms(report.occurred_at),
        question=report.question,
        rollout=report.rollout,
        detail=cut(report.detail) if report.detail else None,
    )


def _command_or_refusal(name: str, item: OrFaulty[Report], actor: str) -> ReportCommand | Refused:
    if isinstance(item, FaultyItem):
        return Refused("invalid", fault_text(item.faults), status=422)
    return _command(name, item, actor)


def _device_of(item: OrFaulty[DeviceReport]) -> str:
    return "" if isinstance(item, FaultyItem) else item.device


def _applied(receipts: Iterable[Receipt]) -> dict[str, str]:
    return {"Preference-Applied": PROOF} if all(each.proof for each in receipts) else {}


def _prefers(request: web.Request, preference: str) -> bool:
    """Returns whether a Prefer header names this preference (RFC 7240: preferences are separated by
    commas, their parameters by semicolons)."""
    if "Prefer" not in request.headers:
        return False
    preferences = ",".join(request.headers.getall("Prefer", ())).lower().split(",")
    return any(each.partition(";")[0].strip() == preference for each in preferences)


def _answer(outcome: recording.ReportOutcome) -> Receipt | RefusedItem:
    if isinstance(outcome, Refused):
        return RefusedItem(outcome.code, outcome.detail)
    return _receipt(outcome)


def _receipt(receipt: recording.ReportReceipt) -> Receipt:
    return Receipt(
        receipt.log, receipt.position, receipt.duplicate, time_text(receipt.recorded_at_ms)
    )


def _summary(outcomes: Iterable[recording.ReportOutcome]) -> ReportsSummary:
    placed = list(enumerate(outcomes))
    receipts = [each for _, each in placed if isinstance(each, recording.ReportReceipt)]
    last = max(receipts, key=lambda receipt: (receipt.log, receipt.position), default=None)
    return ReportsSummary(
        recorded=sum(not receipt.duplicate for receipt in receipts),
        duplicates=sum(receipt.duplicate for receipt in receipts),
        refused=[
            RefusedIndex(index, each.code) for index, each in placed if isinstance(each, Refused)
        ],
        last_position=last.position if last else None,
    )


_ANSWER = AnyOf((Receipt, ListOf(AnyOf((Receipt, RefusedItem))), ReportsSummary))
_FIELDS: dict[str, Any] = {
    "query": ReportsQuery,
    "skips_faulty": True,
    "answers": {201: _ANSWER, 200: _ANSWER},
}

ROUTES = (
    command(
        POST, f"{D}/reports", post_reports, REPORTING_DEVICE, body=Report | list[Report], **_FIELDS
    ),
    command(
        POST,
        f"{P}/reports",
        post_gateway_reports,
        GatewayAccess(Permission.REPORT),
        body=DeviceReport | list[DeviceReport],
        **_FIELDS,
    ),
)
