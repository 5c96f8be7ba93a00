"""Serves the upper limit of throughput: aiohttp with handlers that do nothing.

It takes the same requests as the service, decodes a report's body to a struct, and answers.
`python -m benchmarks.bare PORT` serves until it is terminated.
"""

import sys

import msgspec
import uvloop
from aiohttp import web


class Report(msgspec.Struct):
    """Has the same fields as the service's struct."""

    version: str
    status: str = "installed"
    report_id: str | None = None
    occurred_at: str | None = None


_decode = msgspec.json.Decoder(Report).decode


async def post_report(request: web.Request) -> web.Response:
    """Decodes a report and drops it."""
    _decode(await request.read())
    return web.Response(status=202)


async def get_device(request: web.Request) -> web.Response:
    """Answers with a few bytes."""
    return web.Response(text=request.match_info["device"])


def main() -> None:
    """Serves on the port of the command line."""
    app = web.Application()
    device = "/api/v1/projects/{project}/devices/{device}"
    app.router.add_post(f"{device}/reports", post_report)
    app.router.add_get(device, get_device)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
