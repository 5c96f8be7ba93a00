"""`firmtrail release`: adds versions with their files, lists and withdraws them."""

from collections.abc import AsyncIterator, Callable, Sequence
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
    """A file and what it is called in its release."""

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
    """Add, list and withdraw the versions that devices can be sent to."""


@release.command("add")
@click.argument("version")
@remote.in_project
@_of_model
@click.option("--notes", help="What is new.")
@click.option(
    "--artifact",
    "files",
    type=NamedFileType(),
    multiple=True,
    help="A file of the release, and its name there; several times for several files.",
)
@artifacts_option
@remote.named
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
    artifacts: config.Place | None,
    json: bool,
) -> None:
    """Add VERSION, and upload its files.

    If it is interrupted, run it again: it adds what is missing, and changes no file.
    """
    wanted = {"version": version, "model": model, "notes": notes}
    path = (project, "releases", model, version)

    async def add_all() -> Any:
        async with service.session(artifacts) as session:
            await _add(session, remote.path(*path[:2]), wanted, goes_on=bool(files))
            await _upload(session, path, files)
            return await local.ask(session, "GET", remote.path(*path))

    _say(loop.run(add_all()), "is added", json=json)


@release.command("withdraw")
@click.argument("version")
@remote.in_project
@_of_model
@click.option("--reason", required=True, help="Why it is never to be offered again.")
@remote.named
@output.json_option
def withdraw(
    service: remote.Service,
    /,
    *,
    version: str,
    project: str,
    model: str,
    reason: str,
    json: bool,
) -> None:
    """Withdraw VERSION for good: it is never offered again."""
    path = remote.path(project, "releases", model, version, "withdraw")
    _say(service.ask("POST", path, {"reason": reason}), "is withdrawn", json=json)


@release.command("list")
@remote.in_project
@click.option("--model", help="Only this one's.")
@remote.named
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
@remote.in_project
@_of_model
@remote.named
@output.json_option
def show(service: remote.Service, /, *, version: str, project: str, model: str, json: bool) -> None:
    """Show a release with its files."""
    output.show(service.ask("GET", remote.path(project, "releases", model, version)), json=json)


def _say(shown: Any, done: str, *, json: bool) -> None:
    """Say what was done with a release."""
    if json:
        output.show_json(shown)
    else:
        output.note(f"Release {shown['version']} of {shown['model']} {done}.")


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


async def _add(session: ClientSession, path: str, wanted: Any, *, goes_on: bool) -> None:
    async with session.post(path, json=wanted) as response:
        if response.status == 409 and goes_on:
            problem = await response.json(content_type=None)
            if problem["code"] == "release_exists":
                output.note(f"{problem['detail']}: its files are added.")
                return
        if not response.ok:
            raise CouldNotRun(await reasons.of_response(response))


async def _upload(session: ClientSession, path: Sequence[str], files: Sequence[NamedFile]) -> None:
    """Upload files of the release at `path`."""
    with output.progress(DownloadColumn(), TransferSpeedColumn()) as progress:
        for name, file in files:
            task = progress.add_task(name, total=file.stat().st_size)
            advance = partial(progress.advance, task)
            await _put(session, remote.path(*path, "artifacts", name), file, advance)


async def _put(
    session: ClientSession, path: str, file: Path, advance: Callable[[int], None]
) -> None:
    """Upload a file. It is hashed as it is read, and compared with what arrived."""
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
                f"{file} changed while it was sent, or arrived as other bytes: withdraw the "
                "release, and add another version with the right file."
            )


def _headers(file: Path) -> dict[str, str]:
    """Announce the length, so that the server refuses what is too large before it is sent."""
    length = str(file.stat().st_size)
    return {"Content-Length": length, "Content-Type": "application/octet-stream"}
