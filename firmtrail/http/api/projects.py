"""Serves projects: list and create them, and read and change their settings."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from firmtrail.access import projects, settings
from firmtrail.access.roles import Role
from firmtrail.commands import access as commands
from firmtrail.events.fleet import Enrolment, SettingsChanged
from firmtrail.events.times import time_text
from firmtrail.http import lists, respond
from firmtrail.http.api import tokens
from firmtrail.http.api.rollout_plans import (
    WantedAutoRollout,
    WantedWindow,
    auto_rollout_of,
    shown_auto_rollout,
    shown_window,
    window_of,
)
from firmtrail.http.api.rows import ADMINISTER, PATCH, POST, READ, P, command, listing, resource
from firmtrail.http.api.wire import StrictBody, TimeText
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import USER
from firmtrail.http.errors import Forbidden
from firmtrail.http.lists import ListPage, ListQuery, SortKey, page_of, text_before
from firmtrail.http.scalars import (
    ArtifactPattern,
    AttributeKey,
    CertificatePattern,
    Name,
    ProjectName,
)
from firmtrail.recording.commit import Commit
from firmtrail.rules.artifact import Protocol
from firmtrail.rules.device import Refused
from firmtrail.rules.settings import INITIAL, Settings

PARTS_MAX = 64
"""Limits the models for which a project names a kind of software."""


class WantedProject(StrictBody, frozen=True, kw_only=True):
    """Names the project to create."""

    project: ProjectName


class ListedProject(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a project, and the caller's role in it."""

    project: ProjectName
    role: Role | None
    created_at: TimeText


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a project with its settings."""

    project: ProjectName
    follow_latest: bool
    poll_after_s: int
    max_attempts: int
    public_checkpoint: bool
    window: WantedWindow | None
    model_windows: dict[str, WantedWindow]
    cohort_windows: dict[str, WantedWindow]
    approvals: int
    approve_from_devices: int
    auto_rollout: dict[str, WantedAutoRollout]
    enrolment: Enrolment
    mender_id_attribute: str | None
    artifact_names: dict[Protocol, ArtifactPattern]
    version_attribute: str | None
    model_attribute: str | None
    hawkbit_parts: dict[Name, Name]
    certificate_pattern: str | None


class SettingsChange(StrictBody, frozen=True, kw_only=True):
    """Names the settings to change."""

    follow_latest: bool | UnsetType = UNSET
    poll_after_s: Annotated[int, Meta(ge=1, le=7 * 86_400)] | UnsetType = UNSET
    max_attempts: Annotated[int, Meta(ge=1, le=1_000)] | UnsetType = UNSET
    public_checkpoint: bool | UnsetType = UNSET
    window: WantedWindow | UnsetType | None = UNSET
    model_windows: dict[Name, WantedWindow] | UnsetType = UNSET
    cohort_windows: dict[Name, WantedWindow] | UnsetType = UNSET
    approvals: Annotated[int, Meta(ge=0, le=20)] | UnsetType = UNSET
    approve_from_devices: Annotated[int, Meta(ge=0, le=10**9)] | UnsetType = UNSET
    auto_rollout: dict[Name, WantedAutoRollout] | UnsetType = UNSET
    enrolment: Enrolment | UnsetType = UNSET
    mender_id_attribute: Name | UnsetType | None = UNSET
    artifact_names: dict[Protocol, ArtifactPattern] | UnsetType = UNSET
    """For each protocol, which of several artifacts its clients get; replaces the whole setting."""
    version_attribute: AttributeKey | UnsetType | None = UNSET
    model_attribute: AttributeKey | UnsetType | None = UNSET
    hawkbit_parts: Annotated[dict[Name, Name], Meta(max_length=PARTS_MAX)] | UnsetType = UNSET
    """For each model, the kind of software that its clients expect; replaces the whole setting."""
    certificate_pattern: CertificatePattern | UnsetType | None = UNSET


CHANGE_BYTES_MAX = 7 * 1024
"""Limits the settings of one change, so that its event fits into an entry of the log."""

_BY_OPERATOR = (
    "No project was created: on this server only its operator creates projects. Ask the operator "
    "to run `firmtrail project add`, or to serve with `--projects open`."
)


async def get_projects(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List the projects that the caller is a member of.

    An API token sees only the project that it is for.
    """
    db, actor_id = call.db, str(call.caller.actor_id)
    is_system, only = call.caller.kind == "system", (await tokens.scope_of(call)).project

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        after = text_before(place)
        if is_system:
            rows = await projects.page(db, after=after, limit=limit + 1)
        else:
            rows = await projects.page_of_member(db, actor_id, only, after=after, limit=limit + 1)
        return page_of(rows, limit, lambda row: (row.project,), _listed)

    async def count() -> int:
        if is_system:
            return await projects.count(db)
        return await projects.count_of_member(db, actor_id, only)

    return await lists.answer(call, ListedProject, fetch, count)


