"""Explains in a sentence why a command could not run, with names as the user wrote them.

The service's problems name members of a body by JSON pointers; here they become the options and
arguments that the command took them from.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
from aiohttp import ClientConnectorError, ClientHandlerType, ClientRequest, ClientResponse

from firmtrail.exits import CouldNotRun
from firmtrail.http.errors import PROBLEM_MEDIA_TYPE, NotFound, ProjectMoved

_OPTIONS = {
    "pause_if/failed_percent": "--pause-at",
    "pause_if/min_reports": "--min-reports",
    "window/cron": "--window",
    "window/duration_s": "--window-duration",
    "window/timezone": "--window-timezone",
    "pinned": "VERSION",
    "project": "NAME",
}
"""Members whose option or argument has another name, by their place in the body."""

_NAMES = "firmtrail.cli.reasons.names"
_MEMBERS = "firmtrail.cli.reasons.members"


def name_members(**names: str) -> None:
    """Names the option or argument of the running command that each of these members comes from,
    where another option has the member's name."""
    click.get_current_context().meta[_NAMES] = names


def name_option_of_members(option: str) -> None:
    """Names the option of the running command that takes any member by its name, such as --set."""
    click.get_current_context().meta[_MEMBERS] = option


_HINTS = {
    "device_decommissioned": "`firmtrail device restore` brings it back",
    "devices": "`firmtrail device list` lists the devices",
    "forbidden": "an admin of the project can give a higher role with `firmtrail user role`",
    "halted": "`firmtrail resume` ends the halt",
    "needs_member": "name the server with --url, and a member's token with --token-file",
    "members": "`firmtrail user list` lists the members",
    "project": "`firmtrail project list` lists the projects",
    "project_exists": "choose another name",
    "release_exists": "a release is never replaced, so choose another version",
    "release_recalled": "abort the recall first, or release a higher version",
    "release_withdrawn": "it is never offered again, so release a higher version",
    "releases": "`firmtrail release list` lists the releases",
    "rollout_aborted": "start a new one",
    "rollout_running": "only a paused rollout can be resumed",
    "rollouts": "`firmtrail rollout list` lists the rollouts",
    "no_artifact_store": "start the server with --artifacts",
    "tokens": "`firmtrail token list` lists the tokens",
    "too_many_requests": "wait a minute, and try again",
    "unavailable": "try again in a moment",
    "webhooks": "`firmtrail webhook list` lists the webhooks",
    "unknown_release": "`firmtrail release add` adds it",
}
"""Advice on the next step, by a problem's code; if something does not exist, by its kind."""


_MISSING = frozenset({"not_found", "unknown_device", "unknown_rollout"})


