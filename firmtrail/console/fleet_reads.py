"""Reads what the fleet page shows, at a bounded cost, whatever the fleet's size.

Counts come from views and indexes. The one count that needs a scan, of silent devices, is made only
for a fleet of up to `SCANNED_MAX` devices; a larger one gets a link to the list instead.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.console.charts import Mark, SharesChart, Step, shares
from firmtrail.events.times import DAY_MS
from firmtrail.eventstore import sizes
from firmtrail.http import attention
from firmtrail.http.attention import COUNTED_MAX, Note
from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.rollouts import Shown, shown, under_way
from firmtrail.projections import (
    device_current,
    device_offers,
    device_pages,
    fleet_versions,
    rollouts,
)
from firmtrail.projections.device_current import Filter
from firmtrail.projections.fleet_versions import VersionCount
from firmtrail.projections.rollouts import RolloutTexts
from firmtrail.rules import release, version
from firmtrail.rules.control import Control
from firmtrail.rules.release import CurrentReleases, Releases
from firmtrail.rules.rollout import RolloutState

SCANNED_MAX = 20_000
VERSIONS_MAX = 30
ROLLOUTS_MAX = 5
STEPS = 40
RATE_MS = 60_000


class VersionLine(NamedTuple):
    """Describes a version of a model, and how many devices run it."""

    model: str
    """The empty text for devices without a model."""
    version: str | None
    devices: int
    share: float
    is_latest: bool
    is_withdrawn: bool


class Shares(NamedTuple):
    """Counts devices by how they are; None: not counted."""

    devices: int
    on_latest: float | None
    """The share of the devices whose model has a release."""
    on_their_way: int | None = None
    failing: int | None = None
    silent: int | None = None
    events_a_minute: int | None = None


class FleetView(NamedTuple):
    """Holds what the page shows; the past has neither notes nor rollouts under way."""

    size: int
    counts: Sequence[VersionCount]
    shares: Shares
    models: list[str]
    """The models with devices, the one with the most first."""
    versions: list[VersionLine]
    versions_left_out: int
    notes: list[Note]
    rollouts: list[Shown]
    control: Control
    releases: Releases
    """The releases as they were then."""


async def fleet_view(call: AnyCall, stop: int | None) -> FleetView:
    """Returns the fleet now, or after the first `stop` events."""
    before = 0 if stop is not None else await _size_a_minute_ago(call)
    async with consistent_read(call) as now:
        _, counts = await fleet_versions.counts(now.reader, call.log_id, stop)
        releases = release.known(now.control.releases, stop)
        current = now.control.current if stop is None else release.current(releases.values())
        found = Shares(sum(count.devices for count in counts), _on_latest(counts, current))
        lines: list[Shown] = []
        if stop is None:
            lines = await _rollouts(call, now)
            found = await _shares_now(call, now, found)
            found = found._replace(events_a_minute=max(0, now.size - before))
    notes = [] if stop is not None else (await attention.notes(call))[1]
    versions = _lines(counts, releases, current)
    return FleetView(
        now.size,
        counts,
        found,
        _models(counts),
        versions[:VERSIONS_MAX],
        len(versions[VERSIONS_MAX:]),
        notes,
        lines,
        now.control,
        releases,
    )


async def _size_a_minute_ago(call: AnyCall) -> int:
    """Reads on a connection of its own, so a page takes it before it holds its moment."""
    then_ms = call.services.access.now_ms() - RATE_MS
    return await sizes.at(call.db, call.log_id, then_ms)


async def _shares_now(call: AnyCall, now: ConsistentRead, found: Shares) -> Shares:
    db, now_ms = now.reader, call.services.access.now_ms()
    head = (call.log_id, call.project)
    silent = None
    if found.devices <= SCANNED_MAX:
        which = Filter(silent_since_ms=now_ms - device_current.SILENT_MS)
        counted, is_all = await device_pages.count(db, head, which, SCANNED_MAX)
        silent = counted if is_all else None
    return found._replace(
        on_their_way=await device_offers.count_waiting(db, call.log_id),
        failing=await device_current.count_failing(db, call.log_id, devices_max=COUNTED_MAX),
        silent=silent,
    )


def _on_latest(counts: Sequence[VersionCount], current: CurrentReleases) -> float | None:
    known = [count for count in counts if count.model in current]
    total = sum(count.devices for count in known)
    if not total:
        return None
    return sum(count.devices for count in known if _is_latest(current, count)) / total


def _models(counts: Sequence[VersionCount]) -> list[str]:
    devices: dict[str, int] = {}
    for count in counts:
        if count.model is not None:
            devices[count.model] = devices.get(count.model, 0) + count.devices
    return sorted(devices, key=lambda model: (-devices[model], model))


def _lines(
    counts: Sequence[VersionCount], releases: Releases, current: CurrentReleases
) -> list[VersionLine]:
    """Returns a line for each version: by model, the highest version first."""
    total = sum(count.devices for count in counts) or 1
    found = [
        VersionLine(
            count.model or "",
            count.version,
            count.devices,
            count.devices / total,
            _is_latest(current, count),
            release.is_withdrawn(releases, count.model, count.version),
        )
        for count in counts
    ]
    found.sort(key=lambda line: version.precedence(line.version or "0.0.0-0"), reverse=True)
    return sorted(found, key=lambda line: line.model or "~")


def _is_latest(current: CurrentReleases, count: VersionCount) -> bool:
    of_model = current.get(count.model or "")
    return of_model is not None and of_model.latest.version == count.version


async def _rollouts(call: AnyCall, now: ConsistentRead) -> list[Shown]:
    """Returns the newest rollouts that are under way, paused, or wait to begin."""
    newest = sorted(under_way(call, now.control), key=lambda each: -each.position)
    return [await shown(call, now, each) for each in newest[:ROLLOUTS_MAX]]


async def adoption_of(
    call: AnyCall, view: FleetView, model: str, *, days: int, stop_ms: int
) -> SharesChart | None:
    """Returns the chart of the versions of a model over the last days before `stop_ms`."""
    times = step_times(stop_ms, days)
    earlier = await call.services.adoption.at(call.log_id, times, stop_ms)
    counts = [*zip(times, earlier, strict=True), (stop_ms, view.counts)]
    steps = [
        Step(at_ms, {each.version or "": each.devices for each in found if each.model == model})
        for at_ms, found in counts
    ]
    first = next((n for n, step in enumerate(steps) if step.counts), len(steps))
    texts = await _texts(call)
    marks = [mark for each in view.control.rollouts.values() for mark in _marks(each, model, texts)]
    return shares(
        steps[first:], marks, lambda text: release.is_withdrawn(view.releases, model, text)
    )


async def _texts(call: AnyCall) -> dict[str, RolloutTexts]:
    _, texts = await rollouts.texts(call.db, call.log_id)
    return texts


def step_times(stop_ms: int, days: int) -> list[int]:
    """Returns the times of a chart's steps before its end. They are multiples of the step, so that
    they are the same for a while."""
    step_ms = days * DAY_MS // STEPS
    last = (stop_ms - 1) // step_ms * step_ms
    return [last - n * step_ms for n in range(STEPS - 1, -1, -1)]


def _marks(state: RolloutState, model: str, texts: dict[str, RolloutTexts]) -> list[Mark]:
    if state.model != model:
        return []
    if state.is_rollback:
        return [Mark(state.started_at_ms, f"recall of {state.bad_version}", is_bad=True)]
    marks = [Mark(state.started_at_ms, f"rollout of {state.version}")]
    if state.phase in {"paused", "aborted"}:
        own = state.id in texts and texts[state.id].is_own_pause
        words = "paused itself" if own else state.phase
        marks.append(Mark(state.phase_at_ms, words, is_bad=True))
    return marks
