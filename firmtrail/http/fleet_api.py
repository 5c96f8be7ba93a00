"""What users call to see their fleet: devices, their histories, and how many run what."""

from collections.abc import Sequence

from aiohttp import web

from firmtrail.events.times import time_text
from firmtrail.eventstore import log, sizes
from firmtrail.eventstore.continued import Part
from firmtrail.http import answers, fleet_metrics, lists, metrics, query_times, respond
from firmtrail.http.answers import time_or_none
from firmtrail.http.bodies import (
    DeviceQuery,
    DevicesQuery,
    HistoryQuery,
    TimelineQuery,
    VersionsQuery,
)
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead, case_of, consistent_read, device_and_control
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.lists import ListPage, SortKey
from firmtrail.http.logs import log_and_position, older_logs
from firmtrail.projections import (
    check_in,
    device_current,
    device_history,
    fleet_past,
    fleet_versions,
    outdated,
)
from firmtrail.projections.device_current import Filter, Found
from firmtrail.projections.device_history import END, Asked, Entry
from firmtrail.projections.fleet_past import Past
from firmtrail.projections.fleet_versions import Count
from firmtrail.projections.outdated import Outdated
from firmtrail.rules import release, target
from firmtrail.rules.device import DeviceState
from firmtrail.rules.release import Current

STEPS_MAX = 1_000
FAILING = frozenset({"failed", "rejected"})


async def get_devices(call: Call[DevicesQuery, None]) -> web.StreamResponse:
    """The devices that the filters find, by id."""
    query = call.query
    if query.as_of is None and query.at is None:
        return await _devices_now(call)
    if query.silent_for is not None:
        raise invalid_parameter("silent_for", "is known of the present only")
    return await _devices_then(call, await _past(call))


async def _devices_now(call: Call[DevicesQuery, None]) -> web.StreamResponse:
    head = (call.log_id, call.project)

    def fetching(now: ConsistentRead) -> lists.FetchPage:
        async def fetch(place: SortKey | None, limit: int) -> ListPage:
            which = await _filter_now(call, now)
            _, found = await device_current.page(
                now.reader, head, which, after=_after(place), limit=limit + 1
            )
            kept = [
                each
                for each in found[:limit]
                if which.outdated is None or which.outdated.finds(each.state)
            ]
            items = await _shown_with_targets(call, now, kept)
            end = lists.next_key(found, limit, lambda each: (each.state.device,))
            return ListPage(items, end, now.size)

        return fetch

    def counting(now: ConsistentRead) -> lists.CountItems:
        async def count() -> int:
            return await device_current.count(now.reader, head, await _filter_now(call, now))

        return count

    return await lists.answer_consistently(call, answers.Device, fetching, counting)


async def _shown_with_targets(
    call: AnyCall, now: ConsistentRead, found: Sequence[Found]
) -> list[answers.Device]:
    states = [each.state for each in found]
    targets = await check_in.targets(now.reader, call.log_id, now.control, states)
    return [
        shown(each.state, now.control.current, each.last_seen_at_ms, targets.get(each.state.device))
        for each in found
    ]


async def _filter_now(call: Call[DevicesQuery, None], now: ConsistentRead) -> Filter:
    wanted = call.query.outdated
    if wanted is None:
        return _filter(call)
    _, known = await outdated.now(now.reader, call.log_id, wanted=wanted)
    return _filter(call)._replace(outdated=known)


async def _devices_then(call: Call[DevicesQuery, None], past: Past) -> web.StreamResponse:
    db, which = call.services.db, _filter(call)
    current = await outdated.current_then(db, past.log_id, past.stop)
    if (wanted := call.query.outdated) is not None:
        which = which._replace(outdated=Outdated(wanted, current))

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        states = await fleet_past.page(db, past, which, after=_after(place), limit=limit + 1)
        items = [shown(state, current) for state in states[:limit]]
        return ListPage(
            items, lists.next_key(states, limit, lambda state: (state.device,)), past.stop
        )

    return await lists.answer(call, answers.Device, fetch)


def _filter(call: Call[DevicesQuery, None]) -> Filter:
    query = call.query
    silent_since_ms = None
    if query.silent_for is not None:
        silent_since_ms = call.services.access.now_ms() - query.silent_for * 1000
    return Filter(
        version=query.version,
        model=query.model,
        cohort=query.cohort,
        tag=query.tag,
        failing=query.failing,
        silent_since_ms=silent_since_ms,
        prefix=query.q,
    )


