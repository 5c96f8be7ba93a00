"""`firmtrail project move`: moves a project to the database of another instance.

`firmtrail.moving` explains the order of the steps, and what a crash between them leaves.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import click

from firmtrail import config
from firmtrail.access import projects
from firmtrail.audit import logs as audited
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.audit.project import Trusted
from firmtrail.cli import audit_show, credentials, local, loop
from firmtrail.cli.assembly import check_schema
from firmtrail.cli.back_ends import back_end
from firmtrail.cli.output import note
from firmtrail.cli.settings import DatabaseUrlType
from firmtrail.commands import move_project, new_address
from firmtrail.database.database import Database
from firmtrail.database.file_lock import Locked
from firmtrail.eventstore import log
from firmtrail.eventstore.log import Head
from firmtrail.exits import CouldNotRun
from firmtrail.moving import arrival, check, logs, rows
from firmtrail.moving.arrival import EndOfLog
from firmtrail.publishing.checkpoint import read_key_line, verifier
from firmtrail.schema import migrations
from firmtrail.webhooks import stored

SETTLE_S = 5.0
"""Every server has seen that the project moves before its rows next to the logs are copied: twice
`http.moves.LOOK_EVERY_S`, and a second."""

SENDING_WAIT_S = 90.0
"""A process that sends for a webhook ends its turn, or its lease ends, within a minute."""

REFUSALS = (
    logs.OtherLog,
    arrival.ErasedThere,
    arrival.ClocksDiffer,
    check.BadAccess,
    check.BadCopy,
    rows.OtherProjectsLog,
    rows.LeftOut,
    log.Corrupt,
)
"""Errors whose message says what to do."""


class Sides(NamedTuple):
    """Holds both databases of a move."""

    database: config.DatabaseUrl
    source: Database
    target: Database
    project: str
    instance: str
    """The name of the instance that the project is in."""
    to: str
    """The name of the other instance."""


type MoveWork = Callable[[Sides], Awaitable[None]]
"""Does one form of the command with both databases open."""


@click.command("move")
@click.argument("name")
@click.option(
    "--to",
    "target",
    type=DatabaseUrlType(),
    required=True,
    help="The database of the other instance. The role of a server of that instance is enough.",
)
@click.option(
    "--redirect-to",
    metavar="URL",
    help="The address of the other instance's servers, such as https://eu.example.com. When the "
    "project has moved, requests are answered with 308 and the same path there.",
)
@click.option("--dry-run", is_flag=True, help="Check and count; change nothing.")
@click.option(
    "--undo",
    is_flag=True,
    help="Let the project continue in --database, if nothing was recorded in the other one.",
)
@click.pass_context
def move(
    ctx: click.Context,
    /,
    *,
    name: str,
    target: config.DatabaseUrl,
    redirect_to: str | None,
    dry_run: bool,
    undo: bool,
) -> None:
    """Move a project, with its log byte for byte, to the database of another instance.

    Servers of --database may run, and answer changes of the project with 503 until it has moved.
    Receipts, proofs, secrets and tokens stay valid. The command can be interrupted and run again:
    it continues. Copy the artifacts to the other instance first.
    """
    if target.has_password:
        credentials.warn_of_argument(ctx, "to", "the variable FIRMTRAIL_PROJECT_MOVE_TO")
    for option, is_given in (("--dry-run", dry_run), ("--redirect-to", redirect_to is not None)):
        if undo and is_given:
            raise click.UsageError(f"--undo excludes {option}: give one of them.")
    if dry_run:
        work = _with_sides(ctx.obj, target, name, _look)
    elif undo:
        work = _with_sides(ctx.obj, target, name, _undo)
    else:
        address = _address(redirect_to) if redirect_to is not None else None
        work = _with_sides(ctx.obj, target, name, lambda sides: _move(sides, address))
    loop.run(work)


def _address(given: str) -> str:
    address = given.rstrip("/")
    try:
        new_address.check(address)
    except ValueError as error:
        raise click.UsageError(f"--redirect-to {error}.") from error
    return address


async def _with_sides(
    database: config.DatabaseUrl, target: config.DatabaseUrl, project: str, work: MoveWork
) -> None:
    """Opens both databases, and turns the errors of a move into messages."""
    if missing := back_end(target).missing_file():
        raise CouldNotRun(
            f"The database {missing} does not exist: create it with "
            f"`firmtrail --database {target} migrate --instance NAME`."
        )
    async with _opened(database, target, project) as (source, there):
        names = [await migrations.instance(each) for each in (source, there)]
        if names[0] == names[1]:
            raise CouldNotRun(
                f"Both databases belong to an instance named {names[0]}. The name is in the origin "
                "of each log, so it must differ: create the new database with "
                "`firmtrail migrate --instance NAME`."
            )
        sides = Sides(database, source, there, project, *names)
        try:
            await work(sides)
        except REFUSALS as error:
            raise CouldNotRun(str(error)) from error


@contextlib.asynccontextmanager
async def _opened(
    database: config.DatabaseUrl, target: config.DatabaseUrl, project: str
) -> AsyncIterator[tuple[Database, Database]]:
    async with contextlib.AsyncExitStack() as stack:
        source = await stack.enter_async_context(back_end(database).opened_to_read())
        await check_schema(source, database)
        try:
            there = await stack.enter_async_context(back_end(target).opened())
        except Locked as error:
            if move := await move_project.moved(source, project):
                raise CouldNotRun(
                    f"{move_project.moved_text(project, move)} To undo the move, stop the server "
                    f"of {target} first."
                ) from error
            raise CouldNotRun(
                f"{target} is open in another process: stop its server until the project has moved."
            ) from error
        await check_schema(there, target)
        yield source, there


async def _heads(sides: Sides) -> list[Head]:
    """Returns the ends of the project's logs here. Raises `CouldNotRun` if there are none."""
    if await projects.newest_log(sides.source, sides.project) is None:
        raise CouldNotRun(
            f"There is no project {sides.project}: `firmtrail project list` lists the projects."
        )
    return await log.logs(sides.source, sides.project, after=0, limit=1_000)


