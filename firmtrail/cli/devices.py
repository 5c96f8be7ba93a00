"""`firmtrail device`: registers devices, and hands out the secrets that they were given."""

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import click
from aiohttp import ClientSession
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from firmtrail import config
from firmtrail.cli import local, loop, output, remote
from firmtrail.cli.output import FOUND_WRONG, note
from firmtrail.main import CouldNotRun

COLUMNS = ("device", "model", "cohort", "secret", "tags")
CHUNK_DEVICES = 1000


@click.group()
def device() -> None:
    """Register devices, one or a file of them."""


@device.command("add")
@click.argument("device_id", metavar="ID")
@remote.in_project
@click.option("--model")
@click.option("--cohort")
@click.option("--secret", help="A secret that the device has already; without, one is made.")
@click.pass_obj
def add(
    database: config.Database, /, *, device_id: str, project: str, **members: str | None
) -> None:
    """Register a device, and print the secret that was made for it. It is shown this once."""
    given = {name: value for name, value in members.items() if value is not None}

    async def register() -> Any:
        async with local.service(database) as session:
            return await local.ask(
                session, "POST", remote.path(project, "devices"), {"device": device_id, **given}
            )

    registered = loop.run(register())
    if secret := registered.get("secret"):
        click.echo(secret)


@device.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@remote.in_project
@click.option(
    "--reissue-never-seen",
    is_flag=True,
    help="A device that exists and never called gets a new secret: for an import that broke off.",
)
@click.pass_obj
@click.pass_context
def import_(
    ctx: click.Context,
    database: config.Database,
    *,
    file: Path,
    project: str,
    reissue_never_seen: bool,
) -> None:
    """Register the devices of a .csv or .ndjson FILE.

    Columns: device, and where you like model, cohort, secret and tags (several apart by a space;
    in NDJSON an array). Prints a JSON line for every device that a secret was made for. A line
    that is wrong, or whose device exists, is named and left out; then the exit code is 1.
    """
    lines = {".csv": _csv_lines, ".ndjson": _json_lines}.get(file.suffix.lower())
    if lines is None:
        raise click.UsageError("FILE is named .csv or .ndjson.")
    path = remote.path(project, "devices") + ("?reissue=never_seen" if reissue_never_seen else "")
    with file.open(encoding="utf-8-sig", newline="") as text:
        refused = loop.run(_import(database, path, lines(text), _count(file)))
    if refused:
        ctx.exit(FOUND_WRONG)


class Line(NamedTuple):
    """A device as a line of the file has it, or what keeps it from being one."""

    number: int
    registration: dict[str, Any]
    fault: str | None = None


def _count(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def _csv_lines(text: TextIO) -> Iterator[Line]:
    rows = csv.DictReader(text)
    unknown = set(rows.fieldnames or ()) - set(COLUMNS)
    if unknown or "device" not in (rows.fieldnames or ()):
        raise CouldNotRun(f"Line 1 names the columns, out of {','.join(COLUMNS)}; device is one.")
    for row in rows:
        if None in row or None in row.values():
            yield Line(rows.line_num, {}, "has not as many cells as line 1")
        else:
            given = {name: cell.strip() for name, cell in row.items() if cell.strip()}
            tags = {"tags": given["tags"].split()} if "tags" in given else {}
            yield Line(rows.line_num, {**given, **tags})


def _json_lines(text: TextIO) -> Iterator[Line]:
    for number, line in enumerate(text, start=1):
        if line.isspace():
            continue
        try:
            registration = json.loads(line)
        except ValueError as error:
            yield Line(number, {}, f"is no JSON: {error}")
            continue
        if isinstance(registration, dict):
            yield Line(number, registration)
        else:
            yield Line(number, {}, "is no JSON object")


async def _import(database: config.Database, path: str, lines: Iterator[Line], count: int) -> int:
    """Register chunk by chunk; how many lines were refused."""
    refused = 0
    with output.progress(MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task("Registering", total=count)
        async with local.service(database) as session:
            for chunk in batched(lines, CHUNK_DEVICES):
                refused += await _register(session, path, chunk)
                progress.update(bar, completed=chunk[-1].number)
    return refused


async def _register(session: ClientSession, path: str, lines: Sequence[Line]) -> int:
    """Register what can be; a chunk with faults registers nothing, so it is sent without them."""
    good = [line for line in lines if not line.fault]
    refused = _refuse([line for line in lines if line.fault])
    while good:
        async with session.post(path, json=[line.registration for line in good]) as response:
            if response.status == 422:
                faulty = _faulty(good, await response.json(content_type=None))
                refused += _refuse(list(faulty.values()))
                good = [line for index, line in enumerate(good) if index not in faulty]
                continue
            if not response.ok:
                raise CouldNotRun(await local.reason(response))
            return refused + _show(good, await response.json())
    return refused


def _faulty(lines: Sequence[Line], problem: Any) -> dict[int, Line]:
    """The lines that the service can't take, by their index in the request."""
    faulty: dict[int, Line] = {}
    for fault in problem["errors"]:
        _, index, *member = fault["pointer"].split("/")
        line = lines[int(index)]
        said = f"{'/'.join(member)} {fault['reason']}".strip()
        before = faulty.get(int(index), line).fault
        faulty[int(index)] = line._replace(fault=f"{before}; {said}" if before else said)
    if not faulty:
        raise CouldNotRun(problem["detail"])
    return faulty


def _refuse(lines: Sequence[Line]) -> int:
    for line in lines:
        note(f"line {line.number}: {line.fault}")
    return len(lines)


def _show(lines: Sequence[Line], answers: Sequence[Any]) -> int:
    """Print the secrets; how many devices were refused."""
    refused = []
    for line, answer in zip(lines, answers, strict=True):
        if "code" in answer:
            refused.append(line._replace(fault=answer["detail"]))
        elif "secret" in answer:
            click.echo(json.dumps({"device": answer["device"], "secret": answer["secret"]}))
    return _refuse(refused)
