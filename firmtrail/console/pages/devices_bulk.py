"""Does the same for many devices: sets cohort or tags, asks, decommissions.

The first form shows how many devices it is about. Each further request takes the next devices, in
one commit, and shows how far it is; its form continues after the last of them, with a script or by
a button. Nothing is kept in the server between two requests, so any server can take the next one.
"""

from typing import Literal

import msgspec
from aiohttp import web

from firmtrail.commands import devices as commands
from firmtrail.commands import steering
from firmtrail.commands.devices import WantedChange
from firmtrail.console import render
from firmtrail.console.pages.device_orders import ASKED_FOR_S, tags_of
from firmtrail.console.pages.devices import DEVICES, set_filters
from firmtrail.console.rows import HTML, action
from firmtrail.events.fleet import DeviceChanged
from firmtrail.http import device_lists
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import consistent_read
from firmtrail.http.device_lists import DeviceFilters
from firmtrail.http.errors import invalid_parameter
from firmtrail.http.lists import Total
from firmtrail.http.scalars import DeviceName, Name
from firmtrail.projections import device_pages
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules.device import Refused

BATCH = 100
"""Devices that one request changes, in one commit."""

CHOSEN_MAX = 500

type Deed = Literal["labels", "ask", "decommission"]


class BulkForm(DeviceFilters, frozen=True, kw_only=True):
    """Names the devices, by their names or by filters, what is done with them, and how far it
    is."""

    what: Deed
    device: list[DeviceName] = msgspec.field(default_factory=list)
    new_cohort: Name | None = None
    new_tags: str | None = None
    confirmed: bool = False
    after: DeviceName | None = None
    done: int = 0
    refused: int = 0
    total: int = 0
    is_least: bool = False
    """Whether `total` counts only the devices that were looked at."""


async def post_bulk(call: Call[None, BulkForm]) -> web.Response:
    """Do the same for many devices: first show how many, then do it in parts."""
    form = call.body
    if len(form.device) > CHOSEN_MAX:
        reason = f"choose at most {CHOSEN_MAX} devices, or none to take all that match"
        raise invalid_parameter("device", reason)
    if not form.confirmed:
        total = Total(len(form.device)) if form.device else await _matching(call)
        return _shown(call, total=total, done=0, refused=0, after=None)
    names, last = await _next(call)
    refused = await call.services.recorder.act(call.log_id, _deed(call, names))
    done, refused = form.done + len(names), form.refused + refused
    total = Total(form.total, is_all=not form.is_least)
    return _shown(call, total=total, done=done, refused=refused, after=last)


def _shown(
    call: Call[None, BulkForm], *, total: Total, done: int, refused: int, after: str | None
) -> web.Response:
    form = call.body
    is_over = form.confirmed and after is None
    return render.page(
        call,
        "devices_bulk.html",
        title="Many devices",
        form=form,
        filters=set_filters(form),
        total=max(total.items, done),
        is_least=not total.is_all,
        done=done,
        refused=refused,
        after=after,
        is_over=is_over,
    )


async def _matching(call: Call[None, BulkForm]) -> Total:
    async with consistent_read(call) as now:
        return await device_lists.count_now(call, now, call.body, device_pages.LOOKED_AT_MAX)


async def _next(call: Call[None, BulkForm]) -> tuple[list[str], str | None]:
    """Returns the devices of the next part, and the last one of them if more follow."""
    form, after = call.body, call.body.after or ""
    if form.device:
        left = sorted({name for name in form.device if name > after})
        return left[:BATCH], left[BATCH - 1] if len(left) > BATCH else None
    async with consistent_read(call) as now:
        found = await device_lists.page_now(call, now, form, after=after, limit=BATCH)
    return [each.state.device for each in found.devices], found.last


def _deed(call: Call[None, BulkForm], names: list[str]) -> LogCommand[int]:
    """Returns the command for these devices, which returns how many of them refused it."""
    orders = [_order(call, name) for name in names]

    async def command(commit: Commit) -> int:
        refused = 0
        for order in orders:
            try:
                await order(commit)
            except Refused:  # such as a device that was decommissioned meanwhile
                refused += 1
        return refused

    return command


def _order(call: Call[None, BulkForm], name: str) -> LogCommand[object]:
    form, actor = call.body, call.caller.actor
    if form.what == "ask":
        return steering.ask(name, expires_in_s=ASKED_FOR_S, actor=actor)
    if form.what == "decommission":
        return commands.change(name, WantedChange(DeviceChanged(), True), actor=actor)  # noqa: FBT003
    return commands.change(name, WantedChange(_labels(call)), actor=actor)


def _labels(call: AnyCall) -> DeviceChanged:
    """Returns the labels that are set; an empty field leaves the label as it is."""
    form: BulkForm = call.body
    labels = DeviceChanged()
    if form.new_cohort is not None:
        labels = DeviceChanged(cohort=form.new_cohort)
    if form.new_tags is not None:
        labels = DeviceChanged(cohort=labels.cohort, tags=tags_of(form.new_tags))
    return labels


ROUTES = (action(f"{DEVICES}/bulk", post_bulk, form=BulkForm, answers={200: HTML}, refusals={409}),)
