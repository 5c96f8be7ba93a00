"""Shows a device: the versions that it ran, the rules that decide for it, and its facts."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from aiohttp import web

from firmtrail.access import attributes
from firmtrail.console import places, render, strip
from firmtrail.console.here import Moment
from firmtrail.console.moments import past_of
from firmtrail.console.places import Place, Places
from firmtrail.console.rows import PROJECT, PageQuery, page
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import case_of, consistent_read, device_saying_and_control
from firmtrail.http.errors import NotFound
from firmtrail.http.rollouts import ReachingRollout, reaching_rollout
from firmtrail.projections import device_asks, fleet_past
from firmtrail.projections.fleet_past import Past
from firmtrail.projections.history_lines import END, HistoryEntry
from firmtrail.projections.history_pages import HistoryRequest
from firmtrail.rules import ask, release, target, trail
from firmtrail.rules.device import FAILING, DeviceState
from firmtrail.rules.offer import Offer
from firmtrail.rules.situation import Decision
from firmtrail.rules.trail import TrailStep

DEVICE = f"{PROJECT}/devices/{{device}}"

ENTRIES_MAX = 100
"""Limits the versions that a page shows; the history of the API has all."""

ASKS_MAX = 5

NOTHING_SAID: Mapping[str, str] = MappingProxyType({})

RULES = {
    "halt": "Halt",
    "pin": "Pin",
    "rollback": "Recall",
    "rollout": "Rollout",
    "follow_latest": "Follow latest",
    "nothing": "No order",
}

ANSWERS = {
    "up_to_date": ("good", "up to date"),
    "not_reached": ("", "not reached yet"),
    "paused": ("warn", "paused"),
    "halted": ("bad", "halted"),
    "withdrawn": ("warn", "keeps its version"),
    "attempts_exhausted": ("bad", "attempts exhausted"),
    "wrong_model": ("warn", "wrong model"),
    "no_previous": ("warn", "no earlier version"),
    "no_release": ("", "no release"),
    "unknown_version": ("", "unknown version"),
    "scheduled": ("", "scheduled"),
    "window": ("", "waits for its window"),
    "waiting": ("warn", "waits for approval"),
    "pending": ("warn", "pending"),
    "no_artifact": ("warn", "no artifact for it"),
    "pinned": ("busy", "on its way to its pin"),
    "rollback": ("busy", "on its way back"),
    "rollout": ("busy", "on its way"),
    "follow_latest": ("busy", "on its way to the latest"),
}


class TrailLine(NamedTuple):
    """Holds a line of the trail."""

    entry: HistoryEntry
    place: Place
    is_withdrawn: bool


class DeviceVerdict(NamedTuple):
    """Holds what the device should run, and the offers that it got."""

    decision: Decision
    trail: Sequence[TrailStep]
    offers: list[Offer]
    reached: ReachingRollout | None
    """The newest rollout with a plan that is to bring it to a higher version."""


class Known(NamedTuple):
    """Holds a device at one moment."""

    state: DeviceState
    moment: Moment
    last_seen_at_ms: int | None = None
    said: Mapping[str, str] = NOTHING_SAID
    verdict: DeviceVerdict | None = None


async def get_device(call: Call[PageQuery, None]) -> web.Response:
    """Show a device: the versions that it ran, and the rules that decide for it."""
    known = await (_now(call) if call.query.as_of is None else _then(call))
    name, stop = known.state.device, known.moment.stop
    wanted = HistoryRequest(call.log_id, name, END if stop is None else stop, lines_max=ENTRIES_MAX)
    entries = (await call.services.queries.histories.page(wanted)).entries
    async with consistent_read(call) as now:
        releases = release.known(now.control.releases, stop)
        where = await places.places(call, now)
        trail = _trail(where, releases, known.state, entries)
        asks = await device_asks.page(now.reader, call.log_id, name, before=END, limit=ASKS_MAX)
    withdrawn = {each.entry.version for each in trail if each.is_withdrawn}
    return render.page(
        call,
        "device.html",
        title=name,
        moment=known.moment,
        device=known.state,
        last_seen_at_ms=known.last_seen_at_ms,
        said=known.said,
        outdated_since_ms=_outdated_since_ms(releases, known.state),
        is_failing=known.state.status in FAILING,
        verdict=known.verdict,
        answers=ANSWERS,
        rules=RULES,
        trail=trail,
        is_cut=len(trail) == ENTRIES_MAX,
        runs=strip.runs_of(entries, withdrawn, call.services.access.now_ms()),
        outcome_times_ms={each.position: each.time_ms for each in entries},
        asks=asks[2],
        open_asks=[each for each in asks[2] if ask.is_open(each, asks[1])],
    )


async def _now(call: AnyCall) -> Known:
    seen, control = await device_saying_and_control(call, call.path("device"))
    state = seen.state
    if state is None:
        raise NotFound(f"There is no device {call.path('device')}.")
    verdict = None
    if not state.decommissioned:
        case = await case_of(call, control, state, seen)
        offers = sorted(seen.offers, key=lambda each: -each.position)
        reached = await reaching_rollout(call, case, seen.counts.size)
        verdict = DeviceVerdict(target.decide(case), trail.trail(case), offers, reached)
    said = attributes.decoded(seen.attributes)
    return Known(state, Moment(seen.counts.size), seen.last_seen_at_ms, said, verdict)


async def _then(call: Call[PageQuery, None]) -> Known:
    name, past = call.path("device"), await past_of(call)
    stop = past.stop or 0
    states = await fleet_past.states(call.db, Past(call.log_id, stop), [name])
    if name not in states:
        raise NotFound(f"There was no device {name}.")
    return Known(states[name], Moment(stop, *past))


def _trail(
    where: Places, releases: release.Releases, state: DeviceState, entries: Sequence[HistoryEntry]
) -> list[TrailLine]:
    return [
        TrailLine(
            entry,
            where.of(entry.position),
            release.is_withdrawn(releases, state.model, entry.version),
        )
        for entry in entries
    ]


def _outdated_since_ms(releases: release.Releases, state: DeviceState) -> int | None:
    if state.decommissioned:
        return None
    current = release.current(releases.values())
    return release.outdated_since_ms(current, state.model, state.version)


ROUTES = (page(DEVICE, get_device, has_past=True, is_view=True),)
