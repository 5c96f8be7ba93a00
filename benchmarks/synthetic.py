"""Makes the rows that a fleet's registrations and reports leave in the log and its views.

They are those that the service would have written. Every report changes its device's version, as
that is the most work that a report can cause.
"""

import random
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import batched
from typing import NamedTuple

from benchmarks import fleet
from benchmarks.fleet import PROJECT, VERSIONS
from firmtrail.access import credentials
from firmtrail.eventstore import merkle
from firmtrail.projections.fleet_versions import BUCKET_EVENTS

PAGE_EVENTS = 50_000
GENERATION = 1
MODEL = "m1"

FIRST_SERIAL = 1 << 48
"""The ids of the reports begin here: those that `Fleet` makes begin at 0."""

type SubtreeRow = tuple[int, int, int, str]

type Rows = dict[str, list[tuple[int | str | None, ...]]]
"""Rows by table, each in the order of `COLUMNS`."""

COLUMNS = {
    table: tuple(names.split())
    for table, names in {
        "events": "log_id position stream event_id recorded_at_ms entry",
        "device_secrets": "digest project device secret_id created_at_ms",
        "device_attributes": """
            log_id generation device position model tags decommissioned pending""",
        "device_history": """
            log_id generation device place position moves version status time_ms recorded_at_ms
            occurred_at_ms late detailed""",
        "fleet_moves": """
            log_id generation position model_left version_left model_entered version_entered""",
        "device_current": """
            log_id generation device version since_ms previous_version run_place run_position
            last_place last_position last_version status recorded_position recorded_at_ms
            registered_at_ms model tags decommissioned counting_place is_ordered pending""",
        "fleet_versions": "log_id generation model version bucket devices",
        "subtrees": "log_id level number hash",
    }.items()
}


class End(NamedTuple):
    """Describes the end of the log that the rows continue."""

    log_id: int
    size: int
    frontier: merkle.Frontier
    recorded_at_ms: int


