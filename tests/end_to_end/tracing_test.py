"""Tests the traces that a server sends to a collector, and the trace ids in its log."""

import gzip
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.databases import sqlite_template
from tests.end_to_end.command import firmtrail
from tests.end_to_end.conftest import Serve
from tests.end_to_end.site import new_site, post

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(BaseHTTPRequestHandler):
    """Takes spans as OTLP over HTTP."""

    spans: list[Any]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        sent = ExportTraceServiceRequest.FromString(body)
        assert self.path == "/v1/traces"
        for of_resource in sent.resource_spans:
            for of_scope in of_resource.scope_spans:
                self.spans.extend(of_scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """The address of a collector, and the spans that it got."""
    spans: list[Any] = []
    kind = type("Own", (Collector,), {"spans": spans})
    with HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_requests_are_sent_as_spans_of_the_traces_that_they_name(
    serve: Serve, sqlite_url: str, collector: tuple[str, list[Any]]
) -> None:
    url, spans = collector
    site = await new_site(sqlite_url, ["d1"])
    server = serve(sqlite_url, "--traces", url, "--log-level", "debug")
    async with ClientSession() as session:
        for sampled in ("01", "00"):
            named = {"traceparent": f"00-{TRACE}-{PARENT}-{sampled}"}
            async with session.get(f"{server.url}/healthz", headers=named) as answer:
                assert answer.status == 200
        device = f"{server.url}/api/v1/projects/acme/devices/d1"
        await post(session, f"{device}/reports", site.secrets["d1"], {"version": "1.0.0"})
        bad = {"traceparent": f"00-{'0' * 32}-{PARENT}-01"}
        async with session.get(f"{server.url}/nothing", headers=bad) as answer:
            request_id = answer.headers["X-Request-Id"]
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    found = {span.name: span for span in spans}
    assert len(spans) == 3, "what its client does not sample is not sent"
    assert found["GET /healthz"].trace_id.hex() == TRACE
    assert found["GET /healthz"].parent_span_id.hex() == PARENT
    report = found["POST /api/v1/projects/{project}/devices/{device}/reports"]
    assert attributes(report)["http.response.status_code"] == 201
    assert 0 < report.end_time_unix_nano - report.start_time_unix_nano < 60_000_000_000
    nothing = found["GET (none)"]
    assert attributes(nothing)["firmtrail.request_id"] == request_id
    lines = {line["path"]: line for line in server.said("request")}
    assert lines["/healthz"]["trace_id"] == TRACE
    assert lines["/nothing"]["trace_id"] == nothing.trace_id.hex()
    assert lines["/api/v1/projects/acme/devices/d1/reports"]["level"] == "debug"


def test_a_collector_that_is_away_delays_nothing_for_long(serve: Serve, sqlite_url: str) -> None:
    server = serve(sqlite_url, "--traces", "http://127.0.0.1:9")
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0


def test_a_bad_collector_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.db").write_bytes(sqlite_template())
    database = f"sqlite:///{tmp_path / 'f.db'}"
    done = firmtrail(database, "serve", "--port", "0", "--traces", "localhost:4318")
    assert done.exit_code == 2
    assert "--traces" in done.said
