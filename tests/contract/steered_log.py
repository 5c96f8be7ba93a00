"""Steers a log for tests: releases, rollouts and check-ins."""

from typing import Any

from firmtrail.commands import steering as commands
from firmtrail.database.database import Database
from firmtrail.events.entry import decode
from firmtrail.events.event import Event
from firmtrail.events.fleet import (
    FirmwareInstalled,
    FirmwareRunning,
    ReleaseAdded,
)
from firmtrail.events.steering import (
    RollbackStarted,
    RolloutStarted,
)
from firmtrail.eventstore import log
from firmtrail.recording.check_ins import CheckIn
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.situation import Decision
from tests.fleet import record_events, register, report

VERSIONS = ("1.0.0", "1.1.0", "1.2.0")
DEVICES = ("d1", "d2", "d3")
MOVING = (FirmwareInstalled, FirmwareRunning)


async def release(recorder: Recorder, log_id: int, *versions: str) -> None:
    added = [(f"release/m/{each}", ReleaseAdded("m", each)) for each in versions]
    await record_events(recorder, log_id, list(added))


async def begin(recorder: Recorder, log_id: int) -> None:
    await register(recorder, log_id, *DEVICES, model="m")
    await release(recorder, log_id, *VERSIONS)
    await recorder.report(log_id, [report(device=name) for name in DEVICES])


async def check_in(recorder: Recorder, log_id: int, name: str = "d1", **said: Any) -> Decision:
    return await recorder.check_in(log_id, CheckIn(name, f"device/{name}", **said))


async def roll_out(recorder: Recorder, log_id: int, version: str, **members: object) -> str:
    wanted = RolloutStarted(version, "m", **({"reach": 10_000} | members))  # type: ignore[arg-type]
    return (await recorder.act(log_id, commands.start(wanted, actor="user/u"))).id


async def roll_back(recorder: Recorder, log_id: int, bad: str, **members: object) -> str:
    wanted = RollbackStarted(bad, "m", **({"reach": 10_000} | members))  # type: ignore[arg-type]
    return (await recorder.act(log_id, commands.roll_back(wanted, "bad", actor="user/u"))).id


async def recorded(db: Database, log_id: int) -> list[Event]:
    size = (await log.head(db, log_id)).size
    pages = [page async for page in log.read(db, log_id, 0, size)]
    return [decode(position, text).event for page in pages for position, _, text in page]
