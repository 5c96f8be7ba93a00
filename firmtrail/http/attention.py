"""Finds what needs a person's attention in a project: its notes, the most serious first.

Each note is read from memory or from an index of the rows that it is about, so a fleet of any size
costs the same.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from firmtrail.events.entry import decode
from firmtrail.events.steering import Halted
from firmtrail.events.times import time_text
from firmtrail.eventstore import log, short_streams
from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.rollout_tries import plan_time
from firmtrail.http.rollouts import name_of, opens_at_ms, phase_of
from firmtrail.projections import device_current, fleet_versions, rollouts
from firmtrail.projections.fleet_versions import VersionCount
from firmtrail.projections.rollouts import RolloutTexts
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.rules import phases
from firmtrail.rules.control import Control, is_over
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.rollout import PlanTime, RolloutState, clock_at
from firmtrail.webhooks import stored
from firmtrail.webhooks.stored import DisabledWebhook
from firmtrail.webhooks.targets import target_of

COUNTED_MAX = 10_000
"""Limits the devices that a note counts; a note with this number means at least so many."""

ROLLOUTS_MAX = 50
"""Limits the paused rollouts that have a note, those that wait, and those that are stuck, each time
the newest first."""

RELEASES_MAX = 20
"""Limits the withdrawn releases that have a note; devices of others are counted together."""

type NoteKind = Literal[
    "log_refused",
    "rebuilding",
    "halted",
    "paused",
    "waiting",
    "stuck",
    "withdrawn",
    "webhook_disabled",
    "pending",
    "failing",
]


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Says in words what needs attention, since when, and what it is about."""

    kind: NoteKind
    says: str
    since: str | None = None
    position: int | None = None
    """The position of the event that began it."""
    rollout: str | None = None
    devices: int | None = None
    webhook: str | None = None
    model: str | None = None
    version: str | None = None
    """The version of a release, and its model."""


class _StuckRollout(NamedTuple):
    rollout: RolloutState
    at: PlanTime
    since_ms: int


async def notes(call: AnyCall) -> tuple[int, list[Note]]:
    """Returns the size of the log and the project's notes. While a view cannot be read, the notes
    say only that."""
    async with call.db.moment() as reader:
        head = await log.head(reader, call.log_id)
    found = [*_refused(call, head), *await _rebuilding(call)]
    if call.log_id in call.services.builder.unfit:
        return head.size, found
    async with consistent_read(call) as now:
        return now.size, [*found, *await _notes_of(call, now)]


def _refused(call: AnyCall, head: log.Head) -> Iterable[Note]:
    fault = call.services.recorder.minimum_sizes.refused.get(LogName(head.project, head.number))
    if fault is not None:
        yield Note(kind="log_refused", says=f"The log takes no events: {fault}.")


async def _rebuilding(call: AnyCall) -> list[Note]:
    state = await call.services.builder.state(call.log_id)
    if state.failure is not None:
        return [Note(kind="rebuilding", says=f"A view could not be rebuilt: {state.failure}.")]
    if state.build is None:
        return []
    views = ", ".join(sorted(state.build.wanted))
    says = f"Views are being rebuilt ({views}): {state.build.position} of {state.size} events."
    return [Note(kind="rebuilding", says=says, position=state.build.position)]


async def _notes_of(call: AnyCall, now: ConsistentRead) -> list[Note]:
    found = [] if now.control.halt is None else [await _halted(call, now)]
    paused = sorted(_paused(now.control), key=lambda each: -each.phase_position)
    if paused:
        _, texts = await rollouts.texts(now.reader, call.log_id)
        found += [_pause(each, texts[each.id]) for each in paused[:ROLLOUTS_MAX]]
    known = sorted(now.control.rollouts.values(), key=lambda each: -each.position)
    waiting = [each for each in known if phase_of(call, now.control, each) == "waiting"]
    found += [_wait(each) for each in waiting[:ROLLOUTS_MAX]]
    stuck = sorted(_stuck(call, now.control), key=lambda each: -each.rollout.position)
    found += [_stuck_in(*each) for each in stuck[:ROLLOUTS_MAX]]
    _, counts = await fleet_versions.counts(now.reader, call.log_id)
    found += _withdrawn(call, now.control, counts)
    found += map(_disabled_webhook, await stored.disabled(now.reader, call.project))
    pending = await device_current.count_pending(now.reader, call.log_id, devices_max=COUNTED_MAX)
    found += [_pending(pending)] if pending else []
    failing = await device_current.count_failing(now.reader, call.log_id, devices_max=COUNTED_MAX)
    return [*found, _failing(failing)] if failing else found


def _withdrawn(call: AnyCall, control: Control, counts: Iterable[VersionCount]) -> list[Note]:
    """Returns a note for each withdrawn release that devices run, the most devices first, and one
    for the rest of them."""
    running = [
        (each.devices, key)
        for each in counts
        if (key := ReleaseKey(each.model or "", each.version or "")) in control.releases
        and control.releases[key].is_withdrawn
    ]
    running.sort(key=lambda each: (-each[0], each[1]))
    found = [_run_withdrawn(call, control, *each) for each in running[:RELEASES_MAX]]
    rest = running[RELEASES_MAX:]
    if rest:
        devices = sum(each for each, _ in rest)
        releases = "a further withdrawn release"
        if len(rest) > 1:
            releases = f"{len(rest)} further withdrawn releases"
        says = f"{_all(devices, 'runs', 'run')} {releases}."
        found.append(Note(kind="withdrawn", says=says, devices=devices))
    return found


