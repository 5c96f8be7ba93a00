"""What those who run the service call: is it alive, is it ready, what does it count; the documents.

None needs a credential and none names a project or anything of it. /healthz touches nothing, so a
slow database does not make an orchestrator kill the servers that wait for it.
"""

import asyncio
import functools
import mimetypes
from collections.abc import Sequence
from importlib import resources

import msgspec
from aiohttp import web

from firmtrail import __version__
from firmtrail.http import openapi, respond
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import NotFound, ServiceUnavailable
from firmtrail.http.metrics import CONTENT_TYPE, ProcessState
from firmtrail.recording.commit import until_text

NOT_READY_RETRY_AFTER_S = 5
DOCS = "/docs"

DOCS_FILES = {
    "docs.js": "docs.js",
    "swagger-ui-bundle.js": "swagger-ui/swagger-ui-bundle.js",
    "swagger-ui.css": "swagger-ui/swagger-ui.css",
}
"""The page's own files, by the name that they are served under."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str = "alive"


class Ready(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that a request needs is there, but for writes to logs that are refused."""

    status: str
    refused_logs: int = 0


class Index(msgspec.Struct, frozen=True):
    """Where to find things on this server."""

    service: str = "firmtrail"
    version: str = __version__
    documentation: str = DOCS
    openapi: str = "/openapi.json"
    ready: str = "/readyz"
    metrics: str = "/metrics"


async def get_index(call: AnyCall) -> web.Response:
    """Answer a browser with a redirect to the documentation, and other clients with an index."""
    headers = {"Vary": "Accept", "Cache-Control": "no-cache"}
    if "text/html" in call.request.headers.get("Accept", ""):
        return web.Response(status=303, headers=headers | {"Location": DOCS})
    return respond.json(200, Index(), headers)


async def get_healthz(_call: AnyCall) -> web.Response:
    """Whether the process answers at all."""
    return respond.json(200, Alive(), respond.NO_STORE)


async def get_readyz(call: AnyCall) -> web.Response:
    """Whether requests would be served."""
    failures = await call.services.readiness.failures()
    refused_logs = call.services.readiness.refused_logs
    if failures:
        detail = f"Not ready: {', '.join(failures)}.{_until(call, failures)}"
        raise ServiceUnavailable(detail, NOT_READY_RETRY_AFTER_S)
    return respond.json(200, Ready("ready", refused_logs), respond.NO_STORE)


def _until(call: AnyCall, failures: Sequence[str]) -> str:
    """Until when a clock keeps the service from writing, and what ends that sooner."""
    until_ms = call.services.readiness.clock_until_ms
    if "clock" not in failures or until_ms is None:
        return ""
    return (
        f" A log's last event is ahead of the clock: its writes are refused until "
        f"{until_text(until_ms)}. Set the clock right, wait, or run `firmtrail log accept-clock`."
    )


async def get_metrics(call: AnyCall) -> web.Response:
    """What the process counts, and how many devices are outdated, for Prometheus."""
    headers = {"Content-Type": CONTENT_TYPE, **respond.NO_STORE}
    call.services.gate.observe()
    present, outdated = await asyncio.gather(_present(call), call.services.outdated.text())
    body = call.services.metrics.text(present) + outdated
    return web.Response(body=body, headers=headers)


async def _present(call: AnyCall) -> ProcessState:
    services = call.services
    failures, checkpoints_up, artifacts_up = await asyncio.gather(
        services.readiness.failures(), services.stores.checkpoints(), services.stores.artifacts()
    )
    return ProcessState(
        ready=not failures,
        refused_logs=services.readiness.refused_logs,
        publishing=services.publisher is not None and services.publisher.problem is None,
        checkpoints_up=checkpoints_up,
        artifacts_up=artifacts_up,
    )


async def get_openapi(call: AnyCall) -> web.Response:
    """The interface as an OpenAPI 3.1 document."""
    headers = {"Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"}
    document = call.request.app[openapi.DOCUMENT]
    if base_url := call.services.clients.base_url(call.request):
        document = openapi.seen_from(document, base_url)
    return respond.encoded_resource(call, respond.JSON, document, headers)


async def get_docs(call: AnyCall) -> web.Response:
    """The interface as a page; everything it loads comes from here."""
    return _file(call, "docs.html")


async def get_docs_file(call: AnyCall) -> web.Response:
    """What the page loads."""
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
