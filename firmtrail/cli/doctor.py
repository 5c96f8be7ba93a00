"""`firmtrail doctor`: checks everything that the service depends on.

It only reads, so it can run next to a server.
"""

import time
from collections.abc import AsyncIterator

import click

from firmtrail import config
from firmtrail.cli import doctor_connections, doctor_stores, loop, output, python_build
from firmtrail.cli.back_ends import back_end
from firmtrail.cli.checks import Check, Verdict
from firmtrail.cli.settings import artifacts_option, read_archive_option, read_database_option
from firmtrail.database.database import Database, NotAllowed, Unavailable
from firmtrail.eventstore.log import AHEAD_MS_MAX
from firmtrail.recording.commit import until_text
from firmtrail.schema import health, migrations
from firmtrail.webhooks import lags

AHEAD_MS_UNNOTICED = 1000

STYLES = {"ok": "green", "info": "cyan", "warn": "yellow", "fail": "bold red"}


@click.command()
@read_database_option
@artifacts_option
@read_archive_option
@output.json_option
@click.pass_obj
@click.pass_context
def doctor(
    ctx: click.Context,
    database: config.DatabaseUrl,
    *,
    artifacts: config.StorageLocation | None,
    archive: config.StorageLocation | None,
    read_database: config.Cluster | None,
    json: bool,
) -> None:
    """Check everything that the service depends on, without changing anything.

    The exit code is 1 if a check fails. A warning does not change the exit code.
    """
    rows = [
        check._asdict() for check in loop.run(_all(database, artifacts, archive, read_database))
    ]
    if json:
        output.show_json(rows)
    else:
        output.show_table(rows, STYLES)
    if any(row["verdict"] == "fail" for row in rows):
        ctx.exit(output.FOUND_WRONG)


async def _all(
    database: config.DatabaseUrl,
    artifacts: config.StorageLocation | None,
    archive: config.StorageLocation | None,
    read_database: config.Cluster | None,
) -> list[Check]:
    chosen = back_end(config.archived(database, archive))
    found = await chosen.checks_before_opening()
    if not chosen.missing_file():
        try:
            async with chosen.opened_to_read() as db:
                async for check in _database(db):
                    found.append(check)
                found += await chosen.checks_of(db)
                if read_database is not None:
                    found.append(await doctor_connections.standby(db, read_database))
                if await migrations.is_usable(db):
                    found += await doctor_stores.outside(db, database, artifacts)
                    found.append(await doctor_stores.pruned_entries(db))
                    if archive is not None:
                        found.append(await doctor_stores.archived(db, archive))
        except Unavailable as error:
            found.append(Check("database", "fail", str(error)))
        except NotAllowed as error:
            reason = f"may not read what a server reads ({error}): check as the role that serves"
            found.append(Check("role", "fail", reason))
    return [*found, doctor_connections.limit(), python_build.check()]


async def _database(db: Database) -> AsyncIterator[Check]:
    seen = await health.read(db)
    yield _answers(seen)
    schema = await migrations.schema(db)
    yield _schema(schema)
    if schema.is_usable:
        yield Check("instance", "ok", await migrations.instance(db))
        yield _clock(seen.recorded_at_ms)
        yield _webhooks(await lags.read(db))


def _schema(schema: migrations.Schema) -> Check:
    mine, found = migrations.HEAD, schema.version
    if schema.is_usable and found == mine:
        return Check("schema", "ok", mine)
    if schema.is_usable:
        reason = f"{found}, newer than this version's {mine}, which can still read and write it"
        return Check("schema", "ok", reason)
    if schema.is_too_new:
        reason = f"is {found}, which this version ({mine}) can't use: run a newer version"
        return Check("schema", "fail", reason)
    return Check("schema", "fail", f"is not {mine}: run `firmtrail migrate`")


def _answers(seen: health.Health) -> Check:
    if seen.is_read_only:
        reason = (
            "read_only: it answers and takes no writes. If it is a standby, connect to the primary"
        )
        return Check("database", "fail", reason)
    return Check("database", "ok", "answers")


def _webhooks(lag: lags.Lag) -> Check:
    if lag.failing_since_ms is not None:
        since = until_text(lag.failing_since_ms)
        found = f"one has failed since {since}: `firmtrail webhook list` names it and why"
        return Check("webhooks", "warn", found)
    found = f"{lag.webhooks} webhooks, {lag.disabled} of them disabled, {lag.events} events waiting"
    return Check("webhooks", "ok", found)


def _clock(recorded_at_ms: int) -> Check:
    ahead_ms = recorded_at_ms - int(time.time() * 1000)
    if ahead_ms <= AHEAD_MS_UNNOTICED:
        return Check("clock", "ok", "no event is ahead of this clock")
    verdict: Verdict = "fail" if ahead_ms > AHEAD_MS_MAX else "warn"
    found = f"the last event is {ahead_ms // 1000} s ahead of this clock"
    if verdict == "fail":
        until = until_text(recorded_at_ms - AHEAD_MS_MAX)
        found += (
            f": writes are refused until {until}. Set the clock right, wait, or run "
            "`firmtrail log accept-clock`"
        )
    return Check("clock", verdict, found)
