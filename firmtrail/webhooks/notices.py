"""Makes the notices that follow from time: a phase of a plan began, a rollout is stuck, a log is
refused.

No event says any of these, so they are looked for every `LOOK_EVERY_S`, from what a process keeps
in memory of each project. Each is kept for each webhook that wants it before it is sent, so it is
made once, however many servers look.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, get_args

import structlog

from firmtrail.database.database import Database, Unavailable
from firmtrail.events.times import DAY_MS, time_text
from firmtrail.eventstore import log
from firmtrail.followers.following import Following
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.recording.recorder import Recorder
from firmtrail.repeats import Repeats
from firmtrail.rules import phases, plan
from firmtrail.rules.control import Control
from firmtrail.rules.plan import PlanClock
from firmtrail.rules.rollout import PlanTime, RolloutState, clock_at
from firmtrail.webhooks import kept_notices
from firmtrail.webhooks.kept_notices import NotifiedWebhook, WaitingNotice
from firmtrail.webhooks.messages import LogPlace, NoticeOfTime
from firmtrail.webhooks.sender import Message

LOOK_EVERY_S = 2.0
RETRY_S_MAX = 10.0
NEW_MS = DAY_MS
"""A phase that began earlier than this is no news."""

_log = structlog.get_logger("firmtrail.webhooks")

_OF_TIME = frozenset(get_args(NoticeOfTime))


class Found(NamedTuple):
    """Holds a notice, and since when it is true."""

    name: NoticeOfTime
    since_ms: int
    message: Message


class TimeNotices:
    """Keeps the notices that follow from time, for one process: a `Follower` of the clock."""

    name = "notices"
    interval_s, idle_s, retry_s_max = LOOK_EVERY_S, LOOK_EVERY_S, RETRY_S_MAX
    passing_errors: tuple[type[Exception], ...] = (Unavailable, OSError)

    def __init__(self, db: Database, recorder: Recorder) -> None:
        self.following: Following[list[NotifiedWebhook]] = Following(self)
        self._db = db
        self._recorder = recorder
        self._bugs = Repeats()
        self._kept: dict[str, set[str]] = {}
        """By webhook, the ids of true notices that are known to be kept."""

    async def pending(self) -> AsyncGenerator[list[NotifiedWebhook]]:
        """Yields the webhooks that want such notices, page by page."""
        seen: set[str] = set()
        after = ("", "")
        while page := await kept_notices.notified(self._db, after):
            yield [each for each in page if not _OF_TIME.isdisjoint(each.notices)]
            seen.update(each.webhook_id for each in page)
            after = page[-1].project, page[-1].webhook_id
        self._kept = {each: kept for each, kept in self._kept.items() if each in seen}

    async def follow(self, work: list[NotifiedWebhook]) -> None:
        """Keeps the notices that have become true for these webhooks. An error that one log meets
        is logged as a bug, and keeps only the notices of its project waiting."""
        by_log: dict[int, list[NotifiedWebhook]] = {}
        for each in work:
            by_log.setdefault(each.log_id, []).append(each)
        for head in await log.heads(self._db, by_log):
            try:
                await self._look_at(head, by_log[head.log_id])
            except self.passing_errors:
                raise
            except Exception as error:  # noqa: BLE001 (other projects get their notices)
                if self._bugs.due(head.log_id) is not None:
                    _log.error("bug", exc_info=error, project=head.project, log=head.number)

    async def _look_at(self, head: log.Head, webhooks: Sequence[NotifiedWebhook]) -> None:
        found = await self._found(head)
        made = [
            (each.webhook_id, notice.message)
            for each in webhooks
            for notice in found
            if notice.name in each.notices and notice.since_ms >= each.created_at_ms
        ]
        news = [
            (webhook, WaitingNotice.of(message))
            for webhook, message in made
            if message.message_id not in self._kept.get(webhook, ())
        ]
        if news:
            await kept_notices.add_notices(self._db, head.project, head.now_ms, news)
        for each in webhooks:
            self._kept[each.webhook_id] = {
                message.message_id for webhook, message in made if webhook == each.webhook_id
            }

    async def _found(self, head: log.Head) -> list[Found]:
        control = await self._recorder.controls.at(head.log_id, head.control_count)
        place = LogPlace(head.project, head.number)
        refused = self._recorder.minimum_sizes.refused.get(LogName(head.project, head.number))
        return [*found_in(control, place, head.now_ms), *_refused(place, head, refused)]


def found_in(control: Control, place: LogPlace, now_ms: int) -> Iterator[Found]:
    """Yields the notices that follow from the plans of rollouts at this time."""
    for each in control.rollouts.values():
        if each.plan and phases.is_offering(control, each, now_ms):
            at = PlanTime(now_ms, control.halts)
            yield from _begun(each, at, place)
            since_ms = phases.stuck_since_ms(control, each, now_ms)
            yield from [] if since_ms is None else [_stuck(each, at, place, since_ms)]


def _begun(rollout: RolloutState, at: PlanTime, place: LogPlace) -> Iterable[Found]:
    if rollout.clock is None:
        return
    for clock in plan.clocks(rollout.plan, rollout.clock, at.halts, at.now_ms):
        if at.now_ms - NEW_MS <= clock.began_at_ms <= at.now_ms:
            percent = rollout.plan[clock.phase].reach / 100
            yield _of(
                rollout, place, clock, "phase_began", since_ms=clock.began_at_ms, percent=percent
            )


def _stuck(rollout: RolloutState, at: PlanTime, place: LogPlace, since_ms: int) -> Found:
    clock = clock_at(rollout, at)
    assert clock is not None, "only a rollout with a plan is stuck"
    phase = rollout.plan[clock.phase]
    wanted = {"installed_percent": phase.installed_percent, "min_reports": phase.min_reports}
    return _of(rollout, place, clock, "rollout_stuck", since_ms=since_ms, **wanted)


def _of(
    rollout: RolloutState,
    place: LogPlace,
    clock: PlanClock,
    name: NoticeOfTime,
    *,
    since_ms: int,
    **said: Any,
) -> Found:
    data = {
        "rollout": rollout.id,
        "model": rollout.model,
        "version": rollout.version,
        "phase": clock.phase + 1,
        "of": len(rollout.plan),
        **said,
    }
    members = {"subject": f"rollout/{rollout.id}", "time": time_text(since_ms), "data": data}
    message_id = f"notice_{name}_{rollout.id}_{clock.phase + 1}"
    position = max(rollout.phase_position, 0)
    return Found(name, since_ms, place.notice(name, message_id, position, members))


def _refused(place: LogPlace, head: log.Head, fault: str | None) -> Iterable[Found]:
    """Yields a notice of a log that takes no events: one each day."""
    if fault is None:
        return
    name: NoticeOfTime = "log_refused"
    today = time_text(head.now_ms)
    members = {
        "subject": f"log/{place.number}",
        "time": today,
        "data": {"log": place.number, "size": head.size, "reason": fault},
    }
    message_id = f"notice_{name}_{place.project}_{place.number}_{today[:10]}"
    message = place.notice(name, message_id, head.size, members)
    yield Found(name, head.now_ms, message)
