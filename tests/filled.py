"""Fills a small database with data of every kind, for tests that audit, copy or mutate one.

Two projects; acme continues log 1 in log 2. Devices that report in order, late, twice, that
change, leave and come back; texts, of which some are erased; members, tokens, settings. Signed at
several sizes, with the key and the published checkpoints next to it.
"""

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

from firmtrail.access.credentials import new_secret
from firmtrail.access.device_secrets import seal
from firmtrail.commands import access as commands
from firmtrail.commands import devices, releases, steering
from firmtrail.commands.continue_log import continue_log
from firmtrail.commands.erase_user import erase_user
from firmtrail.database.database import Database
from firmtrail.events.fleet import (
    ArtifactAdded,
    DeviceChanged,
    DeviceRegistered,
    ReleaseAdded,
    SettingsChanged,
    Status,
)
from firmtrail.events.steering import RollbackStarted, RolloutStarted
from firmtrail.eventstore import log
from firmtrail.publishing import signing_key
from firmtrail.publishing.minimum_sizes import LogName, MinimumSizes
from firmtrail.publishing.published_file import CheckpointFile
from firmtrail.publishing.publisher import Publisher
from firmtrail.publishing.signer import Signer
from firmtrail.recording.check_ins import CheckIn
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.report import ReportCommand
from tests.databases import INSTANCE, read
from tests.fleet import NOON_MS, report
from tests.people import add_member, add_project, issue_token, new_access

PROJECTS = ("acme", "zenith")
DEVICES = [f"d{number}" for number in range(12)]
VERSIONS = ("1.0.0", "1.1.0", "1.1.1", "2.0.0-rc.1", "2.0.0")
ROUNDS = 28
"""Of reports: log 1 gets more than a tile of them."""


async def fill(db: Database, path: Path) -> None:
    """Fills a migrated database; key and checkpoints are written to `path`.key and .checkpoints."""
    key_file = Path(f"{path}.key")
    signing_key.create(key_file)
    signer = Signer(INSTANCE, signing_key.read(key_file))
    publisher = Publisher(db, MinimumSizes(), signer, CheckpointFile(Path(f"{path}.checkpoints")))
    access, recorder = new_access(db), Recorder(db, publisher.minimum_sizes)
    await publisher.check()
    for project in PROJECTS:
        log_id = await add_project(db, access, project)
        await _live(db, recorder, log_id, publisher)
    [[log_id]] = await read(db, "SELECT log_id FROM projects WHERE project = $1", PROJECTS[0])
    last = await publisher.served.newest_known(LogName(PROJECTS[0], 1))
    assert last is not None
    await continue_log(db, log_id, checkpoint=last.note, above=0, actor="system")
    [[log_id]] = await read(db, "SELECT log_id FROM projects WHERE project = $1", PROJECTS[0])
    await _report(recorder, log_id, rounds=3, seed=2)
    await _erase(db, recorder, log_id, number=1)
    await publisher.following.round()
    assert publisher.following.problem is None
    await _report(recorder, log_id, rounds=1, seed=3)  # not yet published
    await recorder.close()
    access.hasher.close()