async def post_project(call: Call[Any, WantedProject]) -> web.Response:
    """Create a project; the caller becomes its admin.

    An API token can't create one, because it is for one project.
    """
    caller, project = call.caller, call.body.project
    if caller.kind != "system" and call.services.serving.projects == "operator":
        raise Forbidden(_BY_OPERATOR)
    if (await tokens.scope_of(call)).project is not None:
        raise Forbidden
    answer = await commands.add_project(
        call.services.db,
        project,
        actor=caller.actor,
        creator=None if caller.kind == "system" else caller.actor_id,
        above=call.services.recorder.minimum_sizes.highest_number(project),
        key=call.key,
    )
    headers = {"Location": f"{call.prefix}/api/v1/projects/{project}"}
    return respond.json(answer.status, _project(project, INITIAL), headers)


async def get_project(call: Call[Any, None]) -> web.Response:
    """Return the project and its settings."""
    return respond.resource(call, await current(call))


async def patch_project(call: Call[Any, SettingsChange]) -> web.Response:
    """Change the settings that are named.

    A setting that has the value already is not recorded.
    """
    await change(call, call.body, partial(respond.check_match, call))
    return respond.resource(call, await current(call))


async def change(call: AnyCall, wanted: SettingsChange, check: Callable[[Any], None]) -> None:
    """Changes the settings that are named, once `check` has passed those before."""

    async def command(commit: Commit) -> None:
        before = await current(call)  # the commit locks the head: nothing else changes them
        check(before)
        members = {
            name: value
            for name, value in msgspec.structs.asdict(wanted).items()
            if value is not msgspec.UNSET and value != getattr(before, name)
        }
        if members:
            event = _event_of(members)
            await commands.change_settings(event, actor=call.caller.actor)(commit)

    await call.services.recorder.act(call.log_id, command)


def _event_of(members: dict[str, Any]) -> SettingsChanged:
    """Returns the event of a change. Raises `Refused` if it is too long for the log."""
    if times := members.get("window"):
        members["window"] = window_of(times)
    for name in ("model_windows", "cohort_windows"):
        if name in members:
            members[name] = {key: window_of(each) for key, each in members[name].items()}
    if "auto_rollout" in members:
        wanted = members["auto_rollout"].items()
        members["auto_rollout"] = {key: auto_rollout_of(each) for key, each in wanted}
    event = SettingsChanged(**members)
    if len(msgspec.json.encode(event)) > CHANGE_BYTES_MAX:
        detail = "The settings are too long for one change. Send them in several changes."
        raise Refused("invalid", detail, status=422)
    return event


async def current(call: AnyCall) -> Project:
    """Returns the project with its settings."""
    found = await settings.current(call.services.db, call.log_id, call.project)
    return _project(call.project, found)


def _listed(row: projects.ProjectRow) -> ListedProject:
    return ListedProject(
        project=row.project, role=row.role, created_at=time_text(row.created_at_ms)
    )


def _project(project: str, found: Settings) -> Project:
    members = msgspec.structs.asdict(found)
    members["window"] = shown_window(found.window)
    for name in ("model_windows", "cohort_windows"):
        members[name] = {key: shown_window(each) for key, each in members[name].items()}
    members["auto_rollout"] = {
        key: shown_auto_rollout(each) for key, each in found.auto_rollout.items()
    }
    return Project(project=project, **members)


ROUTES = (
    listing("/api/v1/projects", get_projects, USER, ListedProject),
    command(
        POST,
        "/api/v1/projects",
        post_project,
        USER,
        body=WantedProject,
        answers={201: Project},
        sends=("Location",),
    ),
    resource(P, get_project, READ, Project),
    command(
        PATCH,
        P,
        patch_project,
        ADMINISTER,
        body=SettingsChange,
        answers={200: Project},
        refusals=frozenset(),
        sends=("ETag",),
    ),
)
