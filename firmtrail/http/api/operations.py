"""Serves what operators need: the index, liveness, readiness, metrics and the API's documents.

None of these routes needs a credential, and none names a project or anything of it. /healthz reads
nothing, so a slow database does not make an orchestrator kill the servers that wait for it.
"""

import asyncio
import functools
import mimetypes
from collections.abc import Sequence
from importlib import resources
from typing import Any

import msgspec
from aiohttp import web

from firmtrail import __version__
from firmtrail.http import openapi, respond, work_state
from firmtrail.http.api.rows import TEXT, read, resource
from firmtrail.http.call import AnyCall
from firmtrail.http.callers import PUBLIC
from firmtrail.http.errors import NotFound, ServiceUnavailable
from firmtrail.http.metrics import CONTENT_TYPE, ProcessState
from firmtrail.recording.commit import until_text

NOT_READY_RETRY_AFTER_S = 5

DOCS = "/docs"
CONSOLE = "/console"

DOCS_FILES = {
    "docs.js": "docs.js",
    "swagger-ui-bundle.js": "swagger-ui/swagger-ui-bundle.js",
    "swagger-ui.css": "swagger-ui/swagger-ui.css",
}
"""The files of the page, by the name under which they are served."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Alive(msgspec.Struct, frozen=True):
    """Says that the process answers."""

    status: str = "alive"


class Ready(msgspec.Struct, frozen=True, omit_defaults=True):
    """Says that requests are served; writes to the logs counted in `refused_logs` are refused."""

    status: str
    refused_logs: int = 0


class Index(msgspec.Struct, frozen=True):
    """Names the addresses of this server's documents."""

    service: str = "firmtrail"
    version: str = __version__
    documentation: str = DOCS
    console: str = CONSOLE
    openapi: str = "/openapi.json"
    ready: str = "/readyz"
    metrics: str = "/metrics"


async def get_index(call: AnyCall) -> web.Response:
    """Return where to find things on this server; a browser is sent to the console."""
    headers = {"Vary": "Accept", "Cache-Control": "no-cache"}
    if "text/html" in call.request.headers.get("Accept", ""):
        return web.Response(status=303, headers=headers | {"Location": f"{call.prefix}{CONSOLE}"})
    return respond.json(200, Index(), headers)


async def get_healthz(_call: AnyCall) -> web.Response:
    """Return 200 while the process answers at all."""
    return respond.json(200, Alive(), respond.NO_STORE)


async def get_readyz(call: AnyCall) -> web.Response:
    """Return whether requests would be served."""
    failures = await call.services.readiness.failures()
    refused_logs = call.services.readiness.refused_logs
    if failures:
        detail = f"Not ready: {', '.join(failures)}.{_until(call, failures)}"
        raise ServiceUnavailable(detail, NOT_READY_RETRY_AFTER_S)
    return respond.json(200, Ready("ready", refused_logs), respond.NO_STORE)


def _until(call: AnyCall, failures: Sequence[str]) -> str:
    """Returns until when a clock keeps the service from writing, and what ends that sooner."""
    until_ms = call.services.readiness.clock_until_ms
    if "clock" not in failures or until_ms is None:
        return ""
    return (
        f" A log's last event is ahead of the clock: its writes are refused until "
        f"{until_text(until_ms)}. Correct the clock, wait, or run `firmtrail log accept-clock`."
    )


async def get_metrics(call: AnyCall) -> web.Response:
    """Return metrics, with the numbers of outdated devices, in Prometheus's text format."""
    headers = {"Content-Type": CONTENT_TYPE, **respond.NO_STORE}
    call.services.gate.observe()
    work_state.observe(call.services)
    present, rollouts, outdated = await asyncio.gather(
        _present(call),
        call.services.rollouts.text(call.services.access.now_ms()),
        call.services.outdated.text(),
    )
    body = call.services.metrics.text(present) + rollouts + outdated
    return web.Response(body=body, headers=headers)


async def _present(call: AnyCall) -> ProcessState:
    services = call.services
    failures, checkpoints_up, artifacts_up = await asyncio.gather(
        services.readiness.failures(), services.stores.checkpoints(), services.stores.artifacts()
    )
    return ProcessState(
        ready=not failures,
        refused_logs=services.readiness.refused_logs,
        publishing=services.publisher is not None and services.publisher.following.problem is None,
        checkpoints_up=checkpoints_up,
        artifacts_up=artifacts_up,
    )


async def get_openapi(call: AnyCall) -> web.Response:
    """Return the API as an OpenAPI 3.1 document."""
    headers = {"Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"}
    document = await asyncio.to_thread(call.request.app[openapi.DOCUMENT])
    if base_url := call.services.clients.base_url(call.request):
        document = openapi.seen_from(document, base_url)
    return respond.encoded_resource(call, respond.JSON, document, headers)


async def get_docs(call: AnyCall) -> web.Response:
    """Return the API's document as a page, which loads files only from this server."""
    return _file(call, "docs.html")


async def get_docs_file(call: AnyCall) -> web.Response:
    """Return a file that the page of the documentation loads."""
    name = DOCS_FILES.get(call.path("file"))
    if name is None:
        raise NotFound("There is no such file.")
    return _file(call, name)


def _file(call: AnyCall, name: str) -> web.Response:
    media = mimetypes.types_map[name[name.rindex(".") :]]
    headers = {**SECURITY_HEADERS, "Cache-Control": "public, max-age=3600"}
    return respond.encoded_resource(call, media, _content(name), headers)


@functools.cache
def _content(name: str) -> bytes:
    return (resources.files("firmtrail.http") / "static" / name).read_bytes()


ROUTES = (
    read("/", get_index, PUBLIC, {200: Index, 303: None}, sends=("Location", "Vary")),
    read("/healthz", get_healthz, PUBLIC, {200: Alive}),
    read("/readyz", get_readyz, PUBLIC, {200: Ready}, refusals={503}),
    read("/metrics", get_metrics, PUBLIC, {200: TEXT}),
    resource("/openapi.json", get_openapi, PUBLIC, dict[str, Any]),
    resource(DOCS, get_docs, PUBLIC, "text/html"),
    resource(f"{DOCS}/{{file}}", get_docs_file, PUBLIC, "text/javascript", refusals={404}),
)
