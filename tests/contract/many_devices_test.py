"""Tests that many devices are registered in pieces, but in one commit."""

import pytest

from firmtrail.access.device_secrets import SealedSecret
from firmtrail.commands import devices as commands
from firmtrail.commands.devices import PIECE_DEVICES, DeviceRegistration, RegisteredDevice
from firmtrail.database.database import Database
from firmtrail.events.fleet import DeviceRegistered
from firmtrail.eventstore import log
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.device import Refused
from tests.databases import read
from tests.fleet import receipts, register, report
from tests.replay import differences

COUNT = 2 * PIECE_DEVICES + 7


def wanted() -> list[DeviceRegistration]:
    return [
        DeviceRegistration(
            SealedSecret(f"n{n}", f"k_{n}", f"digest {n}"),
            DeviceRegistered("m", tags=("a", f"t{n % 3}")),
        )
        for n in range(COUNT)
    ]


async def test_the_log_and_the_views_are_as_after_one_piece(
    db: Database, recorder: Recorder, log_id: int
) -> None:
    await register(recorder, log_id, "n3", "n400")
    command = commands.register(wanted(), actor="user/u_1")
    outcomes = await recorder.act(log_id, command)
    refused = [n for n, each in enumerate(outcomes) if isinstance(each, Refused)]
    assert refused == [3, 400]
    assert (await log.head(db, log_id)).size == COUNT
    assert await differences(db, log_id) == []
    [[rows]] = await read(db, "SELECT count(*) FROM device_secrets")
    assert rows == COUNT - 2
    [receipt] = await receipts(recorder, log_id, report(device="n1"))
    assert receipt.position == COUNT
    again = commands.register_or_reissue(wanted(), actor="user/u_1")
    issued = await recorder.act(log_id, again)
    assert [isinstance(each, RegisteredDevice) for each in issued].count(
        False
    ) == 1  # n1 has reported
    assert await differences(db, log_id) == []


async def test_a_failure_in_a_later_piece_undoes_all(
    db: Database, recorder: Recorder, log_id: int
) -> None:
    register_all = commands.register(wanted(), actor="user/u_1")

    async def command(commit: Commit) -> None:
        await register_all(commit)
        raise Refused("no", "not at all")

    with pytest.raises(Refused):
        await recorder.act(log_id, command)
    assert (await log.head(db, log_id)).size == 0
    assert await differences(db, log_id) == []
    [receipt] = await receipts_of_one(recorder, log_id)
    assert receipt == 1


async def receipts_of_one(recorder: Recorder, log_id: int) -> list[int]:
    await register(recorder, log_id, "d1")
    return [each.position for each in await receipts(recorder, log_id, report())]
