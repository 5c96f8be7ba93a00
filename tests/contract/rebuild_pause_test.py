"""A rebuild that is interrupted again and again pauses longer each time, and ends once it can."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise
from time import monotonic

import pytest

from firmtrail.database.database import Database, Unavailable
from firmtrail.projections import fold
from firmtrail.projections.controls import Controls
from firmtrail.rebuilding import builder, generations
from firmtrail.rebuilding.builder import Builder, Duty
from firmtrail.rebuilding.generations import Build
from firmtrail.rebuilding.rebuild import RebuildProgress, rebuild
from firmtrail.recording.recorder import Recorder
from tests.fleet import register
from tests.patience import PATIENCE_S

PAUSES_S = (0.05, 0.1, 0.2)


async def test_an_interrupted_rebuild_pauses_longer_each_time(
    db: Database, log_id: int, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(recorder, log_id, "d1")
    await db.play(generations.claim, log_id, frozenset(fold.REVISIONS), "me", 0)
    tried_at_s = list[float]()

    async def interrupted(_: Database, build: Build) -> AsyncGenerator[RebuildProgress]:
        tried_at_s.append(monotonic())
        yield RebuildProgress(build, 1)
        raise Unavailable("The archive is away.")

    monkeypatch.setattr(builder, "rebuild", interrupted)
    monkeypatch.setattr(builder, "LOOK_EVERY_S", PAUSES_S[0])
    own = Builder(db, Duty(is_alone=True), Controls(db), lambda *_: None)
    running = asyncio.create_task(own.run())
    async with asyncio.timeout(PATIENCE_S):
        while len(tried_at_s) < 4:
            await asyncio.sleep(0.01)
        monkeypatch.setattr(builder, "rebuild", rebuild)
        while (await own.state(log_id)).build is not None:
            await asyncio.sleep(0.01)
    pauses_s = [after - before for before, after in pairwise(tried_at_s)]
    assert [pause_s >= least_s for pause_s, least_s in zip(pauses_s, PAUSES_S, strict=True)] == [
        True
    ] * 3
    running.cancel()
    await asyncio.wait([running])


async def test_a_process_of_one_command_leaves_open_rebuilds_alone(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    await register(recorder, log_id, "d1")
    await db.play(generations.claim, log_id, frozenset(fold.REVISIONS), "me", 0)
    for is_automatic in (False, True):
        own = Builder(
            db, Duty(is_alone=True, is_automatic=is_automatic), Controls(db), lambda *_: None
        )
        await own.look()
        await own.begin()
        assert (await own.state(log_id)).is_running == is_automatic
    await asyncio.wait([running.task for running in own._running.values()])
    assert (await own.state(log_id)).build is None
