"""Knows which projects are being moved to another instance, or were moved, and answers for them.

A project that is being moved takes no changes: they are answered with 503, and nothing of them is
stored. Reads continue. Once the project has moved, its requests are answered with 308 and the same
path at the new address, after the caller is known: so a stranger learns nothing. Reads of its logs
stay, for auditors that keep the old address. The operator's commands are answered so, too, but
those that move the project and rebuild its views.

Every server looks every `LOOK_EVERY_S`. Until it has seen that a move began, an append fails all
the same, because the log is closed.
"""

import asyncio
import contextlib
from typing import NamedTuple

from aiohttp import web

from firmtrail.commands.move_project import moved_text
from firmtrail.database.database import Database, Unavailable
from firmtrail.events.entry import decode
from firmtrail.events.log import ProjectMoveStarted
from firmtrail.eventstore import moving
from firmtrail.http.callers import Caller
from firmtrail.http.errors import Conflict, ProjectMoved, ServiceUnavailable
from firmtrail.recording.commit import LogClosed

LOOK_EVERY_S = 2.0
RETRY_AFTER_S = 10
_LOGS = "/api/v1/projects/{project}/log"
"""How the paths of a project's logs begin."""
_COMMANDS = tuple(f"/local/projects/{{project}}/{each}" for each in ("move", "rebuild"))
"""How the paths of the operator's commands begin that a moved project takes."""


class Leaving(NamedTuple):
    """Describes a project that is being moved, or was."""

    address: str
    detail: str
    """Says where the project is, once it has moved."""
    is_over: bool
    """Whether the project is served at the address."""


class Moves:
    """Keeps the moves of one database, for one server."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._leaving: dict[str, Leaving] = {}

    async def look(self) -> None:
        """Reads the moves. Raises `Unavailable`."""
        found: dict[str, Leaving] = {}
        for project, state, entry in await moving.leaving(self._db):
            event = decode(0, entry).event
            if isinstance(event, ProjectMoveStarted):
                detail = moved_text(project, event)
                found[project] = Leaving(event.address, detail, state == moving.MOVED)
        self._leaving = found

    async def run(self) -> None:
        """Looks until it is cancelled; a database that is away delays it."""
        while True:
            with contextlib.suppress(Unavailable):
                await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def check_closed(self, error: LogClosed) -> None:
        """Raises the problem that answers a request that would record something in this log, if its
        project has moved. It is for requests whose path names no project."""
        self.check_here(error.project, f"Change tokens of project {error.project} there.")

    def check_here(self, project: str, advice: str) -> None:
        """Raises `Conflict` with this advice if the project has moved. It is for requests that are
        not sent on, because the client would take their answer for one of this server."""
        leaving = self._leaving.get(project)
        if leaving is not None and leaving.is_over:
            raise Conflict(f"{leaving.detail} {advice}", code="project_moved")

    def check(self, caller: Caller, request: web.Request, path: str, *, is_safe: bool) -> None:
        """Raises the problem that answers a request of a project that moves; `path` is the path of
        the route. A change by the operator fails only at the closed log, until the move is over."""
        if not self._leaving:
            return
        if caller.kind != "system":
            self.check_project(caller.project, request, path, is_safe=is_safe)
        elif not path.startswith(_COMMANDS):
            self._send_on(caller.project, request, path, is_safe=is_safe)

    def check_project(
        self, project: str | None, request: web.Request, path: str, *, is_safe: bool
    ) -> None:
        """Does the same for a caller that was found to belong to this project."""
        self._send_on(project, request, path, is_safe=is_safe)
        if not is_safe and project in self._leaving:
            raise ServiceUnavailable(
                "The project is being moved to another address. Try again.",
                RETRY_AFTER_S,
                "project_moving",
            )

    def _send_on(
        self, project: str | None, request: web.Request, path: str, *, is_safe: bool
    ) -> None:
        leaving = self._leaving.get(project or "")
        if leaving is None or not leaving.is_over or (is_safe and path.startswith(_LOGS)):
            return
        raise ProjectMoved(leaving.detail, f"{leaving.address}{request.rel_url.raw_path_qs}")
