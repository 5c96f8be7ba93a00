"""Fills an embedded database through the recorder, as a server does, but without HTTP."""

import asyncio
import time
from collections.abc import Iterator
from itertools import batched
from pathlib import Path
from typing import Any

import uvloop
from rich.progress import Progress

from benchmarks import fleet
from benchmarks.fleet import Fleet
from firmtrail.access import credentials
from firmtrail.access.device_secrets import SealedSecret
from firmtrail.commands.devices import DeviceRegistration, register
from firmtrail.database.database import Statement
from firmtrail.database.sqlite import SQLite
from firmtrail.events.fleet import DeviceRegistered
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.report import ReportCommand

REGISTRATIONS = 10_000
PARALLEL_ARRAYS = 2

_LOG = "SELECT log_id FROM projects WHERE project = $1"

_SIZE = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
"""Gives the size of the file once its write-ahead log is copied into it."""


type Arrays = Iterator[list[dict[str, Any]]]
"""Holds arrays of reports, as gateways send them."""


def fill(path: Path, devices: Fleet, arrays: Arrays, reports: int) -> float:
    """Registers the fleet, then records the reports; returns the bytes that each report takes."""
    return uvloop.run(_fill(path, devices, arrays, reports))


def to_report(claimed: dict[str, Any]) -> ReportCommand:
    """Returns the report that the service makes of an item of a gateway's array."""
    device = claimed["device"]
    return ReportCommand(
        device,
        claimed["version"],
        claimed["status"],
        f"device/{device}",
        report_id=claimed["report_id"],
        occurred_at_ms=int(time.time() * 1000),
    )


async def _fill(path: Path, devices: Fleet, arrays: Arrays, reports: int) -> float:
    db = await SQLite.open(path)
    [[log_id]] = await db.read(Statement(_LOG, (fleet.PROJECT,)))
    recorder = Recorder(db)
    with Progress() as progress:
        registering = progress.add_task("registering", total=devices.devices)
        for numbers in batched(range(devices.devices), REGISTRATIONS):
            new = [_registration(number) for number in numbers]
            await recorder.act(log_id, register(new, actor="system"))
            progress.advance(registering, len(new))
        before = await _bytes(db)
        recording = progress.add_task("recording", total=reports)

        async def record() -> None:
            for array in arrays:
                await recorder.report(log_id, [to_report(each) for each in array])
                progress.advance(recording, len(array))

        await asyncio.gather(*(record() for _ in range(PARALLEL_ARRAYS)))
    await recorder.close()
    after = await _bytes(db)
    await db.close()
    return (after - before) / reports


def _registration(number: int) -> DeviceRegistration:
    device = fleet.name(number)
    digest = credentials.digest(fleet.secret(number))
    return DeviceRegistration(
        SealedSecret(device, credentials.new_id("k"), digest), DeviceRegistered("m1")
    )


async def _bytes(db: SQLite) -> int:
    [[size]] = await db.read(Statement(_SIZE))
    return int(size)
