"""Makes the seed's demo: one device, one member and one update, in a log of their own.

A log is never cut. Populating again starts a new log of the project, which cites nothing and
starts empty, and makes it the one that the project writes to; the old ones stay as they are.

The demo's password is public, so the demo changes nothing that it did not make: it takes over no
project whose logs it did not begin, and sets no password of a user that existed before. The first
events of the project's logs show whether the demo began them.
"""

import time
from collections.abc import Callable, Sequence
from itertools import groupby

from firmtrail.access import credentials, people, projects
from firmtrail.access.device_secrets import SealedSecret, insert_secrets, revoke_project, seal
from firmtrail.access.hashing import Hasher
from firmtrail.commands import demo_fleet
from firmtrail.commands.access import start_project
from firmtrail.database import stubs
from firmtrail.database.database import Database, Row, Statement, Transaction
from firmtrail.events.access import MemberAdded
from firmtrail.events.entry import decode
from firmtrail.events.fleet import REPORTS, DeviceRegistered, FirmwareInstalled
from firmtrail.events.log import LogContinued
from firmtrail.eventstore import log
from firmtrail.recording.commit import SYSTEM, Commit
from firmtrail.rules import device
from firmtrail.rules.device import Refused
from firmtrail.rules.report import ReportCommand

DEVICE = "1"
DEVICE_SECRET = "AAA"  # noqa: S105 (the demo's, which is public)
EMAIL = "diegosalcovsky@gmail.com"
PASSWORD = "ABC"  # noqa: S105 (the same)
VERSION, SENT = "1.0.0", "SemVer1.0"

PACE_S = 1
"""The least time between two runs of `populate`."""

NOT_OURS = "not_the_demos"

_BEGINNINGS = f"""\
SELECT log_heads.number, events.position, {stubs.ENTRY}
FROM log_heads
CROSS JOIN events
WHERE log_heads.project = $1 AND events.log_id = log_heads.log_id AND events.position < 4
ORDER BY log_heads.number, events.position
LIMIT 100000"""

_BEGUN_AT = """\
SELECT log_heads.number, events.recorded_at_ms, now_ms()
FROM log_heads
CROSS JOIN events
WHERE log_heads.project = $1 AND events.log_id = log_heads.log_id AND events.position = 0
ORDER BY log_heads.number DESC
LIMIT 2"""


class TooSoon(Exception):
    """Reports that the demo was populated less than `PACE_S` ago; nothing was done."""


