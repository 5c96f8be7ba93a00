"""`firmtrail release`: adds versions with their files, lists and withdraws them."""

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from aiohttp import ClientSession, ClientTimeout
from rich.progress import DownloadColumn, TransferSpeedColumn

from firmtrail import config
from firmtrail.cli import local, loop, output, remote
from firmtrail.cli.settings import artifacts_option
from firmtrail.main import CouldNotRun

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
    help="A file of the release, and what it is called in it; several times for several.",
)
@remote.named
@artifacts_option
@output.json_option
@click.pass_obj
def add(
    database: config.Database,
    /,
    *,
    version: str,
    project: str,
    model: str,
    notes: str | None,
    files: Sequence[NamedFile],
    json: bool,
    **where: Any,
) -> None:
    """Add VERSION, and upload its files.

    Broken off, the same command again goes on: a file that is there is not changed.
    """
    wanted = {"version": version, "model": model, "notes": notes}
    path = (project, "releases", model, version)

    async def add_all() -> Any:
        async with remote.service(database, **where) as session:
            await _add(session, remote.path(*path[:2]), wanted, goes_on=bool(files))
            await _upload(session, path, files)
            return await local.ask(session, "GET", remote.path(*path))

    _tell(loop.run(add_all()), "is there", is_json=json)


@release.command("withdraw")
@click.argument("version")
@remote.in_project
@_of_model
@click.option("--reason", required=True, help="Why it is never to be offered again.")
@remote.named
@output.json_option
@click.pass_obj
def withdraw(
    database: config.Database,
    /,
    *,
    version: str,
    project: str,
    model: str,
    reason: str,
    json: bool,
    **where: Any,
) -> None:
    """Withdraw VERSION for good: it is never offered again."""
    path = remote.path(project, "releases", model, version, "withdraw")

    async def post() -> Any:
        async with remote.service(database, **where) as session:
            return await local.ask(session, "POST", path, {"reason": reason})

    _tell(loop.run(post()), "is withdrawn", is_json=json)


@release.command("list")
@remote.in_project
@click.option("--model", help="Only this one's.")
@remote.named
@output.json_option
@click.pass_obj
def list_(
    database: config.Database, /, *, project: str, model: str | None, json: bool, **where: Any
) -> None:
    """List the releases, by model, the highest version first."""

    async def read() -> list[Any]:
        async with remote.service(database, **where) as session:
            query = {} if model is None else {"model": model}
            return await _all(session, remote.path(project, "releases"), query)

    found = loop.run(read())
    if json:
        output.show_json(found)
    elif found:
        output.show_table([_row(each) for each in found], {"latest": "green", "withdrawn": "red"})


def _tell(shown: Any, what: str, *, is_json: bool) -> None:
    if is_json:
        output.show_json(shown)
    else:
        output.note(f"Release {shown['version']} of {shown['model']} {what}.")


def _row(shown: Any) -> dict[str, str]:
    state = "withdrawn" if shown["withdrawn"] else "latest" if shown["latest"] else ""
    return {
        "model": shown["model"],
        "version": shown["version"],
        "state": state,
        "added": shown["added_at"],
        "artifacts": " ".join(each["name"] for each in shown["artifacts"]),
        "notes": shown["reason"] or shown["notes"] or "",
    }


async def _all(session: ClientSession, path: str, query: dict[str, str]) -> list[Any]:
    headers = {"Accept": "application/x-ndjson"}
    async with session.get(path, params=query, headers=headers) as response:
        if not response.ok:
            raise CouldNotRun(await local.reason(response))
        return [msgspec.json.decode(line) for line in (await response.read()).splitlines()]


async def _add(session: ClientSession, path: str, wanted: Any, *, goes_on: bool) -> None:
    async with session.post(path, json=wanted) as response:
        if response.status == 409 and goes_on:
            problem = await response.json(content_type=None)
            if problem["code"] == "release_exists":
                output.note(f"{problem['detail']}: adding its files.")
                return
        if not response.ok:
            raise CouldNotRun(await local.reason(response))


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
    """Upload a file. It is hashed as it is read, and held against what arrived."""
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
            raise CouldNotRun(f"{file}: {await local.reason(response)}")
        if (await response.json())["sha256"] != digest.hexdigest():
            raise CouldNotRun(f"{file} changed while it was sent, or arrived as other bytes.")


def _headers(file: Path) -> dict[str, str]:
    """With its length told, the server refuses what is too large before it comes."""
    length = str(file.stat().st_size)
    return {"Content-Length": length, "Content-Type": "application/octet-stream"}
