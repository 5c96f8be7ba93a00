"""What a simulated fleet does, and what a service must have recorded of it. Pure.

The model is written from the interface's text and shares no code with the service's rules: it
keeps every receipt, and works out a device's state by sorting them all.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Literal, NamedTuple

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from firmtrail.events.times import time_ms, time_text

type Clock = Callable[[], int]
"""Unix milliseconds."""
type Style = Literal["id", "seq", "clock", "bare"]

STYLES: tuple[Style, ...] = ("id", "seq", "clock", "bare")
MOVING = frozenset({"installed", "running"})
FAILING = frozenset({"failed", "rejected"})
YEAR_2015_MS = 1_420_070_400_000
ROUNDS = 2
"""Of a fleet that is not given a time: the first install, and one in which some devices act."""
ACTING = 0.6
"""The share of devices that act in a round after the first."""
OFFLINE_MS = 90 * 86_400_000


class Report(Struct, frozen=True, omit_defaults=True, gc=False):
    """The body of a report."""

    version: str
    status: str = "installed"
    report_id: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    occurred_at: str | UnsetType = UNSET
    question: str | UnsetType = UNSET
    rollout: str | UnsetType = UNSET


class Recorded(NamedTuple):
    """A report with its first receipt."""

    report: Report
    position: int
    recorded_at_ms: int

    @property
    def occurred_at_ms(self) -> int | None:
        """The device's time, if it can be believed."""
        if self.report.occurred_at is UNSET:
            return None
        claimed_ms = time_ms(self.report.occurred_at)
        return claimed_ms if claimed_ms >= YEAR_2015_MS else None

    @property
    def time_ms(self) -> int:
        believed_ms = self.occurred_at_ms
        return self.recorded_at_ms if believed_ms is None else believed_ms

    @property
    def place(self) -> tuple[int, int]:
        first = self.time_ms if self.report.seq is UNSET else self.report.seq
        return first, self.position


class Device:
    """A device: what it is about to say, and what it was told was recorded."""

    __slots__ = ("major", "name", "patch", "recorded", "rollbacks", "secret", "seq", "style")

    def __init__(self, name: str, style: Style) -> None:
        self.name = name
        self.style = style
        self.secret = ""
        self.major = 1
        self.patch = 0
        self.seq = 0
        self.recorded: list[Recorded] = []
        self.rollbacks: set[int] = set()
        """Positions of the reports by which it followed a rollback."""

    def known(self, report: Report) -> Recorded | None:
        """What was recorded before and is this report again (API, "Once")."""
        if self.style == "bare":
            return self._repeats_last(report)
        wanted = identity(report)
        return next((each for each in self.recorded if identity(each.report) == wanted), None)

    def _repeats_last(self, report: Report) -> Recorded | None:
        if not self.recorded or report.question is not UNSET:
            return None
        last = max(self.recorded, key=lambda each: each.position)
        if last is not max(self.recorded, key=lambda each: each.place):
            return None
        is_same = (
            report.status == last.report.status or {report.status, last.report.status} <= MOVING
        )
        return last if is_same and report.version == last.report.version else None


def identity(report: Report) -> tuple[Any, ...]:
    if report.report_id is not UNSET:
        return ("id", report.report_id)
    if report.seq is not UNSET:
        return ("seq", report.seq)
    return (report.version, report.status, report.occurred_at)


class Post(NamedTuple):
    """One request of a device; `is_twice`: sent twice at the same moment."""

    device: Device
    reports: Sequence[Report]
    is_array: bool = False
    is_twice: bool = False


def devices(prefix: str, count: int) -> list[Device]:
    return [Device(f"{prefix}-{n}", STYLES[n % len(STYLES)]) for n in range(count)]


def first_installs(fleet: Sequence[Device], random: Random, clock_ms: Clock) -> Iterator[Post]:
    """Every device, in no order."""
    for device in random.sample(fleet, len(fleet)):
        yield Post(device, [_report(device, "installed", clock_ms())])


def later_acts(fleet: Sequence[Device], random: Random, clock_ms: Clock) -> Iterator[Post]:
    """Some devices, each with one act out of its life."""
    for device in random.sample(fleet, len(fleet)):
        if device.recorded and random.random() < ACTING:
            yield random.choice(ACTS)(device, random, clock_ms())


def _update(device: Device, random: Random, now_ms: int) -> Post:
    device.patch += 1
    steps = ("downloading", "downloaded", "installing", "rebooting", "installed")
    chosen = steps if random.random() < 0.5 else steps[-2:]
    return Post(device, _reports(device, chosen, now_ms), is_array=True)


