"""Models what a simulated fleet does, and what a service must record of it. Pure.

The model is written from the interface's text and shares no code with the service's rules: it
keeps every receipt, and derives a device's state by sorting all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from firmtrail.events.times import time_ms, time_text

type ClockMs = Callable[[], int]
"""Unix milliseconds."""
type Style = Literal["id", "seq", "clock", "bare"]

STYLES: tuple[Style, ...] = ("id", "seq", "clock", "bare")
MOVING = frozenset({"installed", "running"})
FAILING = frozenset({"failed", "rejected"})
YEAR_2015_MS = 1_420_070_400_000
ROUNDS = 2
"""The rounds of a fleet without a duration: the first installs, then one in which some devices
act."""
ACTING = 0.6
"""The share of devices that act in a round after the first."""
OFFLINE_MS = 90 * 86_400_000


class ReportBody(Struct, frozen=True, omit_defaults=True, gc=False):
    """Holds the body of a report."""

    version: str
    status: str = "installed"
    report_id: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    occurred_at: str | UnsetType = UNSET
    question: str | UnsetType = UNSET
    rollout: str | UnsetType = UNSET


class RecordedReport(NamedTuple):
    """Holds a report with its first receipt."""

    report: ReportBody
    position: int
    recorded_at_ms: int

    @property
    def occurred_at_ms(self) -> int | None:
        """Returns the device's time; None if it gave none, or one that is not plausible."""
        if self.report.occurred_at is UNSET:
            return None
        claimed_ms = time_ms(self.report.occurred_at)
        return claimed_ms if claimed_ms >= YEAR_2015_MS else None

    @property
    def time_ms(self) -> int:
        occurred_at_ms = self.occurred_at_ms
        return self.recorded_at_ms if occurred_at_ms is None else occurred_at_ms

    @property
    def order(self) -> tuple[int, int]:
        """Returns what the device's reports are sorted by."""
        first = self.time_ms if self.report.seq is UNSET else self.report.seq
        return first, self.position


class SimulatedDevice:
    """Holds a device's next report, and the reports that it has receipts for."""

    __slots__ = ("major", "name", "patch", "recorded", "rollbacks", "secret", "seq", "style")

    def __init__(self, name: str, style: Style) -> None:
        self.name = name
        self.style = style
        self.secret = ""
        self.major = 1
        self.patch = 0
        self.seq = 0
        self.recorded: list[RecordedReport] = []
        self.rollbacks: set[int] = set()
        """The positions of its reports that followed a rollback."""

    def known(self, report: ReportBody) -> RecordedReport | None:
        """Returns the recorded report that this one repeats, if any (API, "Once")."""
        if self.style == "bare":
            return self._repeats_last(report)
        wanted = identity(report)
        return next((each for each in self.recorded if identity(each.report) == wanted), None)

    def _repeats_last(self, report: ReportBody) -> RecordedReport | None:
        if not self.recorded or report.question is not UNSET:
            return None
        last = max(self.recorded, key=lambda each: each.position)
        if last is not max(self.recorded, key=lambda each: each.order):
            return None
        is_same = (
            report.status == last.report.status or {report.status, last.report.status} <= MOVING
        )
        return last if is_same and report.version == last.report.version else None


def identity(report: ReportBody) -> tuple[Any, ...]:
    if report.report_id is not UNSET:
        return ("id", report.report_id)
    if report.seq is not UNSET:
        return ("seq", report.seq)
    return (report.version, report.status, report.occurred_at)


class Post(NamedTuple):
    """Holds one request of a device, with its reports; `is_twice`: sent twice in parallel."""

    device: SimulatedDevice
    reports: Sequence[ReportBody]
    is_array: bool = False
    is_twice: bool = False


def devices(prefix: str, count: int) -> list[SimulatedDevice]:
    return [SimulatedDevice(f"{prefix}-{n}", STYLES[n % len(STYLES)]) for n in range(count)]


def first_installs(
    fleet: Sequence[SimulatedDevice], random: Random, clock_ms: ClockMs
) -> Iterator[Post]:
    """Yields the first install of every device, in random order."""
    for device in random.sample(fleet, len(fleet)):
        yield Post(device, [_report(device, "installed", clock_ms())])


def later_acts(
    fleet: Sequence[SimulatedDevice], random: Random, clock_ms: ClockMs
) -> Iterator[Post]:
    """Yields one random act each of some devices."""
    for device in random.sample(fleet, len(fleet)):
        if device.recorded and random.random() < ACTING:
            yield random.choice(ACTS)(device, random, clock_ms())


def _update(device: SimulatedDevice, random: Random, now_ms: int) -> Post:
    device.patch += 1
    steps = ("downloading", "downloaded", "installing", "rebooting", "installed")
    chosen = steps if random.random() < 0.5 else steps[-2:]
    return Post(device, _reports(device, chosen, now_ms), is_array=True)


def _quick_update(device: SimulatedDevice, random: Random, now_ms: int) -> Post:
    device.patch += 1
    return Post(device, [_report(device, "installed", now_ms)], is_twice=random.random() < 0.5)