class Counts:
    """Counts the devices of each version, as they are at the end of each bucket of positions."""

    def __init__(self) -> None:
        self._now = Counter[str]()
        self._changed: set[str] = set()
        self._bucket = 0
        self._kept: dict[tuple[str, int], int] = {}

    def add(self, position: int, version: str, added: int) -> None:
        if (bucket := position // BUCKET_EVENTS) != self._bucket:
            self._keep()
            self._bucket = bucket
        self._now[version] += added
        self._changed.add(version)

    def _keep(self) -> None:
        self._kept |= {(each, self._bucket): self._now[each] for each in self._changed}
        self._changed.clear()

    def all(self) -> list[tuple[str, int, int]]:
        """Returns (version, bucket, devices); the version is "" before a device's first report."""
        self._keep()
        return [(*key, devices) for key, devices in self._kept.items()]


class SyntheticLog:
    """Makes the rows, and keeps the state of each device in arrays."""

    def __init__(self, end: End, devices: int) -> None:
        self.end = end
        self.devices = devices
        self._registered_ms = end.recorded_at_ms
        none = [-1] * devices
        self._version, self._previous = array("b", none), array("b", none)
        self._position, self._last_ms = array("q", none), array("q", none)
        self._counts = Counts()
        self._serial = FIRST_SERIAL

    def registrations(self) -> Iterator[Rows]:
        """Yields the rows that registering the fleet adds."""
        for numbers in batched(range(self.devices), PAGE_EVENTS):
            yield self._registered(numbers)

    def _registered(self, numbers: Sequence[int]) -> Rows:
        log_id, at_ms = self.end.log_id, self._registered_ms
        rows: Rows = {table: [] for table in REGISTERED}
        events, secrets, attributes, moves, subtrees = rows.values()
        for position, number in enumerate(numbers, self.end.size):
            name, secret_id = fleet.name(number), f"k_{number:032x}"
            event_id, entry = f"s.{number:032x}", _registration(name, number, at_ms)
            events.append((log_id, position, f"device/{name}", event_id, at_ms, entry))
            digest = credentials.digest(fleet.secret(number))
            secrets.append((digest, PROJECT, name, secret_id, at_ms))
            attributes.append((log_id, GENERATION, name, position, MODEL, "", 0, 0))
            moves.append((log_id, GENERATION, position, None, None, MODEL, ""))
            self._counts.add(position, "", 1)
        subtrees += self._append([str(event[-1]) for event in events], at_ms)
        return rows

    def reports(self, reports: int) -> Iterator[Rows]:
        """Yields the rows that reports of random devices add, recorded while they are made."""
        first, self._serial = self._serial, self._serial + reports
        for serials in batched(range(first, self._serial), PAGE_EVENTS):
            yield self._reported(serials)

    def _reported(self, serials: Sequence[int]) -> Rows:
        log_id, began_ms = self.end.log_id, self.end.recorded_at_ms
        step_ms = max(0, time.time_ns() // 1_000_000 - began_ms) / len(serials)
        rows: Rows = {table: [] for table in REPORTED}
        events, history, moves, subtrees = rows.values()
        for n, serial in enumerate(serials):
            position, at_ms = self.end.size + n, began_ms + int(n * step_ms)
            number = int(random.random() * self.devices)
            name, (left, version) = fleet.name(number), self._update(number, position, at_ms)
            event_id, entry = f"r.{serial:016x}", _report(name, serial, version, at_ms)
            events.append((log_id, position, f"device/{name}", event_id, at_ms, entry))
            place = (log_id, GENERATION, name, at_ms, position)
            history.append((*place, 1, version, "installed", at_ms, at_ms, at_ms, 0, 0))
            moves.append((log_id, GENERATION, position, MODEL, left, MODEL, version))
        subtrees += self._append([str(event[-1]) for event in events], at_ms)
        return rows

    def _update(self, number: int, position: int, at_ms: int) -> tuple[str, str]:
        """Gives a device another version; returns the version before, and the new one."""
        was = self._version[number]
        now = (was + 1 + int(random.random() * (len(VERSIONS) - 1))) % len(VERSIONS)
        self._previous[number], self._version[number] = was, now
        self._position[number], self._last_ms[number] = position, at_ms
        left, entered = VERSIONS[was] if was >= 0 else "", VERSIONS[now]
        self._counts.add(position, left, -1)
        self._counts.add(position, entered, 1)
        return left, entered

    def _append(self, entries: Sequence[str], recorded_at_ms: int) -> Iterator[SubtreeRow]:
        """Adds the entries to the tree; returns the rows of the subtrees that they complete."""
        leaves = [merkle.leaf_hash(entry.encode()) for entry in entries]
        frontier, completed = merkle.extend(self.end.frontier, self.end.size, leaves)
        log_id, size = self.end.log_id, self.end.size + len(entries)
        self.end = End(log_id, size, frontier, recorded_at_ms)
        return ((log_id, level, number, node.hex()) for level, number, node in completed)

    def summaries(self) -> Iterator[Rows]:
        """Yields the rows that depend on all events so far."""
        log_id = self.end.log_id
        counts = self._counts.all()
        yield {"fleet_versions": [(log_id, GENERATION, MODEL, *count) for count in counts]}
        for numbers in batched(range(self.devices), PAGE_EVENTS):
            yield {"device_current": [self._current(number) for number in numbers]}

    def _current(self, number: int) -> tuple[int | str | None, ...]:
        device = (self.end.log_id, GENERATION, fleet.name(number))
        rest = (self._registered_ms, MODEL, "", 0, 0, 0, 0)
        if (version := self._version[number]) < 0:
            return (*device, None, None, None, -1, -1, -1, *[None] * 5, *rest)
        at_ms, position, now = self._last_ms[number], self._position[number], VERSIONS[version]
        before = VERSIONS[self._previous[number]] if self._previous[number] >= 0 else None
        ran = (now, at_ms, before, at_ms, position)
        return (*device, *ran, at_ms, position, now, "installed", position, at_ms, *rest)


REGISTERED = ("events", "device_secrets", "device_attributes", "fleet_moves", "subtrees")
REPORTED = ("events", "device_history", "fleet_moves", "subtrees")


def _registration(name: str, number: int, at_ms: int) -> str:
    return (
        f'{{"specversion":"1.0","id":"s.{number:032x}","source":"/projects/{PROJECT}/device/{name}"'
        f',"type":"firmtrail.DeviceRegistered.v1","subject":"device/{name}","time":"{_iso(at_ms)}"'
        f',"actor":"system","data":{{"model":"{MODEL}","secret_id":"k_{number:032x}"}}}}'
    )


def _report(name: str, serial: int, version: str, at_ms: int) -> str:
    when = _iso(at_ms)
    return (
        f'{{"specversion":"1.0","id":"r.{serial:016x}","source":"/projects/{PROJECT}/device/{name}"'
        f',"type":"firmtrail.FirmwareInstalled.v1","subject":"device/{name}","time":"{when}"'
        f',"actor":"device/{name}","data":{{"version":"{version}","occurred_at":"{when}"}}}}'
    )


@lru_cache(maxsize=4)
def _iso(at_ms: int) -> str:
    """Returns the time as entries have it; events of the same millisecond follow each other."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03}Z"