class Throttle:
    """Lets one request of a process populate the demo in `PACE_S`, before any work is done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = float("-inf")

    def take(self) -> None:
        """Raises `TooSoon` for a second request within `PACE_S`."""
        now_s = self._clock()
        if now_s < self._next_s:
            raise TooSoon
        self._next_s = now_s + PACE_S


async def populate(
    db: Database, hasher: Hasher, project: str, old_log_id: int | None, *, above: int = 0
) -> None:
    """Starts the demo on a new log. `old_log_id` is the project's newest log, None if it has none.
    The new log's number is greater than `above`, so than any that was published for the project.

    It is one transaction: a reader sees the old demo or the new. Of two calls in parallel, one does
    it and the other finds it done. Raises `TooSoon`, and `Refused` if the project or the user of
    the demo's address was not made by the demo.
    """
    # Hashes are slow, and therefore made before the transaction.
    [secret] = await seal(hasher, [(DEVICE, DEVICE_SECRET)])
    password_hash = await hasher.hash("user", PASSWORD)
    async with db.transaction() as tx:
        if await _takes_over(tx, project, old_log_id):
            commit = await start_project(tx, project, actor=SYSTEM, above=above)
            await _add_member(commit, password_hash)
            await _add_device(commit, secret)
            await commit.finish()


async def _takes_over(tx: Transaction, project: str, old_log_id: int | None) -> bool:
    """Closes the old log, or reserves the name; returns False if another call just did."""
    if old_log_id is None:
        [reserved] = await tx.run(projects.reserve(project))
        return bool(reserved)
    [rows] = await tx.run(log.lock(old_log_id))
    if log.head_of(rows).closed:
        return False
    [beginnings, begun] = await tx.run(_beginnings(project), Statement(_BEGUN_AT, (project,)))
    if _users(beginnings) is None:
        raise Refused(NOT_OURS, f"The demo did not create the project {project}.")
    if len(begun) > 1 and begun[0][2] - begun[0][1] < PACE_S * 1000:
        raise TooSoon
    await tx.run(log.close(old_log_id), revoke_project(project))
    return True


async def _add_member(commit: Commit, password_hash: str) -> None:
    new_id = credentials.new_id("u")
    [[[actor_id]], beginnings] = await commit.run(
        people.ensure(new_id, EMAIL, commit.draft.now_ms),
        _beginnings(commit.draft.project),
    )
    if actor_id == new_id:
        await commit.run(people.set_password(actor_id, password_hash))
    elif actor_id not in (_users(beginnings) or ()):
        raise Refused(NOT_OURS, f"The demo did not create the user {EMAIL}.")
    await commit.run(people.set_role(commit.draft.project, actor_id, "admin"))
    commit.draft.record(f"user/{actor_id}", MemberAdded(actor_id, "admin"), actor=SYSTEM)


async def _add_device(commit: Commit, secret: SealedSecret) -> None:
    await commit.run(insert_secrets(commit.draft.project, [secret], commit.draft.now_ms))
    stream = f"device/{DEVICE}"
    registered = DeviceRegistered(secret_id=secret.secret_id)
    commit.draft.record(stream, registered, actor=SYSTEM)
    update = ReportCommand(DEVICE, VERSION, "installed", stream, sent=SENT)
    event = device.decide_report(commit.draft.fold.states[DEVICE], update, None)
    if isinstance(event, REPORTS):  # a device's first report repeats none
        commit.draft.record(stream, event, actor=stream)


async def foreign(db: Database, project: str) -> str | None:
    """Returns what the database contains that the demo did not create; None if there is nothing."""
    ours = {project, demo_fleet.PROJECT}
    others = [each.project for each in await projects.page(db, limit=3) if each.project not in ours]
    if others:
        return f"the project {others[0]}"
    if not _is_fleet(await db.read(_beginnings(demo_fleet.PROJECT))):
        return f"a project {demo_fleet.PROJECT} of your own"
    users = _users(await db.read(_beginnings(project)))
    if users is None:
        return f"a project {project} of your own"
    user = await people.by_email(db, EMAIL)
    if user is not None and user.actor_id not in users:
        return f"a user {EMAIL}"
    return None


def _beginnings(project: str) -> Statement:
    """Reads the first entries of each log of a project, also if they were pruned."""
    return Statement(_BEGINNINGS, (project,), entry=2)


def _is_fleet(beginnings: Sequence[Row]) -> bool:
    """Returns whether the demo made each log with these first events; also if there is none."""
    for _, rows in groupby(beginnings, key=lambda row: row[0]):
        first = [decode(position, entry) for _, position, entry in rows]
        if isinstance(first[0].event, LogContinued):
            continue
        if not demo_fleet.is_beginning(first):
            return False
    return True


def _users(beginnings: Sequence[Row]) -> frozenset[str] | None:
    """Returns the users that the demo made, by the first events of all logs of its project; None if
    it did not begin one of them. A log that continues another needs no such beginning."""
    found = set()
    for _, rows in groupby(beginnings, key=lambda row: row[0]):
        first = [decode(position, entry) for _, position, entry in rows]
        if isinstance(first[0].event, LogContinued):
            continue
        if [(each.stream, type(each.event), each.actor) for each in first[2:]] != _DEVICES:
            return None
        added = first[1].event
        if not isinstance(added, MemberAdded) or len({e.recorded_at_ms for e in first}) > 1:
            return None
        found.add(added.member)
    return frozenset(found)


_DEVICES: list[tuple[str, type, str]] = [
    (f"device/{DEVICE}", DeviceRegistered, SYSTEM),
    (f"device/{DEVICE}", FirmwareInstalled, f"device/{DEVICE}"),
]
"""The end of the demo's first commit; no other command makes such a commit."""