def _failure(device: SimulatedDevice, random: Random, now_ms: int) -> Post:
    """Returns an update that fails, or that boots and then falls back to the previous version."""
    device.patch += 1
    ends = random.choice(("failed", "rejected", "installed"))
    reports = _reports(device, ("downloading", "installing", ends), now_ms)
    device.patch -= 1
    if ends == "installed":
        reports.append(_report(device, "installed", now_ms + 10))
    return Post(device, reports, is_array=True)


def _heartbeat(device: SimulatedDevice, _: Random, now_ms: int) -> Post:
    return Post(device, [_report(device, "running", now_ms)])


def _retry(device: SimulatedDevice, random: Random, now_ms: int) -> Post:
    """Returns a report that is sent again because its answer was lost. A bare report has no
    identity, so only the device's last one can be repeated."""
    if device.style == "bare":
        return _heartbeat(device, random, now_ms)
    return Post(device, [random.choice(device.recorded).report])


def _come_back(device: SimulatedDevice, random: Random, now_ms: int) -> Post:
    """Returns the reports of a device that was offline: the steps to its version, in any order."""
    if device.style in {"bare", "id"}:
        return _quick_update(device, random, now_ms)
    device.patch += 3
    began_ms = now_ms - random.randrange(86_400_000, OFFLINE_MS)
    past = [_report(device, "installed", began_ms + n * 3_600_000, n - 3) for n in range(4)]
    return Post(device, random.sample(past, len(past)), is_array=True)


ACTS = (_update, _quick_update, _failure, _heartbeat, _retry, _come_back)


def _reports(device: SimulatedDevice, statuses: Sequence[str], now_ms: int) -> list[ReportBody]:
    return [_report(device, status, now_ms + n) for n, status in enumerate(statuses)]


def _report(device: SimulatedDevice, status: str, now_ms: int, patches: int = 0) -> ReportBody:
    return report(device, f"{device.major}.0.{device.patch + patches}", status, now_ms)


def report(
    device: SimulatedDevice, version: str, status: str, now_ms: int, **about: str
) -> ReportBody:
    """Returns the device's next report, in its style; `about` is a question or a rollout."""
    device.seq += 1
    return replace(_in_style(device, version, status, now_ms), **about)


def _in_style(device: SimulatedDevice, version: str, status: str, now_ms: int) -> ReportBody:
    match device.style:
        case "id":
            # Every third report comes from a clock that was never set.
            claim = time_text(now_ms if device.seq % 3 else device.seq * 1000)
            return ReportBody(version, status, report_id=f"r{device.seq}", occurred_at=claim)
        case "seq":
            return ReportBody(version, status, seq=device.seq)
        case "clock":
            return ReportBody(version, status, occurred_at=time_text(now_ms + device.seq))
        case "bare":
            return ReportBody(version, status)


class ExpectedLine(msgspec.Struct, frozen=True):
    """Holds a line of a device's history as the service must show it."""

    version: str
    previous_version: str | None
    change: str
    since: str
    position: int
    late: bool


class ExpectedState(msgspec.Struct, frozen=True):
    """Holds a device's state as the service must show it."""

    device: str
    version: str | None
    since: str | None
    previous_version: str | None
    status: str | None
    failing: bool


def history(device: SimulatedDevice) -> list[ExpectedLine]:
    """Returns the versions that the device ran, the newest first in the device's order."""
    runs: list[ExpectedLine] = []
    for each in sorted(device.recorded, key=lambda each: each.order):
        version = each.report.version
        if each.report.status in MOVING and (not runs or runs[-1].version != version):
            previous = runs[-1].version if runs else None
            change = _change(version, runs, is_rollback=each.position in device.rollbacks)
            since = time_text(each.time_ms)
            runs.append(
                ExpectedLine(version, previous, change, since, each.position, _late(device, each))
            )
    return runs[::-1]


def _change(version: str, before: Sequence[ExpectedLine], *, is_rollback: bool) -> str:
    if not before:
        return "first"
    if _number(version) > _number(before[-1].version):
        return "upgrade"
    if is_rollback:
        return "rollback"
    return "revert" if version == before[-1].previous_version else "downgrade"


def _number(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _late(device: SimulatedDevice, report: RecordedReport) -> bool:
    """Returns whether a report that is later in the device's order was recorded before it."""
    return any(
        each.position < report.position and each.order[0] > report.order[0]
        for each in device.recorded
    )


def state(device: SimulatedDevice) -> ExpectedState:
    if not device.recorded:
        return ExpectedState(device.name, None, None, None, None, failing=False)
    status = max(device.recorded, key=lambda each: each.order).report.status
    newest = next(iter(history(device)), None)
    if newest is None:
        return ExpectedState(device.name, None, None, None, status, status in FAILING)
    return ExpectedState(
        device.name,
        newest.version,
        newest.since,
        newest.previous_version,
        status,
        status in FAILING,
    )
