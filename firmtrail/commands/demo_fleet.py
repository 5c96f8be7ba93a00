"""Makes the demo's fleet: four weeks of three models, in a project of its own.

The first look at a console should show life: releases that spread, one that was recalled, a rollout
under way, devices that fail and devices that are silent. All of it is simulated, and recorded as of
the days before the start, in one transaction. No other log has events that were not recorded when
they say. The project of the seed's routes stays as it is.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec

from firmtrail.access import projects
from firmtrail.access import settings as project_settings
from firmtrail.access.people import set_role
from firmtrail.database.database import Database, Given, Statement, Transaction
from firmtrail.events.access import MemberAdded
from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import (
    DeviceRegistered,
    FirmwareInstalled,
    FirmwareRunning,
    ReleaseAdded,
    ReleaseWithdrawn,
    SettingsChanged,
    UpdateFailed,
    UpdateProgressed,
)
from firmtrail.events.steering import (
    Cause,
    RollbackStarted,
    RolloutAdvanced,
    RolloutStarted,
    UpdateOffered,
)
from firmtrail.events.times import DAY_MS
from firmtrail.publishing.minimum_sizes import MinimumSizes
from firmtrail.recording.commit import SYSTEM, Commit, begin
from firmtrail.recording.recorder import start_log
from firmtrail.rules import release, rollout
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.settings import INITIAL

PROJECT = "demo-fleet"

HOUR_MS = 3_600_000
DAYS = 28

PUMPS, VALVES, GAUGES = 240, 110, 50
WHY_RECALLED = "The valve sticks below zero."
FAILURES = ("no space left on device", "signature not valid", "download broke off")

_SEEN = """\
INSERT INTO device_seen (project, device, seen_at_ms)
SELECT $1, given.device, given.seen_at_ms
FROM given
WHERE TRUE
ON CONFLICT (project, device) DO UPDATE
SET seen_at_ms = excluded.seen_at_ms"""


class Happening(NamedTuple):
    """Holds an event of the story, when it happens, and its free text."""

    at_ms: int
    stream: str
    event: Event
    actor: str
    text: str | None = None


class DemoDevice(NamedTuple):
    """Holds a device of the story; `luck` of 0 to 1 decides when and how its updates go."""

    name: str
    model: str
    luck: float

    @property
    def stream(self) -> str:
        return f"device/{self.name}"


class Wave(NamedTuple):
    """Describes how a release spreads over devices in the course of some days."""

    version: str
    order: str
    """The id of the rollout or rollback that offers it."""
    first_day: float
    last_day: float
    failing: float = 0.0
    """The share of the devices whose update fails."""
    cause: Cause = "rollout"


async def ensure(db: Database, admin: str) -> None:
    """Makes the fleet, with this user as its admin, unless its project exists."""
    async with db.transaction() as tx:
        [reserved] = await tx.run(projects.reserve(PROJECT))
        if reserved:
            await _make(tx, admin)


async def _make(tx: Transaction, admin: str) -> None:
    log_id = await start_log(tx, PROJECT)
    await tx.run(projects.set_log(PROJECT, log_id), set_role(PROJECT, admin, "admin"))
    commit = await begin(tx, log_id, MinimumSizes())
    now_ms, everyone = commit.draft.now_ms, devices()
    story = [*beginning(now_ms, admin), *life(now_ms, admin, everyone)]
    past = (each for each in sorted(story, key=lambda each: each.at_ms) if each.at_ms <= now_ms)
    await _record(commit, past, now_ms)
    rows = [(each.name, _seen_at_ms(each, now_ms)) for each in everyone]
    given = Given("device text, seen_at_ms bigint", rows)
    await commit.run(Statement(_SEEN, (PROJECT,), given))


async def _record(commit: Commit, story: Iterable[Happening], now_ms: int) -> None:
    """Records the story; all events that are written together have one time."""
    await commit.devices([each.name for each in devices()])
    left_out: set[tuple[str, str]] = set()
    for at_ms, together in groupby(story, key=lambda each: _written_ms(each, now_ms)):
        commit.draft.now_ms = at_ms
        for each in together:
            if not _is_left_out(commit, each, left_out):
                commit.draft.record(each.stream, each.event, actor=each.actor, text=each.text)
        await commit.flush()


def _written_ms(each: Happening, now_ms: int) -> int:
    """Returns when an event is written: on the last day within a quarter of an hour, earlier within
    three hours."""
    ago_ms = now_ms - each.at_ms
    step_ms = HOUR_MS // 4 if ago_ms < DAY_MS else 3 * HOUR_MS
    return now_ms - ago_ms // step_ms * step_ms


def _is_left_out(commit: Commit, each: Happening, left_out: set[tuple[str, str]]) -> bool:
    """Returns whether the event cannot be: a rollout that has paused itself offers nothing, and a
    rollback offers nothing to a device that never got the bad version. Adds what was not offered
    to `left_out`, because no report of it follows."""
    order = getattr(each.event, "rollout", None)
    if order is None:
        return False
    if isinstance(each.event, UpdateOffered):
        offering = commit.draft.control.rollouts[order]
        version = commit.draft.fold.states[each.stream.removeprefix("device/")].version
        if offering.phase != "running" or offering.bad_version not in {None, version}:
            left_out.add((each.stream, order))
    return (each.stream, order) in left_out


def devices() -> list[DemoDevice]:
    """Returns the fleet, the same in every demo."""
    models = (("pump", PUMPS), ("valve", VALVES), ("gauge", GAUGES))
    names = [(f"{model}-{each:03}", model) for model, count in models for each in range(count)]
    return [DemoDevice(name, model, luck_of(name)) for name, model in names]


def luck_of(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def beginning(now_ms: int, admin: str) -> list[Happening]:
    """Returns the first events, by which the demo recognises the project."""
    start_ms, settings = now_ms - DAYS * DAY_MS, msgspec.structs.asdict(INITIAL)
    first: list[tuple[str, Event]] = [
        (project_settings.stream(PROJECT), SettingsChanged(**settings)),
        (f"user/{admin}", MemberAdded(admin, "admin")),
        *(_added(model, version) for model, version in FIRST_RELEASES),
    ]
    return [Happening(start_ms, stream, event, SYSTEM) for stream, event in first]


FIRST_RELEASES = (("pump", "1.4.2"), ("valve", "2.0.1"), ("gauge", "0.9.0"))


def _added(model: str, version: str) -> tuple[str, Event]:
    return release.stream(ReleaseKey(model, version)), ReleaseAdded(model, version)


def life(now_ms: int, admin: str, everyone: Sequence[DemoDevice]) -> Iterator[Happening]:
    """Yields the orders of people, and what devices report, in no order of time."""
    actor = f"user/{admin}"
    for day, stream, event, text in _orders():
        yield Happening(_at(now_ms, day), stream, event, actor, text)
    for each in everyone:
        yield from _registration(each, now_ms)
        for wave in _waves(each):
            yield from _update(each, wave, now_ms)


def _orders() -> Iterator[tuple[float, str, Event, str | None]]:
    """Yields what people ordered: the day, the stream, the event and its reason."""
    for day, model, version in (
        (22.0, "pump", "1.5.0"),
        (17.0, "valve", "2.0.3"),
        (12.5, "pump", "1.6.0"),
        (7.0, "pump", "1.6.1"),
        (1.2, "valve", "2.1.0"),
    ):
        yield day, *_added(model, version), None
    starts: tuple[tuple[float, str, Event], ...] = (
        (21.5, "r_150", RolloutStarted("1.5.0", "pump", 10_000)),
        (16.5, "r_203", RolloutStarted("2.0.3", "valve", 10_000)),
        (12.0, "r_160", _watched("1.6.0", "pump", 4_000, failed_percent=15)),
        (6.5, "r_161", _watched("1.6.1", "pump", 2_500, failed_percent=8)),
        (4.0, "r_161", RolloutAdvanced(7_500)),
        (1.0, "r_210", _watched("2.1.0", "valve", 1_000, failed_percent=2)),
    )
    for day, order, event in starts:
        yield day, rollout.stream(order), event, None
    recalled = RollbackStarted("1.6.0", "pump", 10_000)
    yield 9.5, rollout.stream("r_back"), recalled, WHY_RECALLED
    withdrawn = release.stream(ReleaseKey("pump", "1.6.0"))
    yield 9.5, withdrawn, ReleaseWithdrawn(), WHY_RECALLED


def _watched(version: str, model: str, reach: int, *, failed_percent: int) -> RolloutStarted:
    return RolloutStarted(
        version, model, reach, failed_percent=failed_percent, min_reports=40, silent_after_s=604_800
    )


def _registration(device: DemoDevice, now_ms: int) -> Iterator[Happening]:
    at_ms = _at(now_ms, DAYS - 0.01 - device.luck)
    cohort = "north" if device.luck < 0.4 else "south"
    event = DeviceRegistered(device.model, cohort, ("rev-c",) if device.luck > 0.7 else ())
    yield Happening(at_ms, device.stream, event, SYSTEM)
    version = dict(FIRST_RELEASES)[device.model]
    yield Happening(at_ms + HOUR_MS, device.stream, FirmwareRunning(version), device.stream)


def _waves(device: DemoDevice) -> Iterator[Wave]:
    if device.model == "valve":
        if is_kept_up(device):
            yield Wave("2.0.3", "r_203", 16.4, 9.0)
            if _reaches("r_210", device, 1_000):
                yield Wave("2.1.0", "r_210", 0.9, -0.4)
    elif device.model == "pump" and is_kept_up(device):
        yield Wave("1.5.0", "r_150", 21.4, 12.5, failing=0.03)
        if _reaches("r_160", device, 4_000):
            yield Wave("1.6.0", "r_160", 11.9, 9.8, failing=0.25)
            yield Wave("1.5.0", "r_back", 9.4, 8.4, cause="rollback")
        if _reaches("r_161", device, 2_500):
            yield Wave("1.6.1", "r_161", 6.4, 3.5, failing=0.03)
        elif _reaches("r_161", device, 7_500):
            yield Wave("1.6.1", "r_161", 3.9, -1.2, failing=0.03)


def is_kept_up(device: DemoDevice) -> bool:
    """Returns whether the device is on the network; the others stay on their first version."""
    return luck_of(f"kept up {device.name}") > 0.06


def _reaches(order: str, device: DemoDevice, reach: int) -> bool:
    return rollout.bucket(order, device.name) < reach


def _update(device: DemoDevice, wave: Wave, now_ms: int) -> Iterator[Happening]:
    """Yields an offer and its outcome. Few devices are early or late, most are in the middle."""
    luck = luck_of(f"{wave.version} {wave.order} {device.name}")
    spread = 0.5 - math.cos(math.pi * luck) / 2
    day = wave.first_day + (wave.last_day - wave.first_day) * spread
    offered_ms, actor = _at(now_ms, day), device.stream
    offer = UpdateOffered(wave.version, wave.cause, 1, wave.order)
    yield Happening(offered_ms, actor, offer, actor)
    installing = UpdateProgressed(wave.version, rollout=wave.order, status="installing")
    yield Happening(offered_ms + HOUR_MS, actor, installing, actor)
    if luck_of(f"fails {wave.order} {device.name}") < wave.failing:
        failed = UpdateFailed(wave.version, rollout=wave.order, status="failed")
        reason = FAILURES[int(luck_of(f"why {device.name}") ** 2 * len(FAILURES))]
        yield Happening(offered_ms + 2 * HOUR_MS, actor, failed, actor, reason)
    else:
        installed = FirmwareInstalled(wave.version, rollout=wave.order)
        yield Happening(offered_ms + 2 * HOUR_MS, actor, installed, actor)


def _seen_at_ms(device: DemoDevice, now_ms: int) -> int:
    """Returns when the device last called: most do so every few minutes, some stopped long ago."""
    if not is_kept_up(device):
        return _at(now_ms, DAYS - 2 - 18 * device.luck)
    return now_ms - int(device.luck * 15 * 60_000)


def _at(now_ms: int, days_ago: float) -> int:
    return now_ms - int(days_ago * DAY_MS)


def is_beginning(first: Sequence[Recorded]) -> bool:
    """Returns whether a log's first events are those of the demo's fleet. They have one time, which
    they have in no log that another command made."""
    return (
        [type(each.event) for each in first]
        == [SettingsChanged, MemberAdded, ReleaseAdded, ReleaseAdded]
        and {each.actor for each in first} == {SYSTEM}
        and len({each.recorded_at_ms for each in first}) == 1
    )
