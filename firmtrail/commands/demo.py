"""The seed's demo: one device, one member, one update, on a log of their own.

A log is never cut. Populating again starts a new log of the project, which cites nothing and
starts empty, and makes it the one that the project writes to; the old ones stay as they are.
"""

from typing import NamedTuple

import msgspec

from firmtrail import device, events
from firmtrail.access import Hasher, NewSecret, credentials, people, projects, seal, settings
from firmtrail.access.device_secrets import insert_secrets, revoke_project
from firmtrail.commit import Commit, begin
from firmtrail.eventstore import log
from firmtrail.eventstore.database import Database, Transaction
from firmtrail.eventstore.floors import Floors
from firmtrail.record import start_log
from firmtrail.settings import INITIAL

DEVICE = "1"
DEVICE_SECRET = "AAA"  # noqa: S105 (the demo's, written in the seed for all to read)
EMAIL = "diegosalcovsky@gmail.com"
PASSWORD = "ABC"  # noqa: S105 (the same)
VERSION, SENT = "1.0.0", "SemVer1.0"
ACTOR = "system"


class _Hashed(NamedTuple):
    """The slow part, done before the transaction."""

    secret: NewSecret
    password: str


async def populate(
    db: Database, hasher: Hasher, project: str, old_log_id: int | None, *, above: int = 0
) -> None:
    """Start the demo on a new log. `old_log_id` is the project's newest, None where it has none.
    The new log's number is greater than `above`, than any that was published for the project.

    One transaction: whoever reads meanwhile sees the old demo or the new. Of two at once, one does
    it and the other finds it done.
    """
    [secret] = await seal(hasher, [(DEVICE, DEVICE_SECRET)])
    hashed = _Hashed(secret, await hasher.hash("user", PASSWORD))
    async with db.transaction() as tx:
        if await _takes_over(tx, project, old_log_id):
            await _begin(tx, project, hashed, above)


async def _takes_over(tx: Transaction, project: str, old_log_id: int | None) -> bool:
    """Close the old log, or reserve the name; False where someone else just did."""
    if old_log_id is None:
        [reserved] = await tx.run(projects.reserve(project))
        return bool(reserved)
    [rows] = await tx.run(log.lock(old_log_id))
    if log.head_of(rows).closed:
        return False
    await tx.run(log.close(old_log_id), revoke_project(project))
    return True


async def _begin(tx: Transaction, project: str, hashed: _Hashed, above: int) -> None:
    log_id = await start_log(tx, project, above=above)
    await tx.run(projects.set_log(project, log_id))
    commit = await begin(tx, log_id, Floors())
    initial = events.SettingsChanged(**msgspec.structs.asdict(INITIAL))
    commit.record(settings.stream(project), initial, actor=ACTOR)
    await _add_member(commit, hashed.password)
    await _add_device(commit, hashed.secret)
    await commit.finish()


async def _add_member(commit: Commit, password_hash: str) -> None:
    [[[actor_id]]] = await commit.run(people.ensure(credentials.new_id("u"), EMAIL, commit.now_ms))
    await commit.run(
        people.set_password(actor_id, password_hash),
        people.set_role(commit.project, actor_id, "admin"),
    )
    commit.record(f"user/{actor_id}", events.MemberAdded(actor_id, "admin"), actor=ACTOR)


async def _add_device(commit: Commit, secret: NewSecret) -> None:
    await commit.run(insert_secrets(commit.project, [secret], commit.now_ms))
    stream = f"device/{DEVICE}"
    registered = events.DeviceRegistered(secret_id=secret.secret_id)
    commit.record(stream, registered, actor=ACTOR)
    update = device.Report(DEVICE, VERSION, "installed", stream, sent=SENT)
    event = device.decide_report(commit.fold.states[DEVICE], update, None)
    if isinstance(event, events.REPORTS):  # a device's first report repeats none
        commit.record(stream, event, actor=stream)
