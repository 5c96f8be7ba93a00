"""What `firmtrail doctor` looks at outside the database: key, published checkpoints, artifacts.

The place of checkpoints and that of artifacts are tried as a server would: a file is created and
removed again, or a bucket is asked to honour a condition.
"""

from collections.abc import AsyncIterator
from pathlib import Path

from firmtrail import config
from firmtrail.artifacts import Artifacts
from firmtrail.cli.checks import Check
from firmtrail.cli.parts import checkpoints_store
from firmtrail.database import files
from firmtrail.database.database import Database, Unavailable
from firmtrail.publishing import checkpoint, checkpoint_store, published, signing_key
from firmtrail.publishing.checkpoint import BadNote
from firmtrail.schema import migrations


def folder(path: Path) -> Check:
    """Say whether other users may put files next to an embedded database."""
    if files.is_writable_by_others(path.stat()):
        found = f"{path} may be written to by other users, who could replace what lies there"
        return Check("folder", "warn", f"{found}: chmod go-w {path}")
    return Check("folder", "ok", f"only its owner may write to {path}")


async def outside_of(
    db: Database, database: config.Database, artifacts: config.Place | None
) -> AsyncIterator[Check]:
    """Look at key, published checkpoints and artifacts."""
    try:
        signing = database.signing
    except config.BadSetting as error:
        yield Check("checkpoints", "fail", str(error))
        return
    if signing is None:
        said = "none is given: nothing is published, and a restored backup would go unnoticed"
        yield Check("signing key", "warn", said)
    else:
        yield _key(signing.key, is_made=isinstance(database, config.Embedded))
        yield await _checkpoints(db, signing.checkpoints)
    yield await _artifacts(database, artifacts)


def _key(path: Path, *, is_made: bool) -> Check:
    if is_made and not path.exists() and not path.is_symlink():
        return Check("signing key", "ok", f"there is no {path} yet: the first server makes it")
    try:
        signing_key.read(path)
    except (signing_key.BadKey, OSError) as error:
        return Check("signing key", "fail", str(error))
    if path.stat().st_mode & 0o077:
        return Check("signing key", "warn", f"other users may read {path}: chmod 600 {path}")
    return Check("signing key", "ok", f"{path} is an Ed25519 key")


async def _checkpoints(db: Database, place: config.Place) -> Check:
    store = checkpoints_store(place)
    try:
        await store.check()
        notes = await store.read()
    except (checkpoint_store.BadStore, OSError) as error:
        return Check("checkpoints", "fail", f"can't be read and written: {error}")
    wrong, behind, logs = await _compared(db, notes)
    if wrong:
        return Check("checkpoints", "fail", "; ".join(wrong))
    if not logs:
        return Check("checkpoints", "ok", f"{place} can be written; no log is published yet")
    return Check(
        "checkpoints", "ok", f"{place} holds those of {logs} logs, {behind} events behind them"
    )


async def _compared(db: Database, notes: checkpoint_store.Notes) -> tuple[list[str], int, int]:
    """Find which logs end before their last checkpoint, how many events are not covered yet, and
    how many logs there are of which one is published."""
    instance = await migrations.instance(db)
    wrong, behind, logs = [], 0, 0
    async for page in published.all_logs(db):
        for standing in page:
            note = notes.get(checkpoint.origin(instance, *standing.name))
            if note is None:
                continue
            size = _size(note)
            logs, behind = logs + 1, behind + max(0, standing.size - size)
            if standing.size < size and not standing.is_closed:
                wrong.append(
                    f"log {standing.name} ends at {standing.size}, but its checkpoint of size "
                    f"{size} is out: it takes no appends"
                )
    return wrong, behind, logs


def _size(note: str) -> int:
    try:
        return checkpoint.parse(note).size
    except BadNote:
        return 0


async def _artifacts(database: config.Database, place: config.Place | None) -> Check:
    if place is None and isinstance(database, config.Embedded):
        place = database.artifacts
    if place is None:
        return Check("artifacts", "warn", "no place is given: a release can't have artifacts")
    if isinstance(place, Path) and not place.exists() and not place.is_symlink():
        return Check("artifacts", "ok", f"there is no {place} yet: the first server makes it")
    try:
        await Artifacts(place).check()
    except (Unavailable, OSError) as error:
        return Check("artifacts", "fail", str(error))
    return Check("artifacts", "ok", f"{place} can be written")
