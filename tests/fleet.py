"""Makes devices and reports for tests."""

from typing import Any

from firmtrail.events.event import Event
from firmtrail.events.fleet import DeviceRegistered, Status
from firmtrail.events.times import time_ms
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Recorder
from firmtrail.recording.reports import ReportOutcome, ReportReceipt
from firmtrail.rules.report import ReportCommand

type Step = list[ReportCommand] | tuple[str, Event]
"""A unit of reports, or an event and the stream it belongs to."""

DAY_MS = 24 * 60 * 60 * 1000
NOON_MS = time_ms("2026-03-14T12:00:00Z")


def report(
    version: str = "1.0.0", status: Status = "installed", device: str = "d1", **members: Any
) -> ReportCommand:
    return ReportCommand(device, version, status, f"device/{device}", **members)


async def register(recorder: Recorder, log_id: int, *names: str, model: str | None = None) -> None:
    await record_events(
        recorder, log_id, [(f"device/{name}", DeviceRegistered(model)) for name in names]
    )


async def record_events(
    recorder: Recorder, log_id: int, recorded: list[tuple[str, Event]]
) -> list[int]:
    """Records these (stream, event) in one commit, and returns their positions."""

    async def command(commit: Commit) -> list[int]:
        await commit.devices([stream.removeprefix("device/") for stream, _ in recorded])
        return [commit.draft.record(stream, event, actor="system") for stream, event in recorded]

    return await recorder.act(log_id, command)


async def receipts(recorder: Recorder, log_id: int, *reports: ReportCommand) -> list[ReportReceipt]:
    """Records one unit of which nothing is refused."""
    return [received(outcome) for outcome in await recorder.report(log_id, reports)]


def received(outcome: ReportOutcome) -> ReportReceipt:
    assert isinstance(outcome, ReportReceipt), outcome
    return outcome


async def live(recorder: Recorder, log_id: int, life: list[Step]) -> None:
    """Records a life, step after step."""
    for step in life:
        if isinstance(step, tuple):
            await record_events(recorder, log_id, [step])
        else:
            await recorder.report(log_id, step)
