"""Models a device's order and history as the interface describes them: sort and group all reports.

It is written from the interface alone, and slow on purpose: it shares no code with the rules but
the events, times and the precedence of versions.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from msgspec import UNSET

from firmtrail.events import times
from firmtrail.events.event import Recorded
from firmtrail.events.fleet import (
    REPORTS,
    DeviceChanged,
    DeviceDecommissioned,
    DeviceRegistered,
    DeviceRestored,
    DeviceSecretIssued,
    ReportEvent,
)
from firmtrail.rules import version

MOVING = {"installed", "running"}
INSTALLING = {"installing", "rebooting"}
EARLIEST_MS = times.time_ms("2015-01-01T00:00:00Z")


class ModelReport(NamedTuple):
    """Holds a report in its device's order; compares by (place, position)."""

    place: tuple[int, int, int]
    """(counting, 1, seq) once the device has sent a seq in this counting, before that (counting, 0,
    time)."""
    position: int
    version: str
    status: str
    time_ms: int
    clock: str | None
    late: bool
    pinned: str | None


class Line(NamedTuple):
    """Holds a line of a history: (position, version, the version before, change)."""

    position: int
    version: str
    previous: str | None
    change: str
    since_ms: int
    late: bool


class Device:
    """Folds one device from its events, in the order of the log."""

    def __init__(self) -> None:
        self.attributes: dict[str, object] | None = None
        self.registered_ms = 0
        self.recorded_ms = 0
        self.counting = 0
        self.reports: list[ModelReport] = []

    def take(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, REPORTS):
            self.reports.append(self._report(recorded))
        elif isinstance(event, DeviceRegistered):
            self.attributes = {"model": event.model, "tags": event.tags, "out": False}
            self.registered_ms = recorded.recorded_at_ms
        elif isinstance(event, DeviceSecretIssued):
            self.counting += event.new_counting
        elif isinstance(event, DeviceChanged):
            assert self.attributes is not None
            members = ((name, getattr(event, name)) for name in event.__struct_fields__)
            self.attributes |= {name: value for name, value in members if value is not UNSET}
        elif isinstance(event, DeviceDecommissioned | DeviceRestored):
            assert self.attributes is not None
            self.attributes["out"] = isinstance(event, DeviceDecommissioned)

    def _report(self, recorded: Recorded) -> ModelReport:
        event = recorded.event
        assert isinstance(event, REPORTS)
        assert self.attributes is not None
        time_ms, clock = recorded.recorded_at_ms, None
        if event.occurred_at is not None:
            claim_ms = times.time_ms(event.occurred_at)
            if claim_ms < EARLIEST_MS:
                clock = "unset"
            elif claim_ms > recorded.recorded_at_ms + 5 * 60_000:
                clock = "ahead"
            else:
                time_ms = claim_ms
        last = max(self.reports, default=None)
        highest = last.place if last else (-1, 0, 0)
        is_counted = highest[:2] == (self.counting, 1)
        place = highest if is_counted else (self.counting, 0, time_ms)
        if event.seq is not None:
            place = (self.counting, 1, event.seq)
        elif (
            clock is None
            and last
            and place < (self.counting, 0, self.registered_ms) <= highest
            and self._is_behind(event, time_ms, last, recorded.recorded_at_ms - self.recorded_ms)
        ):
            clock, time_ms = "behind", recorded.recorded_at_ms
            place = max(highest, (self.counting, 0, time_ms))
        self.recorded_ms = recorded.recorded_at_ms
        pinned = self.attributes.get("pinned")
        assert pinned is None or isinstance(pinned, str)
        return ModelReport(
            place,
            recorded.position,
            event.version,
            event.status,
            time_ms,
            clock,
            place < highest,
            pinned,
        )

    def _is_behind(
        self, event: ReportEvent, time_ms: int, last: ModelReport, passed_ms: int
    ) -> bool:
        """Returns whether an installed version follows its own installing: the last report in
        order, or the one recorded last if no more time passed by the claims than in fact."""
        if event.occurred_at is None or event.status not in MOVING:
            return False
        recent = self.reports[-1]
        is_recent = recent.status in INSTALLING and recent.version == event.version
        most_ms = passed_ms + 1000 if passed_ms >= 1000 else 0
        if is_recent and time_ms - recent.time_ms < most_ms:
            return True
        is_awaited = last.status in INSTALLING or last.clock == "behind"
        return is_awaited and event.version == last.version

    def order(self) -> list[ModelReport]:
        return sorted(self.reports)

    def moving(self) -> list[ModelReport]:
        return [report for report in self.order() if report.status in MOVING]

    def moving_until(self, at_ms: int) -> list[ModelReport]:
        """Returns the reports up to the last one, in the device's order, whose time is <= at_ms."""
        reports = self.moving()
        until = [n for n, report in enumerate(reports, start=1) if report.time_ms <= at_ms]
        return reports[: max(until, default=0)]


def history(moving: Iterable[ModelReport]) -> list[Line]:
    """Returns the reports with neighbours of one version merged into the earliest; oldest first."""
    firsts = [next(run) for _, run in groupby(moving, key=lambda report: report.version)]
    return [
        Line(
            report.position,
            report.version,
            firsts[n - 1].version if n else None,
            _change(report, [first.version for first in firsts[:n]]),
            report.time_ms,
            report.late,
        )
        for n, report in enumerate(firsts)
    ]


def _change(report: ModelReport, before: Sequence[str]) -> str:
    if not before:
        return "first"
    order = version.precedence(report.version).compare(version.precedence(before[-1]))
    goes_back = len(before) > 1 and before[-2] == report.version
    if order < 0 and goes_back and report.version != report.pinned:
        return "revert"
    return {1: "upgrade", -1: "downgrade", 0: "build"}[order]


def devices(recorded: Iterable[Recorded]) -> dict[str, Device]:
    """Returns the devices that are registered after these events."""
    found: dict[str, Device] = {}
    for event in recorded:
        kind, _, name = event.stream.partition("/")
        if kind == "device":
            found.setdefault(name, Device()).take(event)
    return found


def counts(found: dict[str, Device]) -> dict[tuple[object, str | None], int]:
    """Counts the devices of each (model, version), without decommissioned ones."""
    return Counter(
        (device.attributes["model"], moving[-1].version if (moving := device.moving()) else None)
        for device in found.values()
        if device.attributes is not None and not device.attributes["out"]
    )
