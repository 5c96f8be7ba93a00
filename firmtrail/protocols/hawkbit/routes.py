"""Lists the routes of hawkBit's protocol for devices (DDI), once for each path that it is below."""

from collections.abc import Iterator
from http import HTTPMethod
from typing import Any, NamedTuple

from firmtrail.http.respond import BYTES
from firmtrail.http.route import Handler, Route
from firmtrail.protocols.hawkbit import attributes, confirmation, feedback, files, polls
from firmtrail.protocols.hawkbit.caller import BASE, CONTROLLER, MOUNTS
from firmtrail.protocols.hawkbit.polls import ActionQuery
from firmtrail.protocols.hawkbit.shapes import (
    Cancellation,
    ConfigData,
    ConfirmationBase,
    Controller,
    DeploymentBase,
    Feedback,
    HawkbitArtifact,
    InstalledVersion,
)

GET, POST, PUT = HTTPMethod.GET, HTTPMethod.POST, HTTPMethod.PUT

_FILE = "/softwaremodules/{module}/artifacts"
_SEEN: dict[str, Any] = {"is_view": True, "refusals": frozenset({409})}
_ON_ACTION: dict[str, Any] = {"query": ActionQuery, **_SEEN}
_SAID: dict[str, Any] = {
    "body": Feedback,
    "body_bytes_max": feedback.FEEDBACK_BYTES_MAX,
    "takes_any_text": True,
    "answers": {200: None},
    "refusals": frozenset({409, 410}),
}
_LOADED: dict[str, Any] = {"refusals": frozenset({409, 410, 412, 416})}


class _Mount(NamedTuple):
    """Makes routes below a path."""

    path: str

    def route(self, method: HTTPMethod, path: str, handler: Handler, **fields: Any) -> Route:
        summary = (handler.__doc__ or "").partition("\n")[0]
        return Route(
            method=method,
            path=f"{self.path}{BASE}{path}",
            handler=handler,
            access=CONTROLLER,
            summary=summary,
            **fields,
        )

    def read(self, path: str, handler: Handler, content: Any, **fields: Any) -> Route:
        return self.route(GET, path, handler, answers={200: content, 304: None}, **fields)


def _routes(mount: _Mount) -> Iterator[Route]:
    yield mount.read("", polls.get_controller, Controller, is_polled=True, **_SEEN)
    yield from _of_actions(mount)
    yield from _of_confirmation(mount)
    yield from _of_the_device(mount)
    yield from _of_files(mount)


def _of_actions(mount: _Mount) -> Iterator[Route]:
    base = {name: f"/{name}/{{action}}" for name in ("deploymentBase", "cancelAction")}
    yield mount.read(base["deploymentBase"], polls.get_deployment, DeploymentBase, **_ON_ACTION)
    yield mount.route(POST, f"{base['deploymentBase']}/feedback", feedback.post_feedback, **_SAID)
    yield mount.read(base["cancelAction"], polls.get_cancellation, Cancellation, **_SEEN)
    cancelled = feedback.post_cancel_feedback
    yield mount.route(POST, f"{base['cancelAction']}/feedback", cancelled, **_SAID)
    yield mount.read("/installedBase/{action}", polls.get_installed, DeploymentBase, **_ON_ACTION)


def _of_confirmation(mount: _Mount) -> Iterator[Route]:
    base = "/confirmationBase"
    yield mount.read(base, confirmation.get_confirmation, ConfirmationBase, **_SEEN)
    on, off = f"{base}/activateAutoConfirm", f"{base}/deactivateAutoConfirm"
    yield mount.route(POST, on, confirmation.post_activate, answers={200: None})
    refused = {"answers": {}, "refusals": frozenset({409})}
    yield mount.route(POST, off, confirmation.post_deactivate, **refused)


def _of_the_device(mount: _Mount) -> Iterator[Route]:
    taken: dict[str, Any] = {"takes_any_text": True, "refusals": frozenset({409})}
    answers = {200: None, 201: None}
    installed, said = attributes.put_installed, attributes.put_config_data
    yield mount.route(
        PUT, "/installedBase", installed, body=InstalledVersion, answers=answers, **taken
    )
    yield mount.route(PUT, "/configData", said, body=ConfigData, answers={200: None}, **taken)


def _of_files(mount: _Mount) -> Iterator[Route]:
    """Yields the routes of files. That of a checksum comes before that of its file."""
    yield mount.read(_FILE, files.get_artifacts, list[HawkbitArtifact], **_SEEN)
    summed = {"is_download": True, **_LOADED}
    yield mount.read(f"{_FILE}/{{name}}.MD5SUM", files.get_checksum, "text/plain", **summed)
    yield mount.route(
        GET,
        f"{_FILE}/{{name}}",
        files.get_artifact,
        answers={200: BYTES, 206: BYTES, 304: None},
        sends=("Accept-Ranges", "Repr-Digest"),
        is_download=True,
        **_LOADED,
    )


ROUTES: tuple[Route, ...] = tuple(route for mount in MOUNTS for route in _routes(_Mount(mount)))