async def _check(sides: Sides, heads: Sequence[Head]) -> None:
    """Raises one of `REFUSALS` or `CouldNotRun` if the other database can't take the project."""
    if await projects.newest_log(sides.target, sides.project) is not None:
        raise CouldNotRun(
            f"The instance {sides.to} has a project {sides.project} already: a project keeps its "
            "name, so use another instance."
        )
    for head in heads:
        await logs.check_beginning(sides.source, sides.target, head)
    await rows.check_webhooks(sides.source, sides.project, {head.log_id for head in heads})
    await arrival.check_clocks(sides.target, heads[-1])
    await arrival.check_erased(sides.source, sides.target, sides.project)
    await check.check_access(await _originals(sides))
    others = await arrival.others_there(sides.source, sides.target, sides.project)
    rollout = await arrival.waiting_rollout(sides.source, heads[-1].log_id)
    if others and rollout:
        raise CouldNotRun(
            f"Rollout {rollout} waits for approval, and {len(others)} members have another id in "
            f"{sides.to}, so they could approve what they started: approve, reject or abort it "
            "first."
        )


async def _look(sides: Sides) -> None:
    """Checks what can be checked before the project stops, and shows what would be moved."""
    heads = await _heads(sides)
    if move := await move_project.moved(sides.source, sides.project):
        raise CouldNotRun(move_project.moved_text(sides.project, move))
    await _check(sides, heads)
    counted = {
        table.shown: await rows.count(sides.source, table, sides.project) for table in rows.TABLES
    }
    others = await arrival.others_there(sides.source, sides.target, sides.project)
    shown = ", ".join(f"{name}: {number}" for name, number in counted.items() if number)
    size = sum(head.size for head in heads)
    logs_there = "1 log" if len(heads) == 1 else f"{len(heads)} logs"
    note(
        f"Nothing was changed. {logs_there} with {size} events would move from {sides.instance} "
        f"to {sides.to}. Next to the log: {shown or 'nothing'}. Members who have another id "
        f"there: {len(others)}."
    )


