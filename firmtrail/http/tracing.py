"""Sends a span of each request to a collector, by OpenTelemetry's protocol over HTTP (OTLP).

A thread of the library sends spans in batches. Spans that the collector does not take are lost; a
request never waits for them. The span continues the trace that the request names, and follows its
decision to sample. The usual OTEL_… variables apply too. Only servers with --traces import this
module, because its packages are an extra.
"""

import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from firmtrail import __version__
from firmtrail.http.trace_context import ServedRequest

SEND_S = 5
"""Limits one attempt to send spans, and so the end of a server whose collector is away."""


class SentTraces:
    """Sends spans until `close`; `url` is the collector's address without a path."""

    def __init__(self, url: str, instance: str) -> None:
        described = {
            "service.name": "firmtrail",
            "service.namespace": instance,
            "service.version": __version__,
        }
        self._provider = TracerProvider(resource=Resource.create(described), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(f"{url.rstrip('/')}/v1/traces", timeout=SEND_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("firmtrail", __version__)
        self._context = TraceContextTextMapPropagator()

    def record(self, served: ServedRequest) -> str:
        """Takes a span of a request that was just answered, and returns the id of its trace."""
        request, end_ns = served.request, time.time_ns()
        span = self._tracer.start_span(
            f"{request.method} {served.route}",
            context=self._context.extract({k.lower(): v for k, v in request.headers.items()}),
            kind=SpanKind.SERVER,
            start_time=end_ns - int(served.seconds * 1e9),
            attributes={
                "http.request.method": request.method,
                "http.route": served.route,
                "http.response.status_code": served.status,
                "firmtrail.request_id": served.request_id,
            },
        )
        if served.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_ns)
        return format_trace_id(span.get_span_context().trace_id)

    def close(self) -> None:
        """Sends the spans that wait, and ends the thread. It may block for some seconds."""
        self._provider.shutdown()
