"""`firmtrail device add` and `import`: register devices, and print the secrets made for them."""

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import batched
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import click
from aiohttp import ClientSession
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from firmtrail.cli import credentials, local, loop, output, reasons, remote
from firmtrail.cli.output import FOUND_WRONG, note
from firmtrail.exits import CouldNotRun

COLUMNS = ("device", "model", "cohort", "secret", "tags")
CHUNK_DEVICES = 1000


@click.group()
def device() -> None:
    """Register, list, show and change devices."""


@device.command("add")
@click.argument("device_id", metavar="ID")
@remote.project_option
@click.option("--model", help="The kind of device. A release is made for one model.")
@click.option("--cohort", help="The group of devices that it belongs to.")
@credentials.secret_options
@remote.service_options
@output.json_option
def add(
    service: remote.Service,
    /,
    *,
    device_id: str,
    project: str,
    json: bool,
    **members: str | None,
) -> None:
    """Register a device, and print the secret made for it. It is never shown again."""
    body = {"device": device_id, **local.without_none(members)}
    registered = service.ask("POST", remote.path(project, "devices"), body)
    if json or registered.get("secret"):
        output.show_secret(registered, "secret", json=json)


@device.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@remote.project_option
@click.option(
    "--reissue-never-seen",
    is_flag=True,
    help="Make new secrets for devices that exist and have never called, to repeat an import that "
    "was interrupted.",
)
@remote.service_options
@click.pass_context
def import_(
    ctx: click.Context,
    service: remote.Service,
    /,
    *,
    file: Path,
    project: str,
    reissue_never_seen: bool,
) -> None:
    """Register the devices of a .csv or .ndjson FILE.

    The column device is required; model, cohort, secret and tags are optional. Tags are separated
    by spaces; in NDJSON they are an array. Prints a JSON line for each device that a secret was
    made for. A line that is wrong, or whose device exists already, is reported and skipped; then
    the exit code is 1.
    """
    lines = {".csv": _csv_lines, ".ndjson": _json_lines}.get(file.suffix.lower())
    if lines is None:
        raise click.UsageError(f"The name of {file} must end in .csv or .ndjson.")
    path = remote.path(project, "devices") + ("?reissue=never_seen" if reissue_never_seen else "")
    with file.open(encoding="utf-8-sig", newline="") as text:
        refused = loop.run(_import(service, path, lines(text), _count(file)))
    if refused:
        ctx.exit(FOUND_WRONG)


class Line(NamedTuple):
    """Holds the device that a line of the file describes, or what is wrong with the line."""

    number: int
    registration: dict[str, Any]
    fault: str | None = None


def _count(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def _csv_lines(text: TextIO) -> Iterator[Line]:
    rows = csv.DictReader(text)
    _check_columns(rows.fieldnames or ())
    for row in rows:
        if None in row or None in row.values():
            yield Line(rows.line_num, {}, "has more or fewer cells than line 1")
        else:
            cells = {name: cell.strip() for name, cell in row.items() if cell.strip()}
            tags = {"tags": cells["tags"].split()} if "tags" in cells else {}
            yield Line(rows.line_num, {**cells, **tags})


def _check_columns(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    optional = ", ".join(COLUMNS[1:])
    if "device" not in names:
        found = f"it has {', '.join(names)}" if names else "the file is empty"
        raise CouldNotRun(
            f"Line 1 has no column device ({found}): name the column of the devices' ids `device`. "
            f"The columns {optional} are optional."
        )
    if unknown:
        raise CouldNotRun(
            f"Line 1 has an unknown column, {', '.join(unknown)}: the columns are device, "
            f"{optional}."
        )


def _json_lines(text: TextIO) -> Iterator[Line]:
    for number, line in enumerate(text, start=1):
        if line.isspace():
            continue
        try:
            registration = json.loads(line)
        except ValueError as error:
            yield Line(number, {}, f"is not JSON: {error}")
            continue
        if isinstance(registration, dict):
            yield Line(number, registration)
        else:
            yield Line(number, {}, 'is not a JSON object, such as {"device": "pump-1"}')


async def _import(service: remote.Service, path: str, lines: Iterator[Line], count: int) -> int:
    """Registers chunk by chunk, and returns how many lines were refused."""
    refused = 0
    with output.progress(MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task("Registering", total=count)
        async with service.session() as session:
            for chunk in batched(lines, CHUNK_DEVICES):
                refused += await _register(session, path, chunk)
                progress.update(bar, completed=chunk[-1].number)
    return refused


async def _register(session: ClientSession, path: str, lines: Sequence[Line]) -> int:
    """Registers the devices of a chunk. The service refuses a chunk with faults as a whole, so it
    is sent again without the faulty lines. Returns how many lines were refused."""
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
                raise CouldNotRun(await reasons.of_response(response))
            return refused + _show(good, await response.json())
    return refused


def _faulty(lines: Sequence[Line], problem: Any) -> dict[int, Line]:
    """Returns the lines that the service refuses, by their index in the request."""
    faulty: dict[int, Line] = {}
    for fault in problem["errors"]:
        _, index, *member = fault["pointer"].split("/")
        line = lines[int(index)]
        reason = f"{'/'.join(member)} {fault['reason']}".strip()
        before = faulty.get(int(index), line).fault
        faulty[int(index)] = line._replace(fault=f"{before}; {reason}" if before else reason)
    if not faulty:
        raise CouldNotRun(reasons.of_problem(problem))
    return faulty


def _refuse(lines: Sequence[Line]) -> int:
    for line in lines:
        note(f"line {line.number}: {line.fault}")
    return len(lines)


def _show(lines: Sequence[Line], answers: Sequence[Any]) -> int:
    """Prints the secrets, and returns how many devices were refused."""
    refused = []
    for line, answer in zip(lines, answers, strict=True):
        if "code" in answer:
            refused.append(line._replace(fault=answer["detail"]))
        elif "secret" in answer:
            click.echo(json.dumps({"device": answer["device"], "secret": answer["secret"]}))
    return _refuse(refused)