async def _move(sides: Sides, address: str | None) -> None:
    heads = await _heads(sides)
    before = await move_project.moved(sides.source, sides.project)
    if before and (before.to, before.address) != (sides.to, address):
        raise CouldNotRun(move_project.moved_text(sides.project, before))
    if address is None:
        raise click.UsageError("Name the address of the other instance with --redirect-to.")
    has_begun = heads[-1].closed and await arrival.has_begun(sides.target, heads[-1])
    if not has_begun:
        await _check(sides, heads)
    stopped = await _post(sides, "move", {"to": sides.to, "address": address})
    began_s = time.monotonic()
    if not has_begun:
        await _arrive(sides, stopped, began_s)
    await _post(sides, "move/end", {})
    number = (await log.newest(sides.target, sides.project))[0].number
    note(
        f"Project {sides.project} has moved to {sides.to}, where it writes to its log {number}. "
        f"Requests here are answered with 308 and {address}. Its key here still verifies logs up "
        f"to {stopped['log']}: give auditors the line {stopped['key']}, if they have it not yet."
    )


async def _arrive(sides: Sides, stopped: Any, began_s: float) -> None:
    """Copies and checks the logs, folds the views, and lets the project begin there."""
    heads = await _heads(sides)
    end = EndOfLog(heads[-1], stopped["checkpoint"], stopped["key"])
    with audit_show.progress_bars() as new_bar:
        copies = {}
        for head in heads:
            bar = new_bar(f"copy log {head.number}", head.size)
            copies[head.log_id] = await logs.copy(sides.source, sides.target, head, bar)
        originals = await _originals(sides)
        await check.check(originals, sides.target, _trusted(end), new_bar)
        try:
            log_id = await arrival.prepare(sides.target, end.head, copies[end.head.log_id])
            bar = new_bar("fold the views", end.head.size)
            await arrival.fold_views(sides.target, log_id, bar)
            await _settle(sides, began_s)
            arriving = arrival.Arriving(sides.source, end, log_id, copies)
            await arrival.activate(sides.target, arriving)
        except arrival.GivenUp as error:
            raise CouldNotRun(
                "An undo of this move has begun: end it with --undo, then move again."
            ) from error
        except arrival.Taken as error:
            raise CouldNotRun(
                f"The instance {sides.to} got a project {sides.project} meanwhile. Undo with "
                "--undo."
            ) from error


async def _originals(sides: Sides) -> list[AuditedLog]:
    findings = Findings()
    found = await audited.of_project(sides.source, sides.instance, sides.project, findings)
    if findings.kept:
        first = findings.kept[0]
        raise CouldNotRun(
            f"{first.log}: {first.where}: {first.what}. Run `firmtrail audit verify` on --database."
        )
    return found


def _trusted(end: EndOfLog) -> Trusted:
    key = read_key_line(end.key).key
    return Trusted(lambda each: each.key or verifier(each.name, key), {}, {})


async def _settle(sides: Sides, began_s: float) -> None:
    """Waits until every server has seen the move, and nobody sends for a webhook."""
    await asyncio.sleep(max(0.0, began_s + SETTLE_S - time.monotonic()))
    until_s = time.monotonic() + SENDING_WAIT_S
    while await stored.is_sending(sides.source, sides.project):
        if time.monotonic() > until_s:
            raise CouldNotRun(
                "A webhook of the project is still being sent. Try again: the move continues."
            )
        await asyncio.sleep(0.5)


async def _undo(sides: Sides) -> None:
    last = (await _heads(sides))[-1]
    found = await move_project.move_of(sides.source, last)
    if found is None or found.to != sides.to:
        raise CouldNotRun(f"Project {sides.project} is not being moved to {sides.to}.")
    try:
        await arrival.give_up(sides.target, last, found.to)
    except arrival.UsedThere as error:
        raise CouldNotRun(
            f"Something was recorded or read in {sides.to} since the project moved, so it stays "
            "there. Move it on to another instance if it must leave."
        ) from error
    await _post(sides, "move/undo", {})
    note(f"Project {sides.project} stays in {sides.instance}, and takes events again.")


async def _post(sides: Sides, step: str, body: dict[str, Any]) -> Any:
    path = f"/local/projects/{sides.project}/{step}"
    async with local.service(sides.database) as session:
        return await local.ask(session, "POST", path, body or None)
