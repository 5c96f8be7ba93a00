"""`firmtrail doctor`: checks everything that the service depends on.

It only reads, so it can look while a server runs.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import click

from firmtrail import config
from firmtrail.cli import doctor_connections, doctor_stores, loop, opening, output
from firmtrail.cli.checks import Check, Verdict
from firmtrail.cli.parts import opened
from firmtrail.cli.settings import artifacts_option
from firmtrail.database import file_lock, sqlite
from firmtrail.database.database import Database, Unavailable
from firmtrail.http.health import FREE_BYTES_MIN
from firmtrail.recording.commit import AHEAD_MS_MAX, until_text
from firmtrail.schema import checks, health, migrations

BEHIND_MS_MAX = 1000
FREE_BYTES_WANTED = 1024 * 1024 * 1024
SOCKET_TIMEOUT_S = 2

STYLES = {"ok": "green", "info": "cyan", "warn": "yellow", "fail": "bold red"}


@click.command()
@artifacts_option
@output.json_option
@click.pass_obj
@click.pass_context
def doctor(
    ctx: click.Context, database: config.Database, *, artifacts: config.Place | None, json: bool
) -> None:
    """Check everything that the service depends on; changes nothing.

    Exit code 1 if anything fails. A warning is something to know.
    """
    rows = [check._asdict() for check in loop.run(_all(database, artifacts))]
    if json:
        output.show_json(rows)
    else:
        output.show_table(rows, STYLES)
    if any(row["verdict"] == "fail" for row in rows):
        ctx.exit(output.FOUND_WRONG)


async def _all(database: config.Database, artifacts: config.Place | None) -> list[Check]:
    limit = _well("descriptors", *doctor_connections.limit())
    if isinstance(database, config.Embedded):
        return [*[check async for check in _embedded(database, artifacts)], limit]
    return [*[check async for check in _cluster(database, artifacts)], limit]


async def _embedded(
    database: config.Embedded, artifacts: config.Place | None
) -> AsyncIterator[Check]:
    yield _linked()
    yield _disk(database.path.absolute().parent)
    yield doctor_stores.folder(database.path.absolute().parent)
    if not database.path.exists():
        said = opening.unwritable(database.path) or "`firmtrail serve` creates it"
        yield Check("database", "fail", f"there is no {database.path.absolute()}: {said}")
        return
    if fault := opening.unwritable(database.path):
        yield Check("database", "fail", fault)
    yield await _lock(database)
    if (open_now := await doctor_connections.running(database)) is not None:
        yield _well("connections", *open_now)
    try:
        db = await sqlite.SQLite.open_read_only(database.path)
    except Unavailable as error:
        yield Check("database", "fail", str(error))
        return
    try:
        async for check in _database(db):
            yield check
        if await migrations.is_usable(db):
            yield _triggers(await checks.sqlite_triggers(db))
            async for check in doctor_stores.outside_of(db, database, artifacts):
                yield check
    finally:
        await db.close()


def _well(check: str, is_well: bool, found: str) -> Check:  # noqa: FBT001 (what was found)
    return Check(check, "ok" if is_well else "warn", found)


def _linked() -> Check:
    version = ".".join(map(str, sqlite.VERSION))
    if sqlite.has_wal_reset_bug(sqlite.VERSION):
        said = "can lose a commit if a second process writes or checkpoints the file"
        return Check("SQLite", "info", f"{version} {said}; firmtrail lets none of its own do so")
    return Check("SQLite", "ok", version)


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    verdict: Verdict = "ok" if free >= FREE_BYTES_WANTED else "warn"
    if free < FREE_BYTES_MIN:
        verdict = "fail"
    return Check("disk", verdict, f"{free // 1024**2} MiB free in {folder}")


async def _lock(database: config.Embedded) -> Check:
    if not file_lock.is_locked(database.path):
        return Check("lock", "ok", "free: no server runs on this file")
    try:
        async with asyncio.timeout(SOCKET_TIMEOUT_S):
            _, writer = await asyncio.open_unix_connection(database.socket)
            writer.close()
    except (OSError, TimeoutError) as error:
        return Check("lock", "warn", f"held by a process that takes no commands: {error}")
    return Check("lock", "ok", "held by a running server")


async def _cluster(
    database: config.Cluster, artifacts: config.Place | None
) -> AsyncIterator[Check]:
    try:
        async with opened(database) as db:
            async for check in _database(db):
                yield check
            yield _durability(await checks.postgres_settings(db))
            yield _synced(await checks.postgres_synchronous_commit(db))
            if await migrations.is_usable(db):
                yield _triggers(await checks.postgres_triggers(db))
                yield _privileges(await checks.postgres_privileges(db))
                async for check in doctor_stores.outside_of(db, database, artifacts):
                    yield check
    except Unavailable as error:
        yield Check("database", "fail", str(error))


async def _database(db: Database) -> AsyncIterator[Check]:
    looked = await health.read(db)
    yield _answers(looked)
    schema = await migrations.schema(db)
    yield _schema(schema)
    if not schema.is_usable:
        return
    yield Check("instance", "ok", await migrations.instance(db))
    yield _clock(looked.recorded_at_ms)


def _schema(schema: migrations.Schema) -> Check:
    mine, found = migrations.HEAD, schema.version
    if schema.is_usable and found == mine:
        return Check("schema", "ok", mine)
    if schema.is_usable:
        said = f"{found}, newer than this version's {mine}, which may still read and write it"
        return Check("schema", "ok", said)
    if found is not None and found > mine:
        said = f"is {found}, which this version ({mine}) can't use: run a newer version"
        return Check("schema", "fail", said)
    return Check("schema", "fail", f"is not {mine}: run `firmtrail migrate`")


def _answers(looked: health.Health) -> Check:
    if looked.is_read_only:
        said = "read_only: it answers, and takes no writes. Is it a standby? Connect to the primary"
        return Check("database", "fail", said)
    return Check("database", "ok", "answers")


def _clock(recorded_at_ms: int) -> Check:
    ahead_ms = recorded_at_ms - int(time.time() * 1000)
    if ahead_ms <= BEHIND_MS_MAX:
        return Check("clock", "ok", "behind no event")
    verdict: Verdict = "fail" if ahead_ms > AHEAD_MS_MAX else "warn"
    found = f"the last event is {ahead_ms // 1000} s ahead of this clock"
    if verdict == "fail":
        until = until_text(recorded_at_ms - AHEAD_MS_MAX)
        found += (
            f": writes are refused until {until}. Set the clock right, wait, or run "
            "`firmtrail log accept-clock`"
        )
    return Check("clock", verdict, found)


def _triggers(differences: list[str]) -> Check:
    if differences:
        return Check("append-only", "fail", "; ".join(sorted(differences)))
    return Check("append-only", "ok", "the triggers of events, subtrees and checkpoints are whole")


def _durability(differences: list[str]) -> Check:
    if differences:
        said = "; ".join(differences)
        return Check("durability", "fail", f"{said}: a crash can lose what was acknowledged")
    return Check("durability", "ok", "fsync and full_page_writes are on")


def _synced(setting: str) -> Check:
    verdict: Verdict = "ok" if setting in {"on", "remote_apply"} else "fail"
    return Check("synchronous_commit", verdict, f"is {setting} on this service's connections")


def _privileges(held: list[str]) -> Check:
    if held:
        said = ", ".join(held)
        return Check("role", "warn", f"may {said}: serve with `migrate --service-role`'s")
    return Check("role", "ok", "may read and add events, no more")
