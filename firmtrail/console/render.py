"""Makes a page from its template, or one part of the page, and answers with it.

A template makes the full page. Each of its blocks is a part, which the query's `part` asks for on
its own, so the same lines show a part at first and update it later. Every text is escaped. The
headers of a page allow nothing inline, no other host and no frame.
"""

import functools
import zlib
from collections.abc import Mapping
from typing import Any

import jinja2
from aiohttp import web

from firmtrail.console import filters
from firmtrail.console.here import Here, Moment, here_of, part_of
from firmtrail.events.times import DAY_MS
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import NotFound
from firmtrail.http.respond import LOG_SIZE, NO_STORE, accepts_gzip, client_has, etag_of
from firmtrail.projections.device_current import SILENT_DAYS
from firmtrail.webhooks.kept_deliveries import KEPT_DELIVERIES, KEPT_MS
from firmtrail.webhooks.stored import DESCRIPTION_CHARACTERS_MAX
from firmtrail.webhooks.targets import URL_CHARACTERS_MAX

COMPRESSED_BYTES_MIN = 1_000
"""A shorter page is sent as it is."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""The headers of every page, also of one that shows a problem."""


def page(
    call: AnyCall,
    template: str,
    *,
    title: str,
    moment: Moment | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> web.Response:
    """Returns the page, or the part of it that the query asks for. A page of status 200 has an
    ETag, and is answered with 304 if the browser already has it."""
    here = here_of(call, moment)
    sent = {**HEADERS, **(headers or {})}
    if moment is not None:
        sent[LOG_SIZE] = str(moment.size if moment.stop is None else moment.stop)
    text = _text(template, part_of(call), here, title=title, **values)
    return _answer(call, text, status, sent)


def problem(
    call: AnyCall, status: int, *, headers: Mapping[str, str], title: str, **values: Any
) -> web.Response:
    """Returns the page of a problem, which no cache keeps."""
    text = _text("problem.html", None, here_of(call, None), title=title, **values)
    return _answer(call, text, status, {**HEADERS, **headers})


def secret(call: AnyCall, template: str, *, title: str, **values: Any) -> web.Response:
    """Returns a page that shows a secret once: no cache keeps it, and it is not compressed, because
    the length of compressed text can reveal it."""
    text = _text(template, None, here_of(call, None), title=title, **values)
    headers = {**HEADERS, **NO_STORE}
    return web.Response(text=text, content_type="text/html", headers=headers)


def redirect(call: AnyCall, *path: str, **query: str | int | None) -> web.Response:
    """Sends the browser to a page of the project after an action."""
    return to(here_of(call, None).url(*path, **query))


def to(location: str) -> web.Response:
    """Sends the browser to this address of the console."""
    return web.Response(status=303, headers={**HEADERS, **NO_STORE, "Location": location})


def _text(template: str, part: str | None, here: Here, **values: Any) -> str:
    found = _environment().get_template(template)
    shown = {"here": here, **values}
    if part is None:
        return found.render(shown)
    block = found.blocks.get(part)
    if block is None:
        raise NotFound("This page has no such part.")
    return "".join(block(found.new_context(shown)))


def _answer(call: AnyCall, text: str, status: int, headers: dict[str, str]) -> web.Response:
    body = text.encode()
    headers["Vary"] = "Accept-Encoding, Authorization, Cookie"
    etag = etag_of(body)
    if len(body) >= COMPRESSED_BYTES_MIN and accepts_gzip(call.request):
        body = zlib.compress(body, wbits=zlib.MAX_WBITS | 16)
        headers["Content-Encoding"] = "gzip"
        etag = f"{etag}-gzip"
    if status != 200:
        headers |= NO_STORE
        return web.Response(
            status=status, body=body, content_type="text/html", charset="utf-8", headers=headers
        )
    headers = {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache", **headers}
    if client_has(call.request, etag):
        headers.pop("Content-Encoding", None)
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)


LIMITS = {
    "url": URL_CHARACTERS_MAX,
    "description": DESCRIPTION_CHARACTERS_MAX,
    "deliveries": KEPT_DELIVERIES,
    "delivery_days": KEPT_MS // DAY_MS,
    "silent_days": SILENT_DAYS,
}
"""The limits that templates name."""


@functools.cache
def _environment() -> jinja2.Environment:
    """Returns the environment of all templates. It is made for the first page, because it compiles
    some of them, and commands of the command line need no page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("firmtrail.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters.FILTERS
    environment.globals["limits"] = LIMITS
    environment.globals["ui"] = environment.get_template("macros.html").module
    environment.globals["pieces"] = environment.get_template("pieces.html").module
    return environment
