"""Takes the version that a client says it runs, for protocols whose clients say it with each
question and report nothing.

The version is recorded as running only if that is news, so a device that polls writes nothing. A
version that was being installed before has been installed now. Any other one says that the device
did not get to the version that it was installing.
"""

from msgspec import Struct

from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import RECORDED_KINDS, device_and_control
from firmtrail.projections.check_in import DeviceAtCheckIn
from firmtrail.rules.artifact import version_named
from firmtrail.rules.attributes import is_news
from firmtrail.rules.report import ReportCommand


class SaidVersion(Struct, frozen=True, gc=False):
    """Holds the version that a client means by a text; None if it means none."""

    version: str | None
    is_recorded: bool = False
    """Whether it was news, and is recorded now."""


async def said(call: AnyCall, text: str | None) -> SaidVersion:
    """Returns what the device of the path means by this text. It is recorded, if the device or its
    gateway asks and the device is known."""
    if text is None:
        return SaidVersion(None)
    seen, control = await device_and_control(call, call.path("device"))
    version = version_named(control, seen.state.model if seen.state else None, text)
    report = _report(call, seen, version)
    if report is not None:
        await call.services.recorder.report_one(call.log_id, report)
    return SaidVersion(version, report is not None)


def _report(call: AnyCall, seen: DeviceAtCheckIn, version: str | None) -> ReportCommand | None:
    state = seen.state
    if version is None or state is None or state.decommissioned:
        return None
    if call.request.method == "HEAD" or call.caller.kind not in RECORDED_KINDS:
        return None
    if not is_news(state, version) and seen.question is None:
        return None
    return ReportCommand(
        state.device,
        version,
        "installed" if state.installing_version == version else "running",
        call.caller.actor,
        question=seen.question,
    )
