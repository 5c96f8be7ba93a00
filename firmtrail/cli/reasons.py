"""Says in a sentence why a command could not run, with names as the person wrote them.

A problem of the service names members of a body by JSON pointers; here they become the options and
arguments that the command took them from.
"""

import os
from typing import Any
from urllib.parse import unquote, urlsplit

import click
from aiohttp import ClientConnectorError, ClientResponse

PROBLEM = "application/problem+json"

_HIDDEN = "There is nothing here."
"""The service's answer for a project that is not there and for one that the token is not for."""

_OPTIONS = {
    "failed_percent": "--pause-at",
    "min_reports": "--min-reports",
    "pinned": "VERSION",
    "project": "NAME",
}
"""Members that have another name than the option that they come from."""

_HINTS = {
    "device_decommissioned": "`firmtrail device restore` brings it back",
    "devices": "`firmtrail device list` lists those that there are",
    "forbidden": "an admin of the project can give a higher role with `firmtrail user role`",
    "halted": "`firmtrail resume` ends the halt",
    "members": "`firmtrail user list` lists those that there are",
    "project": "`firmtrail project list` lists those that there are",
    "project_exists": "choose another name",
    "release_exists": "a release is never replaced, so choose another version",
    "release_withdrawn": "it is never offered again, so release a higher version",
    "releases": "`firmtrail release list` lists those that there are",
    "rollout_aborted": "start a new one",
    "rollout_running": "only a paused rollout can be resumed",
    "rollouts": "`firmtrail rollout list` lists those that there are",
    "no_artifact_store": "the server needs --artifacts",
    "tokens": "`firmtrail token list` lists those that there are",
    "too_many_requests": "wait a minute, and try again",
    "unavailable": "try again in a moment",
    "unknown_release": "add it with `firmtrail release add`",
}
"""What to do next, by a problem's code; where something is missing, by its kind."""


_MISSING = frozenset({"not_found", "unknown_device", "unknown_rollout"})


async def of_response(response: ClientResponse) -> str:
    """Return why the service refuses; for an answer that is not Firmtrail's, its status."""
    if response.content_type != PROBLEM:
        return (
            f"{_origin(response)} answers {response.status} {response.reason}, and not as "
            "Firmtrail does: is it the right address?"
        )
    problem = await response.json(content_type=None)
    if response.status == 401:
        return "The server does not accept the token: it is wrong, revoked or expired."
    if problem["detail"] == _HIDDEN:
        return _nothing_at(response.url.raw_path)
    if response.status == 404 and problem["code"] in _MISSING:
        problem["code"] = _kind(response.url.raw_path, problem["detail"])
    return of_problem(problem)


def of_problem(problem: Any) -> str:
    """Return what a problem says, each fault of the body once."""
    faults = [_fault(each) for each in problem.get("errors", ())]
    said = "; ".join(dict.fromkeys(faults)) or problem["detail"] or problem["title"]
    sentence = f"{said[:1].upper()}{said[1:]}".rstrip(".")
    hint = _HINTS.get(problem["code"])
    return f"{sentence}: {hint}." if hint else f"{sentence}."


def of_connection(url: str, error: Exception) -> str:
    """Return why a server can't be reached."""
    said = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        said = "it gave no answer in time"
    elif isinstance(error, ClientConnectorError) and error.os_error.errno:
        said = os.strerror(error.os_error.errno)
    return (
        f"The server at {without_secret(url)} can't be reached ({said}): check that it runs, and "
        "that --url is its address."
    )


def without_secret(url: str) -> str:
    """The URL without the credential that it may carry."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _fault(fault: Any) -> str:
    name = fault.get("parameter") or fault.get("pointer", "").rpartition("/")[2]
    said = fault["reason"].rstrip(".")
    joint = " " if said.startswith(("is ", "has ", "lies ", "stands ")) else ": "
    return f"{_named(name)}{joint}{said}" if name else said


def _named(member: str) -> str:
    """The member as the running command calls it."""
    ctx = click.get_current_context()
    for each in ctx.command.params:
        if each.name in {member, f"{member}_id"}:
            return each.opts[0] if isinstance(each, click.Option) else each.make_metavar(ctx)
    return _OPTIONS.get(member, member)


def _kind(path: str, detail: str) -> str:
    """What is missing: the project, a member, or what the path names after the project."""
    if detail.startswith("There is no project"):
        return "project"
    if path.startswith("/local/"):
        return "members"
    return (path.split("/") + [""] * 6)[5]


def _nothing_at(path: str) -> str:
    """Which thing a path names that the service does not show."""
    names = [unquote(each) for each in path.split("/")]
    if names[:4] != ["", "api", "v1", "projects"]:
        return f"The server has nothing at {path}: is it Firmtrail, and of this version?"
    project = names[4]
    return f"There is no project {project} that this token is for: check --project and the token."


def _origin(response: ClientResponse) -> str:
    return str(response.url.origin()) if response.url.host != "localhost" else "The service"
