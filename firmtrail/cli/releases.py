"""`firmtrail release`: adds versions with their files, lists and withdraws them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import click
from aiohttp import ClientSession, ClientTimeout
from rich.progress import DownloadColumn, TransferSpeedColumn

from firmtrail import config
from firmtrail.cli import local, loop, output, reasons, remote
from firmtrail.cli.settings import artifacts_option
from firmtrail.exits import CouldNotRun

UPLOAD_S = 6 * 3600
READ_BYTES = 256 * 1024

_of_model = click.option("--model", required=True, help="The model that it is for.")


class NamedFile(NamedTuple):
    """Holds a file's name in its release, and its path here."""

    name: str
    path: Path


class NamedFileType(click.ParamType[NamedFile]):
    name = "[name=]file"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> NamedFile:
        name, is_named, rest = str(value).partition("=")
        path = Path(rest if is_named else name)
        if not path.is_file():
            self.fail(f"there is no file {path}", param, ctx)
        return NamedFile(name if is_named else path.name, path)


@click.group()
def release() -> None:
    """Add, list and withdraw the versions that devices can be updated to."""


@release.command("add")
@click.argument("version")
@remote.project_option
@_of_model
@click.option("--notes", help="The changes in this version.")
@click.option(
    "--artifact",
    "files",
    type=NamedFileType(),
    multiple=True,
    help="A file of the release, and its name in it. Give the option once for each file.",
)
@artifacts_option
@remote.service_options
@output.json_option
def add(
    service: remote.Service,
    /,
    *,
    version: str,
    project: str,
    model: str,
    notes: str | None,
    files: Sequence[NamedFile],
    artifacts: config.StorageLocation | None,
    json: bool,
) -> None:
    """Add VERSION, and upload its files.

    If the command is interrupted, run it again: it adds the missing files and changes none.
    """
    wanted = {"version": version, "model": model, "notes": notes}
    path = (project, "releases", model, version)
    shown = loop.run(_add_with_files(service.session(artifacts), path, wanted, files))
    _show_done(shown, "is added", json=json)
    if shown["rollout"] is not None and not json:
        _note_started(shown["rollout"])


@release.command("withdraw")
@click.argument("version")
@remote.project_option
@_of_model
@click.option("--reason", required=True, help="Why it must never be offered again.")
@remote.service_options
@output.json_option
def withdraw(
    service: remote.Service, /, *, version: str, project: str, model: str, reason: str, json: bool
) -> None:
    """Withdraw VERSION for good: it is never offered again."""
    path = remote.path(project, "releases", model, version, "withdraw")
    _show_done(service.ask("POST", path, {"reason": reason}), "is withdrawn", json=json)


@release.command("list")
@remote.project_option
@click.option("--model", help="Only the releases of this model.")
@remote.service_options
@output.json_option
def list_(service: remote.Service, /, *, project: str, model: str | None, json: bool) -> None:
    """List the releases, by model, the highest version first."""
    found = service.items(remote.path(project, "releases"), {"model": model})
    if json or not found:
        output.show_list(found, json=json)
    else:
        output.show_table([_row(each) for each in found], {"latest": "green", "withdrawn": "red"})


@release.command("show")
@click.argument("version")
@remote.project_option
@_of_model
@remote.service_options
@output.json_option
def show(service: remote.Service, /, *, version: str, project: str, model: str, json: bool) -> None:
    """Show a release with its files."""
    output.show(service.ask("GET", remote.path(project, "releases", model, version)), json=json)


def _show_done(shown: Any, done: str, *, json: bool) -> None:
    """Prints a release that a command changed, or a sentence about it."""
    if json:
        output.show_json(shown)
    else:
        output.note(f"Release {shown['version']} of {shown['model']} {done}.")


def _note_started(rollout: Any) -> None:
    """Prints how far the rollout goes that the new release started, and what it waits for."""
    percents = [each["percent"] for each in rollout.get("phases", [rollout])]
    reach = ", then ".join(f"{percent:g} %" for percent in percents)
    started = f"The setting auto_rollout started rollout {rollout['id']}"
    output.note(f"{started}: it reaches {reach} of the devices.")
    for line in rollout["waits_for"]:
        output.note(line)


def _row(shown: Any) -> dict[str, str | None]:
    state = "withdrawn" if shown["withdrawn"] else "latest" if shown["latest"] else ""
    return {
        "model": shown["model"],
        "version": shown["version"],
        "state": state,
        "added": shown["added_at"],
        "artifacts": " ".join(each["name"] for each in shown["artifacts"]),
        "notes": shown["notes"],
        "withdrawn because": shown["reason"],
    }


async def _add_with_files(
    opening: AbstractAsyncContextManager[ClientSession],
    path: tuple[str, str, str, str],
    wanted: Mapping[str, str | None],
    files: Sequence[NamedFile],
) -> dict[str, Any]:
    """Adds the release at `path`, and its files; returns it, with the rollout that this started, if
    any."""
    async with opening as session:
        started = await _add(session, remote.path(*path[:2]), wanted, may_exist=bool(files))
        await _upload(session, path, files)
        added = await local.ask(session, "GET", remote.path(*path))
        if started is None:
            return {**added, "rollout": None}
        rollout = await local.ask(session, "GET", remote.path(path[0], "rollouts", started))
        return {**added, "rollout": rollout}


async def _add(session: ClientSession, path: str, wanted: Any, *, may_exist: bool) -> str | None:
    """Adds the release; returns the id of the rollout that this started, if any."""
    async with session.post(path, json=wanted) as response:
        if response.status == 409 and may_exist:
            problem = await response.json(content_type=None)
            if problem["code"] == "release_exists":
                output.note(f"{problem['detail'].rstrip('.')}: adding its files.")
                return None
        if not response.ok:
            raise CouldNotRun(await reasons.of_response(response))
        started: str | None = (await response.json()).get("rollout")
        return started


async def _upload(session: ClientSession, path: Sequence[str], files: Sequence[NamedFile]) -> None:
    """Uploads files of the release at `path`."""
    with output.progress(DownloadColumn(), TransferSpeedColumn()) as progress:
        for name, file in files:
            task = progress.add_task(name, total=file.stat().st_size)
            advance = partial(progress.advance, task)
            await _put(session, remote.path(*path, "artifacts", name), file, advance)


async def _put(
    session: ClientSession, path: str, file: Path, advance: Callable[[int], None]
) -> None:
    """Uploads a file. It is hashed while it is read, and compared with the hash of what arrived."""
    digest = sha256()

    async def chunks() -> AsyncIterator[bytes]:
        with file.open("rb") as opened:
            while chunk := opened.read(READ_BYTES):
                digest.update(chunk)
                yield chunk
                advance(len(chunk))

    headers = _headers(file)
    timeout = ClientTimeout(total=UPLOAD_S)
    async with session.put(path, data=chunks(), headers=headers, timeout=timeout) as response:
        if not response.ok:
            raise CouldNotRun(f"{file}: {await reasons.of_response(response)}")
        if (await response.json())["sha256"] != digest.hexdigest():
            raise CouldNotRun(
                f"{file} changed while it was sent, or other bytes arrived: withdraw the release, "
                "and add another version with the right file."
            )


def _headers(file: Path) -> dict[str, str]:
    """Announces the length, so the server refuses a file that is too large before it is sent."""
    length = str(file.stat().st_size)
    return {"Content-Length": length, "Content-Type": "application/octet-stream"}
