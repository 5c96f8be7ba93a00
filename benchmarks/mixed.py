"""Fills a database with a fleet whose devices differ, so that each filter of a list finds some.

Most devices are of cohort `stable`. The few of cohort `canary`, those with the tag `lab`, and those
that failed have the last ids: a list that looks for them by id would look at all other devices
first. Half of the fleet has attributes. Three rollouts are under way, to a model, a cohort and a
tag; of the devices that got an offer, the last ones failed.
"""

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from itertools import batched, islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop
from rich.progress import Progress

from benchmarks import fleet
from benchmarks.fill import PARALLEL_ARRAYS, REGISTRATIONS, to_report
from benchmarks.fleet import ARRAY_REPORTS, VERSIONS, Fleet
from firmtrail.access import credentials
from firmtrail.access.device_secrets import SealedSecret
from firmtrail.commands import steering
from firmtrail.commands.devices import DeviceRegistration, register
from firmtrail.database.database import Database, Given, Statement
from firmtrail.database.postgres import Postgres
from firmtrail.database.sqlite import SQLite
from firmtrail.events.fleet import DeviceRegistered, ReleaseAdded
from firmtrail.events.steering import RolloutStarted
from firmtrail.recording.check_ins import CheckIn
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Recorder
from firmtrail.rules import attributes, release, rollout
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.report import ReportCommand

FEW = 300
"""How many devices are of cohort `canary`, have the tag `lab`, or failed."""
AGAIN = 0.3
"""The share of devices that report three versions instead of one."""
OFFERED, OFFERED_FAILED = 30_000, 100
"""How many devices get an offer of a rollout, and how many of them fail."""
OFFERED_TOGETHER = 500
NEWEST, PREVIOUS = "2.0.0", ("0.8.0", "0.9.0")
BAD, RARE = VERSIONS[3], "9.9.0"
"""A version that one device of twenty runs, and one that a few of the last devices run."""

_LOG = "SELECT log_id FROM projects WHERE project = $1"

_SAID = """\
INSERT INTO reported_attributes (project, device, data, changed_at_ms)
SELECT $1, given.device, given.data, 1
FROM given
WHERE TRUE"""

_PAIRS = """\
INSERT INTO attribute_pairs (project, pair, device)
SELECT $1, given.pair, given.device
FROM given
WHERE TRUE"""


class MixedDevice(NamedTuple):
    """Describes the device of a number."""

    labels: DeviceRegistered
    version: str
    status: str
    said: dict[str, str]


