"""What devices call, and gateways for them: reports."""

from collections.abc import Iterable, Sequence

from aiohttp import web

from firmtrail.events.times import time_text
from firmtrail.http import answers, respond
from firmtrail.http.bodies import DeviceReport, Report, ReportsQuery
from firmtrail.http.call import Call
from firmtrail.http.errors import NotFound
from firmtrail.http.receipts import proven
from firmtrail.http.scalars import TEXT_BYTES_MAX
from firmtrail.http.times import unix_ms
from firmtrail.http.validate import FaultyItem, fault_text
from firmtrail.recording.reports import Outcome, Receipt
from firmtrail.rules import device
from firmtrail.rules.device import Refused

MINIMAL, PROOF = "return=minimal", "receipt=proof"

type Item[Each] = Each | FaultyItem
type ReportsCall = Call[ReportsQuery, Report | list[Item[Report]]]
type GatewayCall = Call[ReportsQuery, DeviceReport | list[Item[DeviceReport]]]


async def post_reports(call: ReportsCall) -> web.Response:
    """Reports of the path's device."""
    name, actor = call.path("device"), call.caller.actor
    if isinstance(call.body, list):
        items = [_command_or_refusal(name, item, actor) for item in call.body]
        return await _record_array(call, items)
    return await _record_one(call, _command(name, call.body, actor))


async def post_gateway_reports(call: GatewayCall) -> web.Response:
    """Reports that name their devices."""
    actor = call.caller.actor
    if isinstance(call.body, list):
        items = [_command_or_refusal(_device_of(item), item, actor) for item in call.body]
        return await _record_array(call, items)
    return await _record_one(call, _command(call.body.device, call.body, actor))


async def _record_one(call: ReportsCall | GatewayCall, report: device.Report) -> web.Response:
    [outcome] = await call.services.recorder.report(call.log_id, [report])
    if isinstance(outcome, Refused):
        raise outcome
    status, receipt = 200 if outcome.duplicate else 201, _receipt(outcome)
    if not _prefers(call.request, PROOF):
        return respond.json(status, receipt)
    [receipt] = await proven(call, [receipt])
    return respond.json(status, receipt, _applied([receipt]))


async def _record_array(
    call: ReportsCall | GatewayCall, items: Sequence[device.Report | Refused]
) -> web.Response:
    """Record what is not refused already, as one unit; each answer stands in its item's place."""
    reports = [item for item in items if isinstance(item, device.Report)]
    recorded = iter(await call.services.recorder.report(call.log_id, reports) if reports else [])
    outcomes = [item if isinstance(item, Refused) else next(recorded) for item in items]
    _check_device(call, outcomes)
    status = 201 if any(_is_new(outcome) for outcome in outcomes) else 200
    if _prefers(call.request, MINIMAL):
        return respond.json(status, _summary(outcomes), {"Preference-Applied": MINIMAL})
    answered = [_answer(outcome) for outcome in outcomes]
    if not _prefers(call.request, PROOF):
        return respond.json(status, answered)
    receipts = await proven(call, [each for each in answered if isinstance(each, answers.Receipt)])
    in_order = iter(receipts)
    return respond.json(
        status,
        [next(in_order) if isinstance(each, answers.Receipt) else each for each in answered],
        _applied(receipts),
    )


def _check_device(call: ReportsCall | GatewayCall, outcomes: Iterable[Outcome]) -> None:
    """Where the path names the device, there being none is no matter of single items."""
    if "device" in call.request.match_info:
        for outcome in outcomes:
            if isinstance(outcome, Refused) and outcome.status == NotFound.status:
                raise outcome


def _command(name: str, report: Report, actor: str) -> device.Report:
    return device.Report(
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


def _command_or_refusal(name: str, item: Item[Report], actor: str) -> device.Report | Refused:
    if isinstance(item, FaultyItem):
        return Refused("invalid", fault_text(item.faults), status=422)
    return _command(name, item, actor)


def _device_of(item: Item[DeviceReport]) -> str:
    return "" if isinstance(item, FaultyItem) else item.device


def cut(detail: str) -> str:
    """At most `TEXT_BYTES_MAX` bytes of UTF-8, ending with a whole character."""
    encoded = detail.encode()
    if len(encoded) <= TEXT_BYTES_MAX:
        return detail
    return encoded[:TEXT_BYTES_MAX].decode(errors="ignore")


def _is_new(outcome: Outcome) -> bool:
    return isinstance(outcome, Receipt) and not outcome.duplicate


def _applied(receipts: Iterable[answers.Receipt]) -> dict[str, str]:
    return {"Preference-Applied": PROOF} if all(each.proof for each in receipts) else {}


def _prefers(request: web.Request, preference: str) -> bool:
    """RFC 7240: preferences apart by commas, parameters by semicolons."""
    if "Prefer" not in request.headers:
        return False
    preferences = ",".join(request.headers.getall("Prefer", ())).lower().split(",")
    return any(each.partition(";")[0].strip() == preference for each in preferences)


def _answer(outcome: Outcome) -> answers.Receipt | answers.RefusedItem:
    if isinstance(outcome, Refused):
        return answers.RefusedItem(outcome.code, outcome.detail)
    return _receipt(outcome)


def _receipt(receipt: Receipt) -> answers.Receipt:
    return answers.Receipt(
        receipt.log, receipt.position, receipt.duplicate, time_text(receipt.recorded_at_ms)
    )


def _summary(outcomes: Iterable[Outcome]) -> answers.ReportsSummary:
    placed = list(enumerate(outcomes))
    receipts = [each for _, each in placed if isinstance(each, Receipt)]
    last = max(receipts, key=lambda receipt: (receipt.log, receipt.position), default=None)
    return answers.ReportsSummary(
        recorded=sum(not receipt.duplicate for receipt in receipts),
        duplicates=sum(receipt.duplicate for receipt in receipts),
        refused=[
            answers.RefusedIndex(index, each.code)
            for index, each in placed
            if isinstance(each, Refused)
        ],
        last_position=last.position if last else None,
    )
