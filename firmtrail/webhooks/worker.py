"""Sends the messages of one webhook, in order, for as long as this process has its lease.

The position moves after the receiver has accepted a message, and is saved with the attempts, at
most every `SAVE_S`. A crash repeats what was sent since then, and loses nothing. A failure is tried
again after a moment, which hides a short fault; then the position is saved, the lease ends, and the
next attempt is made after a pause that doubles up to an hour. After an answer with Retry-After, it
waits as long as the receiver asks, at most an hour. A webhook that failed for a day, or whose
receiver answers 410, is disabled.
"""

import asyncio
import contextlib
from collections.abc import Callable
from random import SystemRandom
from time import monotonic, time
from typing import NamedTuple

import structlog

from firmtrail.access import projects
from firmtrail.database.database import Database, Unavailable
from firmtrail.database.stubs import EntriesAway
from firmtrail.events.times import DAY_MS
from firmtrail.events.webhooks import WebhookChanged
from firmtrail.eventstore import log
from firmtrail.eventstore.log import Corrupt, EntryPage
from firmtrail.recording.commit import SYSTEM, Commit
from firmtrail.recording.recorder import LogCommand, Recorder
from firmtrail.webhooks import kept_notices, messages, stored
from firmtrail.webhooks.kept_deliveries import DeliveryRow
from firmtrail.webhooks.messages import LogPlace, Selected
from firmtrail.webhooks.sender import GONE, Message, Outcome, Sender
from firmtrail.webhooks.stored import Webhook, WebhookProgress

SAVE_S = 0.5
PAGE_ENTRIES = 500
IDLE_S = 3.0
"""How long a lease is kept after the last message."""
TURN_S = 30.0
"""After this long another webhook may take the place in the process."""
RENEW_S = 5.0
"""A lease that was not renewed for so long is renewed before the next attempt."""
SOON_S = (0.005, 0.02, 0.1, 0.4)
"""The pauses before the first further attempts, which need no row."""
PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 3600.0
FAILING_MS_MAX = DAY_MS
"""A webhook that fails for this long is disabled."""
BUG = "A bug of this server ended the sending. The server's log has a line `bug` that says more."

type Count = Callable[[str], None]
"""Counts an attempt: "delivered" or "failed"."""

_random = SystemRandom()
_log = structlog.get_logger("firmtrail.webhooks")


class Sending(NamedTuple):
    """Holds what all workers of a process share."""

    db: Database
    recorder: Recorder
    sender: Sender
    process: str
    """Names this process in leases."""
    on_attempt: Count
    is_alone: bool
    """Whether no other process sends from this database."""


class _Over(Exception):
    """Ends a worker's turn: the lease was given up or lost."""


def pause_s(failures: int) -> float:
    """Returns the time before the next attempt, after so many failures: an hour at most, and not
    the same for all webhooks that failed together."""
    return min(PAUSE_S_MIN * 2.0 ** min(failures - 1, 20), PAUSE_S_MAX) * _random.uniform(0.75, 1.0)


