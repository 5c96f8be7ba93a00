"""Checks what is outside the database, for `firmtrail doctor`: key, checkpoints and stores.

The locations of checkpoints, of artifacts and of the archive are tried as a server tries them: it
creates a file and removes it again, or asks a bucket to honour a condition.
"""

from pathlib import Path

from firmtrail import config
from firmtrail.archive import positions, pruned
from firmtrail.archive.stores import ArchiveRefused, store_at
from firmtrail.artifacts import Artifacts
from firmtrail.cli.assembly import checkpoints_store, location_name
from firmtrail.cli.checks import Check
from firmtrail.database import stubs
from firmtrail.database.database import Database, Unavailable
from firmtrail.database.stubs import EntriesAway
from firmtrail.publishing import checkpoint, checkpoint_store, published, signing_key
from firmtrail.publishing.checkpoint import BadNote
from firmtrail.schema import migrations


async def outside(
    db: Database, database: config.DatabaseUrl, artifacts: config.StorageLocation | None
) -> list[Check]:
    """Checks the key, the published checkpoints and the artifacts."""
    try:
        signing = database.signing
    except config.BadSetting as error:
        return [Check("checkpoints", "fail", str(error))]
    stored = await _artifacts(artifacts or database.artifacts)
    if signing is None:
        reason = "none is given: nothing is published, and a restored backup would go unnoticed"
        return [Check("signing key", "warn", reason), stored]
    return [
        _key(signing.key, is_made=database.has_one_writer),
        await _checkpoints(db, signing.checkpoints),
        stored,
    ]


def _key(path: Path, *, is_made: bool) -> Check:
    if is_made and not path.exists() and not path.is_symlink():
        return Check("signing key", "ok", f"{path} does not exist: the first server creates it")
    try:
        signing_key.read(path)
    except (signing_key.BadKey, OSError) as error:
        return Check("signing key", "fail", str(error))
    if path.stat().st_mode & 0o077:
        return Check("signing key", "warn", f"other users may read {path}: chmod 600 {path}")
    return Check("signing key", "ok", f"{path} is an Ed25519 key")


async def _checkpoints(db: Database, location: config.StorageLocation) -> Check:
    store = checkpoints_store(location)
    try:
        await store.check()
        notes = await store.read()
    except (checkpoint_store.BadStore, OSError) as error:
        return Check("checkpoints", "fail", f"can't be read and written: {error}")
    wrong, uncovered, logs = await _compared(db, notes)
    if wrong:
        return Check("checkpoints", "fail", "; ".join(wrong))
    if not logs:
        return Check("checkpoints", "ok", f"{location} can be written; no log is published yet")
    rest = f"{uncovered} events are not covered yet" if uncovered else "they cover all events"
    return Check("checkpoints", "ok", f"{location} holds those of {logs} logs; {rest}")


async def _compared(db: Database, notes: checkpoint_store.Notes) -> tuple[list[str], int, int]:
    """Compares logs with their last published checkpoints. Returns a reason for each log that ends
    before its checkpoint, how many events no checkpoint covers yet, and how many logs have one."""
    instance = await migrations.instance(db)
    wrong, uncovered, logs = [], 0, 0
    async for page in published.all_logs(db):
        for standing in page:
            note = notes.get(checkpoint.origin(instance, *standing.name))
            if note is None:
                continue
            size = _size(note)
            logs, uncovered = logs + 1, uncovered + max(0, standing.size - size)
            if standing.size < size and not standing.is_closed:
                wrong.append(
                    f"log {standing.name} ends at {standing.size}, but its checkpoint of size "
                    f"{size} is published: it takes no appends"
                )
    return wrong, uncovered, logs


def _size(note: str) -> int:
    try:
        return checkpoint.parse(note).size
    except BadNote:
        return 0


async def _artifacts(location: config.StorageLocation | None) -> Check:
    if location is None:
        return Check("artifacts", "warn", "no location is given: a release can't have artifacts")
    if isinstance(location, Path) and not location.exists() and not location.is_symlink():
        return Check("artifacts", "ok", f"{location} does not exist: the first server creates it")
    try:
        await Artifacts(location).check()
    except (Unavailable, OSError) as error:
        return Check("artifacts", "fail", str(error))
    return Check("artifacts", "ok", f"{location} can be written")


async def pruned_entries(db: Database) -> Check:
    """Checks that the last pruned entry of each log can be read from the archive."""
    totals = await pruned.totals(db)
    if not totals.entries:
        return Check("pruned", "ok", "no entry was pruned: the database has all of them")
    found = f"{totals.entries} entries of {totals.logs} logs are only in the archive"
    if db.archive is None:
        return Check("pruned", "fail", f"{found}, which is not named: give --archive")
    try:
        for stub in await pruned.newest_stubs(db):
            await stubs.texts(db.archive, [stub])
    except EntriesAway as error:
        return Check("pruned", "fail", f"{found}: {error}")
    return Check("pruned", "ok", f"{found}; the last one of each log can be read there")


async def archived(db: Database, location: config.StorageLocation) -> Check:
    """Checks that the archive can be written, and says how much of the logs it lacks."""
    try:
        await store_at(location).check()
    except (ArchiveRefused, OSError) as error:
        return Check("archive", "fail", str(error))
    lag = await positions.lag(db, location_name(location))
    if lag.logs:
        found = f"{location} lacks {lag.entries} events of {lag.logs} logs, which a server adds"
        return Check("archive", "info", found)
    return Check("archive", "ok", f"{location} has all full bundles of all logs")
