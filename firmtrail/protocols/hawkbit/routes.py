"""Lists the routes of hawkBit's protocol for devices (DDI), once for each path that it is below."""

from collections.abc import Iterator
from http import HTTPMethod
from typing import Any

from firmtrail.http.respond import BYTES
from firmtrail.http.route import Handler, Route
from firmtrail.protocols.hawkbit import attributes, feedback, files, polls
from firmtrail.protocols.hawkbit.caller import BASE, CONTROLLER, MOUNTS
from firmtrail.protocols.hawkbit.polls import ActionQuery
from firmtrail.protocols.hawkbit.shapes import (
    Cancellation,
    ConfigData,
    Controller,
    DeploymentBase,
    Feedback,
    HawkbitArtifact,
    InstalledVersion,
)

GET, POST, PUT = HTTPMethod.GET, HTTPMethod.POST, HTTPMethod.PUT

_FILE = "/softwaremodules/{module}/artifacts"
_SEEN: dict[str, Any] = {"is_view": True, "refusals": frozenset({409})}
_SAID: dict[str, Any] = {
    "body": Feedback,
    "body_bytes_max": feedback.FEEDBACK_BYTES_MAX,
    "takes_any_text": True,
    "answers": {200: None},
    "refusals": frozenset({409, 410}),
}
_LOADED: dict[str, Any] = {"refusals": frozenset({409, 410, 412, 416})}


def _routes(mount: str) -> Iterator[Route]:
    """Yields the routes below a path. That of a checksum comes before that of its file."""

    def route(method: HTTPMethod, path: str, handler: Handler, **fields: Any) -> Route:
        summary = (handler.__doc__ or "").partition("\n")[0]
        return Route(
            method=method,
            path=f"{mount}{BASE}{path}",
            handler=handler,
            access=CONTROLLER,
            summary=summary,
            **fields,
        )

    def read(path: str, handler: Handler, content: Any, **fields: Any) -> Route:
        return route(GET, path, handler, answers={200: content, 304: None}, **fields)

    yield read("", polls.get_controller, Controller, is_polled=True, **_SEEN)
    on_action: dict[str, Any] = {"query": ActionQuery, **_SEEN}
    yield read("/deploymentBase/{action}", polls.get_deployment, DeploymentBase, **on_action)
    yield route(POST, "/deploymentBase/{action}/feedback", feedback.post_feedback, **_SAID)
    yield read("/cancelAction/{action}", polls.get_cancellation, Cancellation, **_SEEN)
    yield route(POST, "/cancelAction/{action}/feedback", feedback.post_cancel_feedback, **_SAID)
    yield read("/installedBase/{action}", polls.get_installed, DeploymentBase, **on_action)
    yield route(
        PUT,
        "/installedBase",
        attributes.put_installed,
        body=InstalledVersion,
        takes_any_text=True,
        answers={200: None, 201: None},
        refusals=frozenset({409}),
    )
    yield route(
        PUT,
        "/configData",
        attributes.put_config_data,
        body=ConfigData,
        takes_any_text=True,
        answers={200: None},
        refusals=frozenset({409}),
    )
    yield read(_FILE, files.get_artifacts, list[HawkbitArtifact], **_SEEN)
    yield read(f"{_FILE}/{{name}}.MD5SUM", files.get_checksum, "text/plain", **_LOADED)
    yield route(
        GET,
        f"{_FILE}/{{name}}",
        files.get_artifact,
        answers={200: BYTES, 206: BYTES, 304: None},
        sends=("Accept-Ranges", "Repr-Digest"),
        **_LOADED,
    )


ROUTES: tuple[Route, ...] = tuple(route for mount in MOUNTS for route in _routes(mount))
