"""Every route there is: what it is called, who may call it, what it takes and what it answers.

Routing, authentication, validation, the OpenAPI document and the tests that visit every route all
read this table. What devices call comes first: the router tries the paths of a project in order.
"""

from http import HTTPMethod
from typing import Any

from firmtrail.http import (
    access_api,
    answers,
    audit_api,
    bodies,
    device_api,
    operations,
    seed_api,
    stream_api,
)
from firmtrail.http.callers import PUBLIC, REPORTING_DEVICE, GatewayAccess, MemberAccess, Permission
from firmtrail.http.checkpoint_routes import CHECKPOINTS
from firmtrail.http.lists import Listing, ListQuery
from firmtrail.http.release_routes import RELEASES
from firmtrail.http.respond import NDJSON
from firmtrail.http.route import AnyOf, ListOf, Route
from firmtrail.http.steering_routes import CHECK_INS, STEERING
from firmtrail.http.tlog_routes import TLOG
from firmtrail.http.token_routes import TOKENS
from firmtrail.http.user_routes import ACCESS, FLEET, LISTED, LOCALS, RULES, D, P

TEXT = "text/plain"
L = f"{P}/logs/{{number}}"

REPORT = GatewayAccess(Permission.REPORT)
AUDIT = MemberAccess(Permission.AUDIT)
ADMINISTER = MemberAccess(Permission.ADMINISTER)

GET, POST, DELETE = HTTPMethod.GET, HTTPMethod.POST, HTTPMethod.DELETE


REPORTS_ANSWER = AnyOf(
    (
        answers.Receipt,
        ListOf(AnyOf((answers.Receipt, answers.RefusedItem))),
        answers.ReportsSummary,
    )
)

REPORTS = (
    Route(
        method=POST,
        path=f"{D}/reports",
        handler=device_api.post_reports,
        access=REPORTING_DEVICE,
        group="devices call",
        summary="Report what the device runs, or how far an update came.",
        query=bodies.ReportsQuery,
        body=bodies.Report | list[bodies.Report],
        skips_faulty=True,
        answers={201: REPORTS_ANSWER, 200: REPORTS_ANSWER},
        refusals=RULES,
    ),
    Route(
        method=POST,
        path=f"{P}/reports",
        handler=device_api.post_gateway_reports,
        access=REPORT,
        group="devices call",
        summary="Report for any devices, as their gateway.",
        query=bodies.ReportsQuery,
        body=bodies.DeviceReport | list[bodies.DeviceReport],
        skips_faulty=True,
        answers={201: REPORTS_ANSWER, 200: REPORTS_ANSWER},
        refusals=RULES,
    ),
)

AUDITS = (
    Route(
        method=GET,
        path=f"{P}/events",
        handler=audit_api.get_events,
        access=AUDIT,
        group="auditors call",
        summary="The log's entries as they are stored, one per line.",
        query=bodies.EventsQuery,
        answers={200: NDJSON},
        is_view=True,
        sends=("Vary",),
    ),
    Route(
        method=GET,
        path=f"{P}/events/{{position}}",
        handler=audit_api.get_event,
        access=AUDIT,
        group="auditors call",
        summary="One entry as it is stored.",
        answers={200: audit_api.CLOUDEVENT, 304: None},
        is_view=True,
    ),
    Route(
        method=GET,
        path=f"{P}/events/{{position}}/text",
        handler=audit_api.get_text,
        access=AUDIT,
        group="auditors call",
        summary="The free text of an event.",
        answers={200: answers.Text, 304: None},
        is_view=True,
    ),
    Route(
        method=DELETE,
        path=f"{P}/events/{{position}}/text",
        handler=access_api.delete_text,
        access=ADMINISTER,
        group="auditors call",
        summary="Erase the free text of an event.",
        answers={204: None},
        refusals=RULES,
    ),
    Route(
        method=GET,
        path=f"{P}/logs",
        handler=audit_api.get_logs,
        access=AUDIT,
        group="auditors call",
        summary="The project's logs; the last one takes the new events.",
        query=ListQuery,
        answers={200: Listing[answers.Log], 304: None},
        other_media=LISTED,
    ),
    Route(
        method=GET,
        path=f"{L}/events",
        handler=audit_api.get_events,
        access=AUDIT,
        group="auditors call",
        summary="A log's entries as they are stored, one per line.",
        query=bodies.EventsQuery,
        answers={200: NDJSON},
        is_view=True,
        sends=("Vary",),
    ),
    Route(
        method=GET,
        path=f"{L}/events/{{position}}",
        handler=audit_api.get_event,
        access=AUDIT,
        group="auditors call",
        summary="One entry of a log as it is stored.",
        answers={200: audit_api.CLOUDEVENT, 304: None},
        is_view=True,
    ),
    Route(
        method=GET,
        path=f"{L}/events/{{position}}/text",
        handler=audit_api.get_text,
        access=AUDIT,
        group="auditors call",
        summary="The free text of an event of a log.",
        answers={200: answers.Text, 304: None},
        is_view=True,
    ),
    Route(
        method=DELETE,
        path=f"{L}/events/{{position}}/text",
        handler=access_api.delete_text,
        access=ADMINISTER,
        group="auditors call",
        summary="Erase the free text of an event of a log.",
        answers={204: None},
        refusals=RULES,
    ),
    Route(
        method=GET,
        path=f"{P}/stream",
        handler=stream_api.get_stream,
        access=AUDIT,
        group="auditors call",
        summary="The log's entries as they are recorded, as server-sent events.",
        query=bodies.StreamQuery,
        answers={200: stream_api.EVENT_STREAM},
        refusals=frozenset({400, 409}),
        is_view=True,
        is_endless=True,
    ),
    Route(
        method=GET,
        path=f"{P}/access-record",
        handler=audit_api.get_access_record,
        access=AUDIT,
        group="auditors call",
        summary="The record of reads of the log and exports of lists, the newest first.",
        query=bodies.AccessRecordQuery,
        answers={200: Listing[answers.ReadRecord], 304: None},
        other_media=LISTED,
    ),
)