async def _past(call: Call[DevicesQuery, None] | Call[DeviceQuery, None]) -> Past:
    query = call.query
    at_ms = None if query.at is None else query_times.parameter_ms("at", query.at)
    if query.as_of is not None:
        return Past(call.log_id, await query_times.size_as_of(call, query.as_of), at_ms)
    return Past(call.log_id, (await log.head(call.services.db, call.log_id)).size, at_ms)


async def get_device(call: Call[DeviceQuery, None]) -> web.Response:
    """A device, now or then."""
    name = call.path("device")
    if call.query.as_of is None and call.query.at is None:
        size, body = await shown_now(call, name)
        return respond.resource(call, body, size)
    past = await _past(call)
    states = await fleet_past.states(call.services.db, past, [name])
    if name not in states:
        raise NotFound(f"There was no device {name}.")
    current = await outdated.current_then(call.services.db, past.log_id, past.stop)
    return respond.resource(call, shown(states[name], current), past.stop)


async def existing(call: AnyCall, name: str) -> tuple[int, Found]:
    """The log's size and the device; concurrent requests share a query. Raises `NotFound`."""
    size, found = device_current.found_one(await call.services.devices.get((call.log_id, name)))
    if found is None:
        raise NotFound(f"There is no device {name}.")
    return size, found


async def shown_now(call: AnyCall, name: str) -> tuple[int, answers.Device]:
    """The log's size, and a device with where it is to go; concurrent requests share a query.

    Raises `NotFound`.
    """
    seen, control = await device_and_control(call, name)
    state = seen.state
    if state is None:
        raise NotFound(f"There is no device {name}.")
    goal = None
    if control.releases and not state.decommissioned:
        goal = target.decide(await case_of(call, control, state, seen)).version
    return seen.counts.size, shown(state, control.current, seen.last_seen_at_ms, goal)


def shown(
    state: DeviceState,
    current: Current,
    last_seen_at_ms: int | None = None,
    goal: str | None = None,
) -> answers.Device:
    outdated_since_ms = None
    if not state.decommissioned:
        outdated_since_ms = release.outdated_since_ms(current, state.model, state.version)
    return answers.Device(
        device=state.device,
        version=state.version,
        since=time_or_none(state.since_ms),
        previous_version=state.previous_version,
        status=state.status,
        failing=state.status in FAILING,
        target=goal,
        outdated_since=time_or_none(outdated_since_ms),
        last_seen_at=time_or_none(last_seen_at_ms),
        model=state.model,
        cohort=state.cohort,
        tags=state.tags,
        pinned=state.pinned,
        clock=state.clock,
        decommissioned=state.decommissioned,
    )


async def get_history(call: Call[HistoryQuery, None]) -> web.StreamResponse:
    """What a device ran, newest first by its own order."""
    query, name = call.query, call.path("device")
    at_ms = None if query.at is None else query_times.parameter_ms("at", query.at)
    stop = END if query.as_of is None else await query_times.size_as_of(call, query.as_of)
    asked = Asked(call.log_id, name, stop, at_ms, moves=0 if query.progress else 1)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        nonlocal asked  # later pages, and a total, are of the same size as the first
        page = await _history(call, asked, place, limit + 1)
        asked = asked._replace(stop=min(stop, page.size))
        if not page.entries:  # whoever reported is there
            await _check_existed(call, name, min(stop, page.size))
        old = await older_logs(call, (entry.position for entry in page.entries))
        items = [line(entry, old) for entry in page.entries[:limit]]
        end = lists.next_key(page.entries, limit, lambda entry: (entry.place, entry.position))
        return ListPage(items, end, page.size if query.as_of is None else stop)

    return await lists.answer(call, answers.HistoryLine, fetch, key_type=tuple[int, int])


async def _check_existed(call: Call[HistoryQuery, None], name: str, stop: int) -> None:
    if name not in await fleet_past.states(call.services.db, Past(call.log_id, stop), [name]):
        verb = "is" if call.query.as_of is None else "was"
        raise NotFound(f"There {verb} no device {name}.")