class Files(NamedTuple):
    """Holds the contents of the key and of the checkpoints of a filled database."""

    key: bytes
    checkpoints: bytes

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads both from where `fill` wrote them."""
        return cls(Path(f"{path}.key").read_bytes(), Path(f"{path}.checkpoints").read_bytes())

    def write(self, path: Path) -> None:
        """Writes both to where `fill` would write them."""
        key_file = Path(f"{path}.key")
        key_file.touch(mode=0o600)
        key_file.write_bytes(self.key)
        Path(f"{path}.checkpoints").write_bytes(self.checkpoints)


async def filled(db: Database) -> Files:
    """Fills a database that many tests get copies of."""
    with TemporaryDirectory() as folder:
        await fill(db, Path(folder) / "files")
        return Files.read(Path(folder) / "files")


async def _live(db: Database, recorder: Recorder, log_id: int, publisher: Publisher) -> None:
    await _people(db, recorder, log_id)
    await _register(db, recorder, log_id)
    await publisher.following.round()
    await _report(recorder, log_id, rounds=ROUNDS, seed=1)
    await publisher.following.round()
    await _change(db, recorder, log_id)
    await _steer(recorder, log_id)
    await _report(recorder, log_id, rounds=4, seed=4)
    await publisher.following.round()


async def _people(db: Database, recorder: Recorder, log_id: int) -> None:
    boss = await add_member(recorder, log_id, "boss@example.org", "admin")
    for name in ("leaver", "erased"):
        member = await add_member(recorder, log_id, f"{name}-{log_id}@example.org", "operator")
        token = await issue_token(recorder, log_id, member, "operator")
        if name == "leaver":
            revoke = commands.revoke_token(token.token.token_id, actor="system")
            await recorder.act(log_id, revoke)
            await recorder.act(log_id, commands.remove_member(member, actor="system"))
        else:
            await erase_user(db, recorder, member, actor="system")
    await issue_token(recorder, log_id, boss, "gateway")
    changed = SettingsChanged(poll_after_s=60, public_checkpoint=True)
    await recorder.act(log_id, commands.change_settings(changed, actor="system"))


async def _register(db: Database, recorder: Recorder, log_id: int) -> None:
    access = new_access(db)
    secrets = await seal(access.hasher, [(name, new_secret()) for name in DEVICES])
    wanted = [
        devices.DeviceRegistration(
            secret, DeviceRegistered(f"m{number % 3}" if number % 4 else None, tags=("lab",))
        )
        for number, secret in enumerate(secrets)
    ]
    await recorder.act(log_id, devices.register(wanted, actor="system"))
    access.hasher.close()


async def _report(recorder: Recorder, log_id: int, *, rounds: int, seed: int) -> None:
    random = Random(seed)
    for number in range(rounds):
        reports = [
            _one(random, name, seed * 1000 + number) for name in random.sample(DEVICES[2:], 8)
        ]
        await recorder.report(log_id, [*reports, reports[0]])  # the last one twice
    await recorder.report(log_id, [report("1.0.0", device="d2", detail=f"bye {seed}")])


def _one(random: Random, name: str, number: int) -> ReportCommand:
    """Returns a report by seq, by a clock that is right, wrong or late, or bare; sometimes with a
    text."""
    at_ms = NOON_MS + (number - random.randrange(20)) * 60_000
    members: dict[str, Any] = {"seq": number} if name in DEVICES[:5] else {"occurred_at_ms": at_ms}
    if random.random() < 0.2:
        members = {"report_id": f"r{number}"}
    if random.random() < 0.3:
        members["detail"] = f"text {number} of {name}"
    statuses: tuple[Status, ...] = ("installed", "running", "failed", "rebooting")
    return report(random.choice(VERSIONS), random.choice(statuses), name, **members)


async def _change(db: Database, recorder: Recorder, log_id: int) -> None:
    access = new_access(db)
    [secret] = await seal(access.hasher, [("d3", new_secret())])
    await recorder.act(log_id, devices.rotate_secret(secret, overlap_s=60, actor="system"))
    pinned = devices.WantedChange(DeviceChanged(pinned="1.1.0", cohort="c", tags=("a", "b")))
    await recorder.act(log_id, devices.change("d4", pinned, actor="system"))
    await recorder.act(
        log_id,
        devices.change("d5", devices.WantedChange(DeviceChanged(model="mx")), actor="system"),
    )
    for name in ("d6", "d7"):
        gone = devices.WantedChange(DeviceChanged(), decommissioned=True)
        await recorder.act(log_id, devices.change(name, gone, actor="system"))
    [again] = await seal(access.hasher, [("d7", new_secret())])
    back = devices.WantedChange(DeviceChanged(), decommissioned=False)
    await recorder.act(log_id, devices.change("d7", back, secret=again, actor="system"))
    await _erase(db, recorder, log_id, number=1)
    access.hasher.close()


async def _erase(db: Database, recorder: Recorder, log_id: int, *, number: int) -> None:
    """Erases some texts of the project's log of this number; its newest log records it."""
    project = (await log.head(db, log_id)).project
    erased_of = await log.by_number(db, project, number)
    assert erased_of is not None
    head = await log.head(db, erased_of)
    text = "SELECT position FROM texts WHERE log_id = $1 ORDER BY position LIMIT 3"
    for [position] in await read(db, text, erased_of):
        await recorder.act(log_id, commands.erase_text(head, position, actor="system"))


async def _steer(recorder: Recorder, log_id: int) -> None:
    for version in VERSIONS:
        added = ReleaseAdded("m1", version)
        await recorder.act(
            log_id, releases.add(added, f"notes of {version}", by=releases.ReleaseAuthor("system"))
        )
    wanted = RolloutStarted(VERSIONS[-1], "m1", 10_000)
    rollout = await recorder.act(log_id, steering.start(wanted, actor="system"))
    artifact = ArtifactAdded("full.bin", 3, "ab" * 32)
    await recorder.act(
        log_id, releases.add_artifact(ReleaseKey("m1", VERSIONS[-1]), artifact, actor="system")
    )
    for name in DEVICES[:4]:
        await recorder.act(log_id, steering.ask(name, expires_in_s=60, actor="system"))
    for name in DEVICES[:6] + DEVICES[7:]:  # d6 is gone
        await recorder.check_in(log_id, CheckIn(name, f"device/{name}"))
    await _recall(recorder, log_id)
    await recorder.act(log_id, steering.pause(rollout.id, "it is late", actor="system"))
    await recorder.act(log_id, steering.halt("all stand still", is_all=True, actor="system"))
    await recorder.act(log_id, steering.end_halt(None, actor="system"))


async def _recall(recorder: Recorder, log_id: int) -> None:
    """Calls a version back, which some devices leave."""
    wanted = RollbackStarted(VERSIONS[1], "m1", 10_000, fallback=VERSIONS[0])
    await recorder.act(log_id, steering.roll_back(wanted, "it leaks", actor="system"))
    leaving = [name for number, name in enumerate(DEVICES) if number % 3 == 1 and number % 4]
    for name in leaving:
        await recorder.report(log_id, [report(VERSIONS[1], device=name)])
        await recorder.check_in(log_id, CheckIn(name, f"device/{name}"))
        await recorder.report(log_id, [report(VERSIONS[0], device=name)])
