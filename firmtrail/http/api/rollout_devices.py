"""Serves the devices of a rollout: the state of each, and why devices failed."""

from functools import partial

import msgspec
from aiohttp import web

from firmtrail.http import lists, respond, rollout_states
from firmtrail.http.api.rollouts import ROLLOUT
from firmtrail.http.api.rows import READ, listing, resource
from firmtrail.http.api.wire import TimeText, time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.http.rollout_states import RolloutDeviceState
from firmtrail.http.rollouts import rollout_of
from firmtrail.projections import rollout_devices, rollout_failures
from firmtrail.projections.rollout_failures import FailureKind
from firmtrail.rules import rollout
from firmtrail.rules.progress import ProgressReason, ProgressState


class RolloutDevicesQuery(ListQuery, frozen=True, kw_only=True):
    """Filters the devices."""

    state: ProgressState | None = None


class RolloutDevice(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a device that a rollout covers, and its state in the rollout."""

    device: str
    state: ProgressState
    version: str | None
    since: TimeText | None
    last_seen_at: TimeText | None
    reason: ProgressReason


class FailureReason(msgspec.Struct, frozen=True, kw_only=True):
    """Counts the devices that failed for one reason; `example` is the one that failed last."""

    kind: FailureKind
    reason: str | None
    devices: int
    share: float
    example: str


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """Groups the newest failures of a rollout by their reasons, the most frequent first."""

    items: list[FailureReason]
    devices: int
    """The number of failures that were grouped."""
    is_partial: bool
    """Whether the rollout may have older failures than those that were grouped."""


async def get_failures(call: AnyCall) -> web.Response:
    """Return why devices failed in a rollout, by the reasons that they gave.

    At most the newest 2 000 failures are grouped.
    """
    async with consistent_read(call) as now:
        found = await _failures_of(call, now, rollout_of(call, now.control))
    return respond.resource(call, found, now.size)


async def _failures_of(call: AnyCall, now: ConsistentRead, found: rollout.RolloutState) -> Failures:
    """Returns the newest failures of a rollout, by their reasons."""
    failed, is_partial = await rollout_failures.newest(now.reader, call.log_id, found)
    items = [
        FailureReason(
            kind=each.kind,
            reason=each.reason,
            devices=each.devices,
            share=round(each.devices / len(failed), 6),
            example=each.example,
        )
        for each in rollout_failures.grouped(failed)
    ]
    return Failures(items=items, devices=len(failed), is_partial=is_partial)


async def get_rollout_devices(call: Call[RolloutDevicesQuery, None]) -> web.StreamResponse:
    """List the devices that a rollout covers, each in exactly one state."""

    def fetching(now: ConsistentRead) -> lists.FetchPage:
        return partial(_page, call, now)

    def counting(now: ConsistentRead) -> lists.CountItems:
        found = rollout_of(call, now.control)
        return partial(rollout_devices.matching, now.reader, call.log_id, found)

    whole = counting if call.query.state is None else None
    return await lists.answer_consistently(call, RolloutDevice, fetching, whole)


async def _page(
    call: Call[RolloutDevicesQuery, None], now: ConsistentRead, place: SortKey | None, limit: int
) -> ListPage:
    found, after = rollout_of(call, now.control), lists.text_before(place)
    page = await rollout_states.page(
        call, now, found, wanted=call.query.state, after=after, limit=limit
    )
    items = [_shown_device(each) for each in page.devices]
    return ListPage(items, None if page.last is None else (page.last,), now.size)


def _shown_device(found: RolloutDeviceState) -> RolloutDevice:
    return RolloutDevice(
        device=found.state.device,
        state=found.progress.state,
        version=found.state.version,
        since=time_or_none(found.state.since_ms),
        last_seen_at=time_or_none(found.last_seen_at_ms),
        reason=found.progress.reason,
    )


ROUTES = (
    resource(f"{ROLLOUT}/failures", get_failures, READ, Failures, is_view=True),
    listing(
        f"{ROLLOUT}/devices",
        get_rollout_devices,
        READ,
        RolloutDevice,
        query=RolloutDevicesQuery,
        is_view=True,
    ),
)