async def refuse_moved(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Raises `CouldNotRun` if the project was moved away, instead of following: a credential must
    not be sent to another address without the person's knowledge."""
    response = await handler(request)
    if response.status == ProjectMoved.status and response.content_type == PROBLEM_MEDIA_TYPE:
        raise CouldNotRun(await of_response(response))
    return response


async def of_response(response: ClientResponse) -> str:
    """Returns why the service refuses; for an answer that is not Firmtrail's, its status."""
    if response.content_type != PROBLEM_MEDIA_TYPE:
        url = response.url
        origin = url.origin() if url.host != "localhost" else "The service"
        return (
            f"{origin} answers {response.status} {response.reason}, but not as "
            "Firmtrail does: check the address."
        )
    problem = await response.json(content_type=None)
    if response.status == 401:
        return "The server does not accept the token: it is wrong, revoked or expired."
    if problem["detail"] == NotFound.detail:  # it also answers so to hide what exists
        return _nothing_at(response.url.raw_path)
    if response.status == 404 and problem["code"] in _MISSING:
        problem["code"] = _missing_kind(response.url.raw_path, problem["detail"])
    return of_problem(problem)


def of_problem(problem: Any) -> str:
    """Returns a problem's reason as a sentence, each fault of the body once."""
    faults = [_fault(each) for each in problem.get("errors", ())]
    reason = "; ".join(dict.fromkeys(faults)) or problem["detail"] or problem["title"]
    sentence = (reason if faults else f"{reason[:1].upper()}{reason[1:]}").rstrip(".")
    hint = _HINTS.get(problem["code"])
    return f"{sentence}: {hint}." if hint else f"{sentence}."


def of_connection(url: str, error: Exception) -> str:
    """Returns why a server can't be reached."""
    reason = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        reason = "it did not answer in time"
    elif isinstance(error, ClientConnectorError) and error.os_error.errno:
        reason = os.strerror(error.os_error.errno)
    return (
        f"The server at {_without_secret(url)} can't be reached ({reason}): check that it runs, "
        "and that --url is its address."
    )


def _without_secret(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _fault(fault: Any) -> str:
    place = fault.get("parameter") or fault.get("pointer", "").removeprefix("/")
    reason: str = fault["reason"].rstrip(".")
    if not place:
        return f"{reason[:1].upper()}{reason[1:]}"
    joint = " " if reason.startswith(_PREDICATES) else ": "
    return f"{_placed(place)}{joint}{reason}"


_PREDICATES = (
    *("can't ", "contains ", "has ", "have ", "is ", "lies "),
    *("must ", "needs ", "never ", "stands "),
)
"""How a reason begins whose subject is the member that it is about."""


def _placed(place: str) -> str:
    """Returns where a member is, as the running command was given it: its option or argument, and
    what is around it in a file. `plan/phases/0/after` is "--plan p.yaml, phase 1: after"."""
    named = _OPTIONS.get(place)
    if named and not named.startswith("--"):
        return _named(place)
    if named in {opt for each in click.get_current_context().command.params for opt in each.opts}:
        return str(named)
    parts = [each.replace("~1", "/").replace("~0", "~") for each in place.split("/")]
    first, *inner = parts[1:] if parts[0].isdecimal() and parts[1:] else parts
    head = _named(first)
    around = _counted(inner)
    if not around or (len(inner) == 1 and inner[0].isdecimal()):
        return head
    return f"{', '.join((head, *around[:-1]))}: {around[-1]}"


def _counted(parts: list[str]) -> list[str]:
    """Returns the parts of a pointer; those that count the items of a list are named after it."""
    found: list[str] = []
    for each in parts:
        if each.isdecimal() and found:
            found[-1] = f"{found[-1].removesuffix('s')} {int(each) + 1}"
        else:
            found.append(each)
    return found


def _named(member: str) -> str:
    """Returns the member's name in the running command: its option, with the file that it names,
    or its argument."""
    ctx = click.get_current_context()
    if named := ctx.meta.get(_NAMES, {}).get(member):
        return str(named)
    if option := ctx.meta.get(_MEMBERS):
        return f"{option} {member}"
    for each in ctx.command.params:
        if each.name in {member, f"{member}_id", f"{member}_file"}:
            named = each.opts[0] if isinstance(each, click.Option) else each.make_metavar(ctx)
            file = ctx.params.get(each.name)
            return f"{named} {file}" if isinstance(file, Path) else named
    return _OPTIONS.get(member, member)


def _missing_kind(path: str, detail: str) -> str:
    """Returns what does not exist: the project, a member, or what the path names below the project.
    All of them have one code, so the project is found by its name in the detail."""
    _, _, below = path.partition("/projects/")
    project, *kind = below.split("/")
    if f"project {unquote(project)}." in detail:
        return "project"
    return "members" if path.startswith("/local/") else "".join(kind[:1])


def _nothing_at(path: str) -> str:
    """Explains what a path names that the service does not show."""
    names = [unquote(each) for each in path.split("/")]
    if names[:4] != ["", "api", "v1", "projects"]:
        return f"The server has nothing at {path}: check that it is Firmtrail, of this version."
    return f"There is no project {names[4]} for this token: check --project and the token."