class WebhookWorker:
    """Sends for one webhook until its turn is over."""

    def __init__(self, sending: Sending, webhook: Webhook) -> None:
        self.wake = asyncio.Event()
        self._sending = sending
        self._webhook = webhook
        self._log_id = webhook.log_id
        self._position = webhook.position
        self._tries: list[DeliveryRow] = []
        self._delivered_at_ms: int | None = None
        self._failures = webhook.failures
        self._saved_s = monotonic()
        self._is_dirty = False

    @property
    def _key(self) -> tuple[str, str]:
        return self._webhook.project, self._webhook.webhook_id

    async def run(self) -> None:
        """Sends until nothing is left, a receiver fails, or the turn is over. Raises any other
        error: then the caller calls `break_off`."""
        try:
            with contextlib.suppress(_Over):
                await self._run()
        except Unavailable as error:
            _log.warning("a webhook waits", webhook=self._webhook.webhook_id, reason=str(error))

    async def break_off(self) -> None:
        """Ends the turn of a worker that an error of this program ended: the webhook counts a
        failure and waits as after any other, but it is not disabled. Raises `Unavailable`."""
        self._failures += 1
        with contextlib.suppress(_Over):
            await self._write(error=BUG, pause_ms=self._pause_ms(), is_over=True)

    async def _run(self) -> None:
        try:
            await self._turn()
        except EntriesAway as error:  # what was sent is not sent again when the archive is back
            await self._write(error=None, pause_ms=error.retry_after_s * 1000, is_over=True)
            raise
        except Corrupt as error:
            self._failures += 1
            await self._fail(Outcome(int(time() * 1000), 0, None, str(error)))
        except asyncio.CancelledError:
            await self._save(is_over=True)
            raise
        await self._save(is_over=True)

    async def _turn(self) -> None:
        began_s = quiet_s = monotonic()
        while monotonic() - began_s < TURN_S:
            self.wake.clear()
            if await self._step():
                quiet_s = monotonic()
                continue
            await self._save_if(after_s=SAVE_S)
            if monotonic() - quiet_s > IDLE_S:
                return
            await self._pause(SAVE_S)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()

    async def _step(self) -> bool:
        """Sends the notices that wait, and the next entries. Returns whether there were any. Raises
        `Corrupt` if the log is another project's: the row was not written by this program."""
        head = await log.head(self._sending.db, self._log_id)
        if head.project != self._webhook.project:
            raise Corrupt("The webhook stands on a log of another project, and gets nothing of it.")
        waiting = await kept_notices.waiting_notices(self._sending.db, self._key)
        for notice in waiting:
            await self._deliver(notice.message(head.number))
            await kept_notices.end_notice(self._sending.db, self._key, notice.message_id)
        if self._position >= head.size:
            return bool(waiting) or (head.closed and await self._next_log(head))
        stop = min(head.size, self._position + PAGE_ENTRIES)
        async for page in log.read(self._sending.db, self._log_id, self._position, stop):
            for each in await self._selected(page, head):
                await self._send_entry(each)
        return True

    async def _selected(self, page: EntryPage, head: log.Head) -> list[Selected]:
        newest = await self._newest(head)
        webhook = self._webhook._replace(log_id=newest.log_id)
        control = await self._sending.recorder.controls.at(newest.log_id, newest.control_count)
        place = LogPlace(head.project, head.number)
        return await messages.selected(self._sending.db, webhook, place, page, control=control)

    async def _newest(self, head: log.Head) -> log.Head:
        """Returns the end of the project's newest log, whose views are the present. A log that
        another one replaced has no views in a database to which the project was moved."""
        if not head.closed:
            return head
        newest = await projects.newest_log(self._sending.db, head.project)
        if newest is None:  # the project has just left this database again
            raise _Over
        return await log.head(self._sending.db, newest[0])

    async def _next_log(self, head: log.Head) -> bool:
        """Continues at the beginning of the log that replaced this one."""
        later = await log.logs(self._sending.db, head.project, after=head.number, limit=1)
        if not later:
            return False
        self._log_id, self._position, self._is_dirty = later[0].log_id, 0, True
        return True

    async def _send_entry(self, entry: Selected) -> None:
        for message in entry.messages:
            await self._deliver(message)
        self._position, self._is_dirty = entry.position + 1, True
        await self._save_if(after_s=SAVE_S)

    async def _deliver(self, message: Message) -> None:
        """Returns when the receiver has the message. Raises `_Over` if it does not take it."""
        for pause in (*SOON_S, None):
            await self._save_if(after_s=RENEW_S, always=True)
            outcome = await self._attempt(message)
            if outcome.error is None:
                self._delivered_at_ms, self._failures = outcome.at_ms, 0
                return
            has_reason_to_wait = outcome.status == GONE or outcome.retry_after_s > 0
            if has_reason_to_wait or pause is None or self._failures:
                break
            await asyncio.sleep(pause)
        self._failures += 1
        await self._fail(outcome)

    async def _attempt(self, message: Message) -> Outcome:
        keys = self._webhook.keys(int(time() * 1000))
        outcome = await self._sending.sender.send(self._webhook.url, message, keys)
        self._tries.append(row_of(message, outcome, self._failures + 1))
        self._is_dirty = True
        self._sending.on_attempt("delivered" if outcome.error is None else "failed")
        return outcome

    async def _fail(self, outcome: Outcome) -> None:
        pause_ms = self._pause_ms(outcome.retry_after_s)
        saved = await self._write(error=outcome.error, pause_ms=pause_ms, is_over=True)
        is_gone = outcome.status == GONE
        since_ms = saved.failing_since_ms
        if is_gone or (since_ms is not None and saved.now_ms - since_ms >= FAILING_MS_MAX):
            await self._disable("gone" if is_gone else "failing")
        raise _Over

    def _pause_ms(self, retry_after_s: float = 0) -> int:
        wanted_s = min(retry_after_s, PAUSE_S_MAX)
        return int(max(pause_s(self._failures), wanted_s) * 1000)

    async def _disable(self, reason: str) -> None:
        [newest] = await log.newest(self._sending.db, self._webhook.project)
        _log.warning("a webhook was disabled", webhook=self._webhook.webhook_id, reason=reason)
        await self._sending.recorder.act(newest.log_id, disable(self._webhook, reason))

    async def _save_if(self, *, after_s: float, always: bool = False) -> None:
        """Saves if there is something to save, or `always`, and the last time is so long ago."""
        if (self._is_dirty or always) and monotonic() - self._saved_s >= after_s:
            await self._save(is_over=False)

    async def _save(self, *, is_over: bool) -> None:
        await self._write(error=None, pause_ms=0, is_over=is_over)

    async def _write(self, *, error: str | None, pause_ms: int, is_over: bool) -> stored.Saved:
        progress = WebhookProgress(
            self._log_id,
            self._position,
            self._delivered_at_ms,
            self._failures,
            error,
            pause_ms,
            is_over,
        )
        tries, self._tries = self._tries, []
        sending = self._sending
        saved = await stored.save(
            sending.db, self._webhook, progress, tries, process=sending.process
        )
        if saved is None:
            raise _Over
        self._delivered_at_ms, self._is_dirty, self._saved_s = None, False, monotonic()
        return saved


def row_of(message: Message, outcome: Outcome, attempt: int) -> DeliveryRow:
    """Returns an attempt as it is kept; it gets its number when it is written."""
    return DeliveryRow(
        number=0,
        message_id=message.message_id,
        position=message.position,
        type=message.type,
        attempt=attempt,
        at_ms=outcome.at_ms,
        duration_ms=outcome.duration_ms,
        status=outcome.status,
        error=outcome.error,
        excerpt=outcome.excerpt,
    )


def disable(webhook: Webhook, reason: str) -> LogCommand[None]:
    """Disables a webhook that failed, unless a person changed it meanwhile."""

    async def command(commit: Commit) -> None:
        [found] = await commit.run(stored.disable(webhook, reason))
        if found:
            event = WebhookChanged(enabled=False, disabled_for=reason)
            commit.draft.record(f"webhook/{webhook.webhook_id}", event, actor=SYSTEM)

    return command
