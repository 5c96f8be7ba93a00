"""Speaks SWUpdate's general server: a poll is answered by a redirect to the image, and the lines of
the client's log say how the update goes.

The client says in the parameter `version` what it runs. It knows no ids: its log is about the
update that was offered last. `started` comes before the image is loaded, and `success` before the
device restarts; the next poll says which version runs then.
"""

from collections.abc import Mapping

import msgspec
from aiohttp import web

from firmtrail.events.fleet import Status
from firmtrail.http import incoming, running
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import look_at, recorded_decision
from firmtrail.http.download_urls import download_url
from firmtrail.http.errors import NotFound
from firmtrail.http.poll import poll_after
from firmtrail.http.scalars import TEXT_BYTES_MAX
from firmtrail.protocols.plain.updates import PLAIN, chosen, release_of
from firmtrail.rules.report import ReportCommand

_STATUSES: Mapping[str, Status] = {
    "started": "downloading",
    "success": "rebooting",
    "fail": "failed",
}


class PollQuery(msgspec.Struct, frozen=True):
    """Takes the version that the client runs; it sends other parameters too."""

    version: str | None = None


async def get_swupdate(call: Call[PollQuery, None]) -> web.Response:
    """Redirect SWUpdate to the image that the device should install."""
    version = (await running.said(call, call.query.version)).version
    decided = await recorded_decision(call, version, protocol=PLAIN)
    release, wait = release_of(decided), {"Retry-After": poll_after(call)}
    if release is None:
        raise NotFound("There is nothing to install.", headers=wait)
    url = await download_url(call, decided.state.device, chosen(decided, release))
    return web.Response(status=302, headers={"Location": url, "Cache-Control": "no-store", **wait})


async def put_swupdate_log(call: AnyCall) -> web.Response:
    """Take a line of SWUpdate's log: started, success or fail."""
    body = await incoming.read_bytes(call.request, takes_arrays=False)
    line = body[:TEXT_BYTES_MAX].decode(errors="ignore").replace("\0", " ").strip()
    cells = (cell.strip(" \t\"'").lower() for cell in line.split(","))
    status = next((_STATUSES[cell] for cell in cells if cell in _STATUSES), None)
    if status is not None:
        await _report(call, status, line)
    return web.Response(status=200)


async def _report(call: AnyCall, status: Status, line: str) -> None:
    """Records the step for the latest offer. A line that is sent again is the same report: no other
    offer of the device gets its number."""
    decided = await look_at(call, protocol=PLAIN)
    offered = max(decided.seen.offers, key=lambda each: each.position, default=None)
    if offered is None:
        return
    report = ReportCommand(
        decided.state.device,
        offered.version,
        status,
        call.caller.actor,
        report_id=f"swupdate-{offered.ordinal}-{status}",
        detail=line if status == "failed" else None,
    )
    await call.services.recorder.report_one(call.log_id, report)