def _run_withdrawn(call: AnyCall, control: Control, devices: int, key: ReleaseKey) -> Note:
    release = control.releases[key]
    recall = recall_of(control, key)
    if recall is None:
        then = "Recall it to send them to a good version."
    elif (opening_ms := opens_at_ms(call, control, recall)) is not None:
        then = f"A recall of it waits for its window, which opens at {_minute(opening_ms)}."
    else:
        then = f"A recall of it {'is paused' if recall.phase == 'paused' else 'is under way'}."
    assert release.withdrawn_at_ms is not None, "a withdrawn release has a time"
    return Note(
        kind="withdrawn",
        says=f"{_all(devices, 'runs', 'run')} {key.version} of {key.model}, which is withdrawn. "
        + then,
        since=time_text(release.withdrawn_at_ms),
        position=release.withdrawn_position,
        rollout=recall.id if recall else None,
        devices=devices,
        model=key.model,
        version=key.version,
    )


def _minute(time_ms: int) -> str:
    """Returns a time as people read it, to the minute."""
    return f"{time_text(time_ms)[:16].replace('T', ' ')} UTC"


def recall_of(control: Control, key: ReleaseKey) -> RolloutState | None:
    """Returns the newest recall of a release from all devices of its model, if it still sends
    devices anywhere: the version that it leads to was not withdrawn."""
    recalls = control.deciding.get((key.model, key.version), ())
    newest = next((each for each in recalls if (each.cohort, each.tag) == (None, None)), None)
    return None if newest is None or is_over(control, newest) else newest


def _paused(control: Control) -> Iterable[RolloutState]:
    """Yields the paused rollouts that can be resumed."""
    for each in control.rollouts.values():
        if each.phase == "paused" and not is_over(control, each):
            yield each


def _stuck(call: AnyCall, control: Control) -> Iterable[_StuckRollout]:
    """Yields the running rollouts whose phase waits for its condition for too long."""
    at = plan_time(call, control)
    for each in control.rollouts.values():
        since_ms = phases.stuck_since_ms(control, each, at.now_ms)
        if since_ms is not None:
            yield _StuckRollout(each, at, since_ms)


async def _halted(call: AnyCall, now: ConsistentRead) -> Note:
    stream = f"project/{call.project}"
    rows = await now.reader.read(short_streams.of_stream(call.log_id, stream))
    halts = [decode(position, text) for position, _, text in rows if "Halted" in text]
    last = next((each for each in reversed(halts) if isinstance(each.event, Halted)), None)
    everything = "Everything is" if now.control.halt == "all" else "All but recalls are"
    return Note(
        kind="halted",
        says=f"{everything} halted: no device is offered anything else.",
        since=time_text(last.recorded_at_ms) if last else None,
        position=last.position if last else None,
    )


def _pause(rollout: RolloutState, texts: RolloutTexts) -> Note:
    return Note(
        kind="paused",
        says=_pause_text(rollout, texts),
        since=time_text(rollout.phase_at_ms),
        position=max(rollout.phase_position, 0),
        rollout=rollout.id,
    )


def _wait(rollout: RolloutState) -> Note:
    approvals = f"{len(rollout.approved_by)} of {rollout.approvals} members approved it"
    return Note(
        kind="waiting",
        says=f"The {name_of(rollout)} waits for approval: {approvals}.",
        since=time_text(rollout.started_at_ms),
        position=max(rollout.position, 0),
        rollout=rollout.id,
    )


def _stuck_in(rollout: RolloutState, at: PlanTime, since_ms: int) -> Note:
    clock = clock_at(rollout, at)
    assert clock is not None, "only a rollout with a plan is stuck"
    phase = rollout.plan[clock.phase]
    return Note(
        kind="stuck",
        says=f"The {name_of(rollout)} is stuck in phase {clock.phase + 1} of {len(rollout.plan)}: "
        f"fewer than {phase.min_reports} devices reported, or fewer than "
        f"{phase.installed_percent} % of them installed. Advance it, or change its plan.",
        since=time_text(since_ms),
        position=max(rollout.phase_position, 0),
        rollout=rollout.id,
    )


def _pause_text(rollout: RolloutState, texts: RolloutTexts) -> str:
    name = name_of(rollout)
    if texts.is_own_pause:
        allowed = f"{rollout.failed_percent} % are allowed"
        return f"The {name} paused itself: {texts.phase}, and {allowed}."
    return f"The {name} is paused{f': {texts.phase}' if texts.phase else ''}."


def _disabled_webhook(webhook: DisabledWebhook) -> Note:
    why = "its receiver answered 410" if webhook.reason == "gone" else "it failed for a day"
    says = (
        f"The webhook to {target_of(webhook.url).origin} is disabled, because {why}. Enable it "
        "when the receiver works: it continues where it stopped."
    )
    return Note(kind="webhook_disabled", says=says, webhook=webhook.webhook_id)


def _pending(devices: int) -> Note:
    says = _many(devices, "waits", "wait")
    return Note(kind="pending", says=f"{says} to be accepted or rejected.", devices=devices)


def _failing(devices: int) -> Note:
    says = _many(devices, "failed its last update", "failed their last update")
    return Note(kind="failing", says=f"{says}.", devices=devices)


def _many(devices: int, one: str, several: str) -> str:
    """Returns the start of a sentence about devices that were counted up to `COUNTED_MAX`."""
    return f"{'At least ' if devices == COUNTED_MAX else ''}{_all(devices, one, several)}"


def _all(devices: int, one: str, several: str) -> str:
    return f"1 device {one}" if devices == 1 else f"{devices} devices {several}"
