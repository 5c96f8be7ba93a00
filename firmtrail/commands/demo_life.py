"""Lets the demo's fleet live: every few seconds one of its devices calls, as a real device does.

A device that is offered a version installs it, or fails as often as in the fleet's past. The rules
decide, and every event has its own time, so a rollout that a person starts in the demo spreads.
"""

import asyncio
from collections.abc import Iterable
from itertools import cycle
from typing import NamedTuple

import structlog

from firmtrail.access.lookup import Access
from firmtrail.commands import demo_fleet
from firmtrail.database.database import Unavailable
from firmtrail.events.fleet import Status
from firmtrail.recording.check_ins import CheckIn
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.device import Refused
from firmtrail.rules.report import ReportCommand
from firmtrail.rules.situation import Decision

EVERY_S = 2.0
FAILING = 0.03

_log = structlog.get_logger("firmtrail.commands")


class DemoFleet(NamedTuple):
    """Holds the parts that record the life of the demo's fleet."""

    access: Access
    recorder: Recorder


async def live(fleet: DemoFleet, names: Iterable[str], *, every_s: float = EVERY_S) -> None:
    """Lets these devices call one after the other, again and again, until it is cancelled."""
    for name in cycle(names):
        await asyncio.sleep(every_s)
        try:
            await call(fleet, name)
        except (Unavailable, Refused) as error:
            _log.info("a device of the demo could not call", device=name, reason=str(error))


def callers() -> list[str]:
    """Returns the devices of the fleet that are on the network, in an order that mixes models."""
    everyone = [each for each in demo_fleet.devices() if demo_fleet.is_kept_up(each)]
    return [each.name for each in sorted(everyone, key=lambda each: each.luck)]


async def call(fleet: DemoFleet, name: str) -> None:
    """Lets the device ask what it should run, and report the outcome of an offer. Raises `Refused`
    if it may not, and what the recorder raises."""
    log_id = await fleet.access.project(demo_fleet.PROJECT)
    if log_id is None:
        return
    actor = f"device/{name}"
    decision = await fleet.recorder.check_in(log_id, CheckIn(name, actor))
    fleet.access.seen.touch(demo_fleet.PROJECT, name, fleet.access.now_ms())
    if decision.action != "none":
        await fleet.recorder.report(log_id, _reports(name, decision))


def _reports(name: str, decision: Decision) -> list[ReportCommand]:
    """Returns the reports of a device about the version that it is offered."""
    assert decision.version is not None, "an offer names a version"
    luck = demo_fleet.luck_of(f"fails {decision.source} {name}")
    last: Status = "failed" if luck < FAILING else "installed"
    steps: tuple[tuple[Status, str | None], ...] = (
        ("installing", None),
        (last, demo_fleet.FAILURES[0] if last == "failed" else None),
    )
    return [
        ReportCommand(
            name,
            decision.version,
            status,
            f"device/{name}",
            rollout=decision.rollout,
            detail=detail,
        )
        for status, detail in steps
    ]