def device_of(number: int, devices: int) -> MixedDevice:
    """Returns the device of a number in a fleet of this size."""
    is_last = number >= devices - FEW
    tags = (("eu",) if number % 2 else ()) + (("lab",) if is_last and number % 3 else ())
    cohort = "canary" if is_last else "beta" if number % 50 == 0 else "stable"
    labels = DeviceRegistered("m2" if number % 10 == 9 else "m1", cohort, tags)
    version = RARE if is_last and number % 4 else VERSIONS[number // 7 % len(VERSIONS)]
    said: dict[str, str] = {}
    if number % 2:
        said = {"region": f"r{number % 7}", "serial": str(number)}
    return MixedDevice(labels, version, "failed" if is_last and number % 2 else "installed", said)


class MixedRollouts(NamedTuple):
    """Names the rollouts that are under way."""

    to_model: str
    to_cohort: str
    to_tag: str


def fill(database: str, devices: int) -> MixedRollouts:
    """Registers the fleet in a prepared database, records its reports, stores its attributes, and
    starts rollouts."""
    return uvloop.run(_fill(database, devices))


async def _fill(database: str, devices: int) -> MixedRollouts:
    async with _opened(database) as db:
        [[log_id]] = await db.read(Statement(_LOG, (fleet.PROJECT,)))
        recorder = Recorder(db)
        with Progress() as progress:
            adding = progress.add_task("registering", total=devices)
            for numbers in batched(range(devices), REGISTRATIONS):
                new = [_registration(number, devices) for number in numbers]
                await recorder.act(log_id, register(new, actor="system"))
                await _say(db, numbers, devices)
                progress.advance(adding, len(new))
            await _record(recorder, log_id, devices, progress)
        rollouts = await _steer(recorder, log_id, devices)
        await recorder.close()
        return rollouts


@asynccontextmanager
async def _opened(database: str) -> Any:
    if database.startswith("sqlite"):
        db: Database = await SQLite.open(Path(database.removeprefix("sqlite:///")))
    else:
        db = await Postgres.open(database)
    try:
        yield db
    finally:
        await db.close()


async def _record(recorder: Recorder, log_id: int, devices: int, progress: Progress) -> None:
    recording = progress.add_task("recording", total=int(devices * (1 + 2 * AGAIN)))
    arrays = _arrays(devices)

    async def record() -> None:
        for array in arrays:
            await recorder.report(log_id, [to_report(each) for each in array])
            progress.advance(recording, len(array))

    await asyncio.gather(*(record() for _ in range(PARALLEL_ARRAYS)))


def _arrays(devices: int) -> Iterator[list[dict[str, Any]]]:
    """Yields the arrays of reports: the versions that some devices ran before, then those that all
    run."""
    made = Fleet(devices)
    some = range(int(devices * AGAIN))
    for version in PREVIOUS:
        for numbers in batched(some, ARRAY_REPORTS):
            yield [made.report_of(number) | {"version": version} for number in numbers]
    for numbers in batched(range(devices), ARRAY_REPORTS):
        array = []
        for number in numbers:
            device = device_of(number, devices)
            body = {"version": device.version, "status": device.status}
            array.append(made.report_of(number) | body)
        yield array


def _registration(number: int, devices: int) -> DeviceRegistration:
    device, digest = fleet.name(number), credentials.digest(fleet.secret(number))
    secret = SealedSecret(device, credentials.new_id("k"), digest)
    return DeviceRegistration(secret, device_of(number, devices).labels)


async def _say(db: Database, numbers: tuple[int, ...], devices: int) -> None:
    """Stores the attributes of these devices, without the request of each."""
    said = [(fleet.name(each), device_of(each, devices).said) for each in numbers]
    texts = [(name, msgspec.json.encode(data).decode()) for name, data in said if data]
    pairs = sorted((pair, name) for name, data in said for pair in attributes.pairs(data))
    async with db.transaction() as tx:
        await tx.run(
            Statement(_SAID, (fleet.PROJECT,), Given("device text, data text", texts)),
            Statement(_PAIRS, (fleet.PROJECT,), Given("pair text, device text", pairs)),
        )


async def _steer(recorder: Recorder, log_id: int, devices: int) -> MixedRollouts:
    """Adds releases, starts rollouts, and lets devices check in."""
    await recorder.act(log_id, _add_releases)
    cohort = await _start(recorder, log_id, cohort="stable")
    tag = await _start(recorder, log_id, tag="eu")
    model = await _start(recorder, log_id)
    of_model = (number for number in range(devices) if number % 10 != 9)
    offered = [fleet.name(number) for number in islice(of_model, OFFERED)]
    for names in batched(offered, OFFERED_TOGETHER):
        asked = (CheckIn(name, f"device/{name}") for name in names)
        await asyncio.gather(*(recorder.check_in(log_id, each) for each in asked))
    failed = offered[-OFFERED_FAILED:]
    await recorder.report(
        log_id, [ReportCommand(name, NEWEST, "failed", f"device/{name}") for name in failed]
    )
    return MixedRollouts(model, cohort, tag)


async def _add_releases(commit: Commit) -> None:
    for version in (*VERSIONS, NEWEST, *PREVIOUS, RARE):
        for model in ("m1", "m2"):
            added, key = ReleaseAdded(model, version), ReleaseKey(model, version)
            commit.draft.record(release.stream(key), added, actor="system")


async def _start(
    recorder: Recorder, log_id: int, *, cohort: str | None = None, tag: str | None = None
) -> str:
    wanted = RolloutStarted(NEWEST, "m1", rollout.BUCKETS, cohort, tag)
    return (await recorder.act(log_id, steering.start(wanted, actor="system"))).id