def _quick_update(device: Device, random: Random, now_ms: int) -> Post:
    device.patch += 1
    return Post(device, [_report(device, "installed", now_ms)], is_twice=random.random() < 0.5)


def _failure(device: Device, random: Random, now_ms: int) -> Post:
    """An update that fails; or that boots, and falls back to the version before."""
    device.patch += 1
    ends = random.choice(("failed", "rejected", "installed"))
    reports = _reports(device, ("downloading", "installing", ends), now_ms)
    device.patch -= 1
    if ends == "installed":
        reports.append(_report(device, "installed", now_ms + 10))
    return Post(device, reports, is_array=True)


def _heartbeat(device: Device, _: Random, now_ms: int) -> Post:
    return Post(device, [_report(device, "running", now_ms)])


def _retry(device: Device, random: Random, now_ms: int) -> Post:
    """A report whose answer got lost, so it is sent again; a bare one means its last."""
    if device.style == "bare":
        return _heartbeat(device, random, now_ms)
    return Post(device, [random.choice(device.recorded).report])


def _come_back(device: Device, random: Random, now_ms: int) -> Post:
    """A device that was offline says first what it runs, then, in any order, how it got there."""
    if device.style in {"bare", "id"}:
        return _quick_update(device, random, now_ms)
    device.patch += 3
    began_ms = now_ms - random.randrange(86_400_000, OFFLINE_MS)
    past = [_report(device, "installed", began_ms + n * 3_600_000, n - 3) for n in range(4)]
    return Post(device, random.sample(past, len(past)), is_array=True)


ACTS = (_update, _quick_update, _failure, _heartbeat, _retry, _come_back)


def _reports(device: Device, statuses: Sequence[str], now_ms: int) -> list[Report]:
    return [_report(device, status, now_ms + n) for n, status in enumerate(statuses)]


def _report(device: Device, status: str, now_ms: int, patches: int = 0) -> Report:
    return report(device, f"{device.major}.0.{device.patch + patches}", status, now_ms)


def report(device: Device, version: str, status: str, now_ms: int, **about: str) -> Report:
    """The device's next report, in its style; `about` is a question or a rollout."""
    device.seq += 1
    return replace(_in_style(device, version, status, now_ms), **about)


def _in_style(device: Device, version: str, status: str, now_ms: int) -> Report:
    match device.style:
        case "id":
            # Its clock was never set, every third time.
            claim = time_text(now_ms if device.seq % 3 else device.seq * 1000)
            return Report(version, status, report_id=f"r{device.seq}", occurred_at=claim)
        case "seq":
            return Report(version, status, seq=device.seq)
        case "clock":
            return Report(version, status, occurred_at=time_text(now_ms + device.seq))
        case "bare":
            return Report(version, status)


class Run(NamedTuple):
    """A line of a device's history."""

    version: str
    previous_version: str | None
    change: str
    since: str
    position: int
    late: bool


class State(NamedTuple):
    """What a device's page shows."""

    version: str | None
    since: str | None
    previous_version: str | None
    status: str | None
    failing: bool


def history(device: Device) -> list[Run]:
    """The runs, newest first by the device's order."""
    runs: list[Run] = []
    for each in sorted(device.recorded, key=lambda each: each.place):
        version = each.report.version
        if each.report.status in MOVING and (not runs or runs[-1].version != version):
            previous = runs[-1].version if runs else None
            change = _change(version, runs, is_rollback=each.position in device.rollbacks)
            since = time_text(each.time_ms)
            runs.append(Run(version, previous, change, since, each.position, _late(device, each)))
    return runs[::-1]


def _change(version: str, before: Sequence[Run], *, is_rollback: bool) -> str:
    if not before:
        return "first"
    if _number(version) > _number(before[-1].version):
        return "upgrade"
    if is_rollback:
        return "rollback"
    return "revert" if version == before[-1].previous_version else "downgrade"


def _number(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _late(device: Device, report: Recorded) -> bool:
    """Whether one of a later place was recorded before it."""
    return any(
        each.position < report.position and each.place[0] > report.place[0]
        for each in device.recorded
    )


def state(device: Device) -> State:
    if not device.recorded:
        return State(None, None, None, None, failing=False)
    status = max(device.recorded, key=lambda each: each.place).report.status
    newest = next(iter(history(device)), None)
    if newest is None:
        return State(None, None, None, status, status in FAILING)
    return State(newest.version, newest.since, newest.previous_version, status, status in FAILING)