OPERATIONS = (
    Route(
        method=GET,
        path="/",
        handler=operations.get_index,
        access=PUBLIC,
        group="operations",
        summary="Where to find things on this server; a browser is sent to /docs.",
        answers={200: operations.Index, 303: None},
        sends=("Location", "Vary"),
    ),
    Route(
        method=GET,
        path="/healthz",
        handler=operations.get_healthz,
        access=PUBLIC,
        group="operations",
        summary="Is the process alive?",
        answers={200: operations.Alive},
    ),
    Route(
        method=GET,
        path="/readyz",
        handler=operations.get_readyz,
        access=PUBLIC,
        group="operations",
        summary="Would requests be served?",
        answers={200: operations.Ready},
        refusals=frozenset({503}),
    ),
    Route(
        method=GET,
        path="/metrics",
        handler=operations.get_metrics,
        access=PUBLIC,
        group="operations",
        summary="Metrics in Prometheus's text format.",
        answers={200: "text/plain"},
    ),
    Route(
        method=GET,
        path="/openapi.json",
        handler=operations.get_openapi,
        access=PUBLIC,
        group="operations",
        summary="This document.",
        answers={200: dict[str, Any], 304: None},
    ),
    Route(
        method=GET,
        path="/docs",
        handler=operations.get_docs,
        access=PUBLIC,
        group="operations",
        summary="This document as a page.",
        answers={200: "text/html", 304: None},
    ),
    Route(
        method=GET,
        path="/docs/{file}",
        handler=operations.get_docs_file,
        access=PUBLIC,
        group="operations",
        summary="What the page loads.",
        answers={200: "text/javascript", 304: None},
        refusals=frozenset({404}),
    ),
)

SEED = (
    Route(
        method=POST,
        path="/upload_firmware_update",
        handler=seed_api.upload_firmware_update,
        access=PUBLIC,
        group="the seed's three",
        summary="A device's update, as the seed takes it.",
        answers={200: TEXT, 400: TEXT, 401: TEXT},
        is_raw=True,
    ),
    Route(
        method=GET,
        path="/get_firmware_updates_by_device_id",
        handler=seed_api.get_firmware_updates_by_device_id,
        access=PUBLIC,
        group="the seed's three",
        summary="A device's updates, as the seed lists them.",
        answers={200: list[seed_api.SeedUpdate], 401: TEXT},
        is_raw=True,
    ),
)

DEMO = tuple(
    Route(
        method=method,
        path="/populate_database",
        handler=handler,
        access=PUBLIC,
        group="the seed's three",
        summary="Start the demo from scratch, on a new log.",
        answers={200: TEXT},
        is_raw=True,
        refusals=frozenset({403, 409}),
    )
    for method, handler in (
        (GET, seed_api.populate_database),
        (POST, seed_api.post_populate_database),
    )
)

ROUTES = (
    *REPORTS,
    *CHECK_INS,
    *FLEET,
    *STEERING,
    *RELEASES,
    *AUDITS,
    *TLOG,
    *CHECKPOINTS,
    *ACCESS,
    *TOKENS,
    *OPERATIONS,
)


def served(*, has_seed: bool, is_demo: bool) -> tuple[Route, ...]:
    """The routes of a server: the seed's only where they are turned on."""
    return (*ROUTES, *LOCALS, *(SEED if has_seed else ()), *(DEMO if is_demo else ()))
