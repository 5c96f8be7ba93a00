"""What users call to steer the fleet: rollouts, rollbacks, halts, and how far they are."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import msgspec
from aiohttp import web

from firmtrail.commands import steering as commands
from firmtrail.commands.once import Answer, answering, keep, kept, once
from firmtrail.events.event import Recorded
from firmtrail.events.steering import RollbackStarted, RolloutStarted
from firmtrail.events.times import time_text
from firmtrail.http import lists, respond
from firmtrail.http import steering_bodies as wire
from firmtrail.http.answers import time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.errors import NotFound
from firmtrail.http.lists import PAGE_ITEMS_MAX, ListPage, ListQuery, SortKey
from firmtrail.projections import check_in, device_offers, rollout_devices, rollouts
from firmtrail.projections.rollouts import Texts
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Command
from firmtrail.rules import control, progress, rollout
from firmtrail.rules.control import Control
from firmtrail.rules.release import Key
from firmtrail.rules.rollout import Rollout

NO_TEXTS = Texts(None, None)
LOOKS_MAX = 10
"""How often a page of devices in one state is filled up with the next 500 devices that are looked
at: where few are in it, a page may hold fewer than asked for, or none, and still have a next."""


async def get_rollouts(call: Call[ListQuery, None]) -> web.StreamResponse:
    """The rollouts and rollbacks, the newest first."""
    async with consistent_read(call) as (reader, size, control):
        _, texts = await rollouts.texts(reader, call.log_id)
    found = sorted(control.rollouts.values(), key=lambda each: -each.position)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        behind = [each for each in found if place is None or each.position < int(place[0])]
        items = [_shown(control, each, texts.get(each.id, NO_TEXTS)) for each in behind[:limit]]
        return ListPage(items, lists.next_key(behind, limit, lambda each: (each.position,)), size)

    async def count() -> int:
        return len(found)

    return await lists.answer(call, wire.Rollout, fetch, count, key_type=tuple[int])


async def get_rollout(call: AnyCall) -> web.Response:
    """A rollout, and how far it is."""
    async with consistent_read(call) as now:
        body = await _told(call, now)
    return respond.resource(call, body, now.size)


def _rollout_of(call: AnyCall, decides: Control) -> Rollout:
    """The rollout of the path."""
    found = decides.rollouts.get(call.path("id"))
    if found is None:
        raise NotFound(f"There is no rollout {call.path('id')}.")
    return found


async def _told(call: AnyCall, now: ConsistentRead) -> wire.Rollout:
    """The rollout of the path as it is at this moment, and how far it is."""
    found = _rollout_of(call, now.control)
    _, texts = await rollouts.texts(now.reader, call.log_id)
    how_far = await _progress(call, now, found)
    body = msgspec.structs.replace(
        _shown(now.control, found, texts.get(found.id, NO_TEXTS)), progress=how_far
    )
    if found.is_rollback:
        body = msgspec.structs.replace(body, devices=await _named(call, now, found))
    return body


async def _progress(call: AnyCall, now: ConsistentRead, found: Rollout) -> wire.RolloutProgress:
    reader, max_attempts = now.reader, now.control.settings.max_attempts
    matching = await rollout_devices.matching(reader, call.log_id, found)
    _, counted = await device_offers.counts(reader, call.log_id, found.id, max_attempts)
    return wire.RolloutProgress(matching, **counted)


async def _named(call: AnyCall, now: ConsistentRead, found: Rollout) -> wire.NamedDevices:
    """Whom a rollback names."""
    now_ms = call.services.access.now_ms()
    named = await rollout_devices.named(now.reader, call.log_id, found, now.control, now_ms=now_ms)
    return wire.NamedDevices(*named)


def _withdrawn_at_ms(decides: Control, found: Rollout) -> int | None:
    """When the release of a rollout that was not aborted was withdrawn, if it was."""
    if found.version is None or found.phase == "aborted":
        return None
    release = decides.releases.get(Key(found.model, found.version))
    return release.withdrawn_at_ms if release else None


def _shown(decides: Control, found: Rollout, texts: Texts) -> wire.Rollout:
    withdrawn_at_ms = _withdrawn_at_ms(decides, found)
    watch = None
    if found.failed_percent is not None and found.min_reports is not None:
        watch = wire.PauseIf(failed_percent=found.failed_percent, min_reports=found.min_reports)
    has_reason = withdrawn_at_ms is None and found.phase_position != found.position
    return wire.Rollout(
        id=found.id or None,
        kind="rollback" if found.is_rollback else "rollout",
        state=found.phase if withdrawn_at_ms is None else "withdrawn",
        model=found.model,
        version=found.version,
        bad_version=found.bad_version,
        fallback=found.fallback,
        cohort=found.cohort,
        tag=found.tag,
        percent=found.reach / 100,
        pause_if=watch,
        silent_after_s=found.silent_after_s,
        reason=texts.started,
        started_at=time_text(found.started_at_ms),
        state_reason=texts.phase if has_reason else None,
        state_since=time_text(withdrawn_at_ms or found.phase_at_ms),
    )


async def post_rollout(call: Call[Any, wire.WantedRollout]) -> web.Response:
    """Start a rollout, or with `dry_run` say whom it would be for."""
    body = call.body
    wanted = RolloutStarted(
        body.version,
        body.model,
        _reach(body.percent),
        body.cohort,
        body.tag,
        body.pause_if.failed_percent if body.pause_if else None,
        body.pause_if.min_reports if body.pause_if else None,
        body.silent_after_s,
    )
    if body.dry_run:
        return await _dry(call, partial(_rollout_tried, call, wanted))
    start = commands.start(wanted, actor=call.caller.actor)
    return await _started(call, start, lambda after, found: _shown(after, found, NO_TEXTS))


async def post_rollback(call: Call[Any, wire.WantedRollback]) -> web.Response:
    """Withdraw a bad version and send the devices that run it away from it."""
    body = call.body
    wanted = RollbackStarted(
        body.bad_version,
        body.model,
        _reach(body.percent),
        None if body.to == "previous" else body.to,
        body.fallback if body.to == "previous" else None,
        body.cohort,
        body.tag,
    )
    if body.dry_run:
        return await _dry(call, partial(_rollback_tried, call, wanted))
    roll_back = commands.roll_back(wanted, body.reason, actor=call.caller.actor)
    return await _started(call, roll_back, lambda _, found: wire.StartedRollback(rollout=found.id))


async def _dry(call: AnyCall, look: Callable[[], Awaitable[msgspec.Struct]]) -> web.Response:
    """Answers what would be, or what was answered under this key. It is counted before the log's
    head is held to keep it."""
    known = await kept(call.services.db, call.key)
    if known is not None:
        return respond.json(known.status, known.body, respond.NO_STORE)
    would_be = await look()
    if call.key is None:
        return respond.json(200, would_be)

    async def tried(_commit: Commit) -> msgspec.Struct:
        return would_be

    return await respond.run_once(call, answering(200, tried))


async def _rollout_tried(call: AnyCall, wanted: RolloutStarted) -> wire.Rollout:
    async with consistent_read(call) as now:
        tried = _tried(call, control.decide_rollout(now.control, wanted))
        how_far = await _progress(call, now, tried)
    return msgspec.structs.replace(_shown(now.control, tried, NO_TEXTS), progress=how_far)


async def _rollback_tried(call: AnyCall, wanted: RollbackStarted) -> wire.StartedRollback:
    async with consistent_read(call) as now:
        tried = _tried(call, control.decide_rollback(now.control, wanted))
        return wire.StartedRollback(rollout=None, devices=await _named(call, now, tried))


def _reach(percent: float) -> int:
    return round(percent * 100)


def _tried(call: AnyCall, wanted: RolloutStarted | RollbackStarted) -> Rollout:
    """The rollout as it would be, without an id."""
    now_ms = call.services.access.now_ms()
    return rollout.started(Recorded(0, now_ms, rollout.stream(""), "", "", wanted))


async def _started(
    call: AnyCall,
    command: Command[Rollout],
    show: Callable[[Control, Rollout], msgspec.Struct],
) -> web.Response:
    async def shown(commit: Commit) -> msgspec.Struct:
        found = await command(commit)
        return show(commit.control, found)

    return await respond.run_once(call, answering(201, shown))


async def post_advance(call: Call[Any, wire.Advance]) -> web.Response:
    """Let it reach more of its devices."""
    make = partial(commands.advance, reach=_reach(call.body.percent))
    return await _command(call, make)


async def post_pause(call: Call[Any, wire.Because]) -> web.Response:
    """Offer nothing more until it is resumed."""
    return await _command(call, commands.pause)


async def post_resume(call: Call[Any, wire.Because]) -> web.Response:
    """Go on; what failed before no longer counts towards pausing."""
    return await _command(call, commands.resume)


async def post_abort(call: Call[Any, wire.Because]) -> web.Response:
    """End it: it decides nothing any more."""
    return await _command(call, commands.abort)


class _Make(Protocol):
    """Makes a command on one rollout."""

    def __call__(self, name: str, *, reason: str | None, actor: str) -> Command[Rollout]: ...


async def _command(call: AnyCall, make: _Make) -> web.Response:
    """Answers with the rollout as a read of it would, whose ETag the next command can name."""
    answer = await kept(call.services.db, call.key) or await _commanded(call, make)
    done = msgspec.convert(answer.body, wire.Commanded, from_attributes=True)
    if done.rollout is None:
        async with consistent_read(call) as now:
            done = wire.Commanded(now.size, await _told(call, now))
        if call.key is not None:
            async with call.services.db.transaction() as tx:
                await keep(tx, call.key, Answer(200, done))
    return respond.changed_resource(done.rollout, done.log_size)


async def _commanded(call: AnyCall, make: _Make) -> Answer:
    command = make(call.path("id"), reason=call.body.reason, actor=call.caller.actor)
    check = await _precondition(call)

    async def checked(commit: Commit) -> wire.Commanded:
        check(commit.control)
        await command(commit)
        return wire.Commanded()

    return await once(call.services.recorder, call.log_id, call.key, answering(200, checked))


async def _precondition(call: AnyCall) -> Callable[[Control], None]:
    """If-Match. Progress takes time to count, so it is compared before the log's head is held;
    behind it, only another command on the rollout is news, or that its release was withdrawn."""
    if "If-Match" not in call.request.headers:
        return lambda _held: None
    async with consistent_read(call) as now:
        seen, body = now.control, await _told(call, now)

    def state(decides: Control) -> tuple[Rollout, int | None]:
        found = _rollout_of(call, decides)
        return found, _withdrawn_at_ms(decides, found)

    def check(held: Control) -> None:
        respond.check_match(call, body if state(held) == state(seen) else None)

    return check


async def get_rollout_devices(call: Call[wire.RolloutDevicesQuery, None]) -> web.StreamResponse:
    """The devices that it is meant for, each in exactly one state."""

    def fetching(now: ConsistentRead) -> lists.FetchPage:
        return partial(_page, call, now)

    return await lists.answer_consistently(call, wire.RolloutDevice, fetching)


async def _page(
    call: Call[wire.RolloutDevicesQuery, None],
    now: ConsistentRead,
    place: SortKey | None,
    limit: int,
) -> ListPage:
    found = _rollout_of(call, now.control)
    items: list[wire.RolloutDevice] = []
    after = "" if place is None else str(place[0])
    for _ in range(LOOKS_MAX):
        page, last = await _devices(call, now, found, after)
        items += page
        if last is None or len(items) > limit:
            end = lists.next_key(items, limit, lambda each: (each.device,))
            return ListPage(items[:limit], end, now.size)
        after = last
    return ListPage(items, (after,), now.size)


async def _devices(
    call: Call[wire.RolloutDevicesQuery, None], now: ConsistentRead, found: Rollout, after: str
) -> tuple[list[wire.RolloutDevice], str | None]:
    """Of the next devices those in the state asked for; and the last of them, if there are more."""
    reader, decides, wanted = now.reader, now.control, call.query.state
    page = await rollout_devices.page(reader, call.log_id, found, after=after, limit=PAGE_ITEMS_MAX)
    offers = await device_offers.live(reader, call.log_id, [state.device for state, _ in page])
    told = [(state, list(offers.get(state.device, {}).values())) for state, _ in page]
    cases = await check_in.cases(reader, call.log_id, decides, told)
    items = []
    for case, (state, last_seen_at_ms) in zip(cases, page, strict=True):
        how_far = progress.progress(case, found)
        if wanted in {None, how_far.state}:
            item = wire.RolloutDevice(
                device=state.device,
                state=how_far.state,
                version=state.version,
                since=time_or_none(state.since_ms),
                last_seen_at=time_or_none(last_seen_at_ms),
                reason=how_far.reason,
            )
            items.append(item)
    return items, page[-1][0].device if len(page) == PAGE_ITEMS_MAX else None


async def post_halt(call: Call[Any, wire.Halt]) -> web.Response:
    """Let nothing be offered in the project."""
    body = call.body
    return await _halt(call, commands.halt(body.reason, is_all=body.all, actor=call.caller.actor))


async def post_end_of_halt(call: Call[Any, wire.Because]) -> web.Response:
    """Let the rules decide again."""
    return await _halt(call, commands.end_halt(call.body.reason, actor=call.caller.actor))


async def _halt(call: AnyCall, command: Command[None]) -> web.Response:
    async def halt(commit: Commit) -> wire.HaltState:
        await command(commit)
        return wire.HaltState(commit.control.halt)

    return await respond.run_once(call, answering(200, halt))