async def _history(
    call: AnyCall, asked: Asked, place: SortKey | None, limit: int
) -> device_history.Page:
    before = (END, END) if place is None else (int(place[0]), int(place[1]))
    return device_history.page_of(await call.services.histories.get(asked), before, limit)


def line(entry: Entry, old: Sequence[Part]) -> answers.HistoryLine:
    number, position = log_and_position(old, entry.position)
    return answers.HistoryLine(
        version=entry.version,
        previous_version=entry.previous_version,
        change=entry.change,
        status=entry.status,
        since=time_text(entry.time_ms),
        occurred_at=time_or_none(entry.occurred_at_ms),
        recorded_at=time_text(entry.recorded_at_ms),
        position=position,
        log=number,
        late=entry.late,
        clock=entry.clock,
        detail=entry.detail,
    )


async def get_versions(call: Call[VersionsQuery, None]) -> web.StreamResponse:
    """How many devices run each version, by model and version."""
    as_of = call.query.as_of
    stop = None if as_of is None else await query_times.size_as_of(call, as_of)
    size, counts = await fleet_versions.counts(call.services.db, call.log_id, stop)
    items = sorted(shares(counts), key=_place_of)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        behind = [item for item in items if place is None or _place_of(item) > place]
        end = lists.next_key(behind, limit, _place_of)
        return ListPage(behind[:limit], end, size if stop is None else stop)

    async def count() -> int:
        return len(items)

    return await lists.answer(call, answers.VersionShare, fetch, count, key_type=tuple[str, str])


def _place_of(item: answers.VersionShare) -> SortKey:
    return item.model or "", item.version or ""


def shares(counts: Sequence[Count]) -> list[answers.VersionShare]:
    """Each count with its share of all registered devices."""
    registered = sum(count.devices for count in counts)
    return [
        answers.VersionShare(
            count.version, count.model, count.devices, round(count.devices / registered, 6)
        )
        for count in counts
    ]


async def get_project_metrics(call: AnyCall) -> web.Response:
    """How many devices of each model are outdated, for Prometheus."""
    async with consistent_read(call) as (reader, size, control):
        _, counts = await fleet_versions.counts(reader, call.log_id)
    text = fleet_metrics.model_metrics(call.project, counts, control.current)
    headers = {"Content-Type": metrics.CONTENT_TYPE, **respond.NO_STORE}
    return web.Response(body=text, headers={**headers, respond.LOG_SIZE: str(size)})


async def get_timeline(call: Call[TimelineQuery, None]) -> web.StreamResponse:
    """The shares as they were known at each step; up to now, where no end is given."""
    steps = _steps(call)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        behind = [at_ms for at_ms in steps if place is None or at_ms > int(place[0])]
        size, items = await _known_at(call, behind[:limit])
        return ListPage(items, lists.next_key(behind, limit, lambda at_ms: (at_ms,)), size)

    async def count() -> int:
        return len(steps)

    return await lists.answer(call, answers.TimelineStep, fetch, count, key_type=tuple[int])


async def _known_at(call: AnyCall, times: Sequence[int]) -> tuple[int, list[answers.TimelineStep]]:
    """The log's size, and what was known at each of these times, of the events up to that size;
    the counts are read again only where the log had grown."""
    db, log_id = call.services.db, call.log_id
    items: list[answers.TimelineStep] = []
    size, known = (await log.head(db, log_id)).size, -1
    for at_ms in times:
        stop = min(size, await sizes.at(db, log_id, at_ms))
        if not items or stop != known:
            known, (_, counts) = stop, await fleet_versions.counts(db, log_id, stop)
            shown_shares = shares(counts)
        items.append(answers.TimelineStep(time_text(at_ms), stop, shown_shares))
    return size, items


def _steps(call: Call[TimelineQuery, None]) -> Sequence[int]:
    query = call.query
    now_ms = call.services.access.now_ms()
    start_ms = query_times.past_ms(call, "from", query.start)
    stop_ms = (
        now_ms if query.stop is None else min(query_times.parameter_ms("to", query.stop), now_ms)
    )
    if stop_ms < start_ms:
        raise invalid_parameter("to", "is before from")
    steps = range(start_ms, stop_ms + 1, query.step * 1000)
    if len(steps) > STEPS_MAX:
        raise invalid_parameter("step", f"makes more than {STEPS_MAX} steps")
    return steps


def _after(place: SortKey | None) -> str:
    return "" if place is None else str(place[0])
