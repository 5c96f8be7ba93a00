"""Finds devices that were offered a version and no longer call; it runs on each server.

A pass reads the offers without an outcome of the rollouts that have a limit of silence, page by
page, in the order in which they were made. A device that seems silent is decided on again while the
log's head is locked, so that several servers record its silence once, and a device that called
meanwhile is not counted. A crash loses nothing: the next pass finds the device again.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import batched

from firmtrail.access import seen
from firmtrail.access.seen import Seen
from firmtrail.database.database import Database, Unavailable
from firmtrail.eventstore import log
from firmtrail.projections import device_offers, rollouts
from firmtrail.projections.rollouts import WaitingRollout
from firmtrail.recording.commit import SYSTEM, Commit
from firmtrail.recording.recorder import LogCommand, Recorder
from firmtrail.rules.silence import LAG_MS, decide_silence, last_call_ms

LOOK_EVERY_S = 10
PAGE_OFFERS = 1_000
PAGES_MAX = 50
"""The pages of one rollout in one pass; the next pass continues from there."""
COMMIT_DEVICES_MAX = 500

type _Place = tuple[int, str]
_START: _Place = (-1, "")


class Silence:
    """Finds silent devices until `run` is cancelled."""

    def __init__(self, db: Database, recorder: Recorder, seen: Seen) -> None:
        self._db = db
        self._recorder = recorder
        self._seen = seen
        self._places: dict[tuple[int, str], _Place] = {}
        """Where the next pass over a rollout continues, if not from its first offer."""

    async def run(self) -> None:
        """Makes one pass after another; one without a database is left out."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(Unavailable):
                await self.look()

    async def look(self) -> None:
        """Makes one pass, and records the silence of devices. Raises `Unavailable`."""
        waiting = await rollouts.waiting(self._db)
        if waiting:
            await self._seen.flush()
        for each in waiting:
            await self._look_at(each)

    async def _look_at(self, waiting: WaitingRollout) -> None:
        key = waiting.log_id, waiting.rollout
        place = self._places.pop(key, _START)
        for _ in range(PAGES_MAX):
            silent, last = await self._page(waiting, place)
            for devices in batched(silent, COMMIT_DEVICES_MAX):
                await self._recorder.act(waiting.log_id, fall_silent(waiting.rollout, devices))
            if last is None:
                return
            place = last
        self._places[key] = place

    async def _page(
        self, waiting: WaitingRollout, place: _Place
    ) -> tuple[list[str], _Place | None]:
        """Returns devices that seem silent, and the place of the last offer if there may be
        more."""
        now_ms = (await log.head(self._db, waiting.log_id)).now_ms
        before_ms = now_ms - waiting.silent_after_s * 1000 - LAG_MS
        page = await device_offers.pending(
            self._db,
            waiting.log_id,
            waiting.rollout,
            after=place,
            before_ms=before_ms,
            limit=PAGE_OFFERS,
        )
        silent = [
            each.device
            for each in page
            if each.is_waited_for and last_call_ms(*each[1:4]) < before_ms
        ]
        last = page[-1] if len(page) == PAGE_OFFERS else None
        return silent, last and (last.offered_at_ms, last.device)


def fall_silent(rollout: str, devices: Sequence[str]) -> LogCommand[None]:
    """Records the silence of those of these devices that are still silent."""

    async def command(commit: Commit) -> None:
        states = await commit.devices(devices)
        [rows] = await commit.run(seen.last_seen(commit.draft.project, devices))
        seen_at_ms = {str(name): int(at_ms) for name, at_ms in rows}
        for name in devices:
            offers = list(commit.draft.fold.steering.offers.get(name, {}).values())
            event = decide_silence(
                commit.draft.control.rollouts[rollout],
                states[name],
                offers,
                seen_at_ms=seen_at_ms.get(name),
                now_ms=commit.draft.now_ms,
            )
            if event is not None:
                commit.draft.record(f"device/{name}", event, actor=SYSTEM)

    return command
