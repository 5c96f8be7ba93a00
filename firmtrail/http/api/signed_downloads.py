"""Serves artifacts at URLs that need no credential, for clients that send none.

Many clients count any error status of a download as a failed update. So once a URL is known to be
ours, a fault of the service is waited out for a while, and then breaks the connection: a client
continues a broken download where it ended.
"""

from aiohttp import web

from firmtrail.http import download_urls, downloads, errors, live_views
from firmtrail.http.api.artifacts import BYTES_ANSWERS, BYTES_HEADERS
from firmtrail.http.api.rows import read
from firmtrail.http.call import AnyCall
from firmtrail.http.callers import PUBLIC, Caller
from firmtrail.http.clients import IS_AUTHENTICATED
from firmtrail.http.download_urls import Grant, SignatureQuery


async def get_download(call: AnyCall) -> web.StreamResponse:
    """Return the bytes of an artifact that a check-in named, without a credential."""
    grant = await download_urls.granted(call)
    call.request[errors.GRANTED] = call.request[IS_AUTHENTICATED] = True
    return await downloads.patiently(call, lambda: _send(call, grant))


async def _send(call: AnyCall, grant: Grant) -> web.StreamResponse:
    log_id = await call.services.access.project(grant.project)
    call.caller = Caller(kind="nobody", project=grant.project, log_id=log_id)
    await live_views.take_over(call.services, call.log_id)
    found = await downloads.offered(call, grant.device, grant.sha256)
    return await downloads.send(call, found, grant.name)


ROUTES = (
    read(
        download_urls.PATH,
        get_download,
        PUBLIC,
        BYTES_ANSWERS,
        query=SignatureQuery,
        refusals={403, 404, 409, 410, 412, 416},
        sends=BYTES_HEADERS,
        is_raw=True,
    ),
)
