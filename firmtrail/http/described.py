"""Describes groups of routes, parameters and headers in words, for the OpenAPI document.

A parameter that means the same everywhere is described by its name alone; one that means something
else in a route's query, by the query's name and its own.
"""

from firmtrail.http.route import Route

GROUPS = {
    "Devices report and check in": "What a device calls with its own secret, or a gateway for it.",
    "Devices and versions": "Register devices, and read what they run, ran and should run.",
    "Releases": "The versions that devices can be sent to, and their files.",
    "Rollouts": "Send devices to a release or back, stop it, and see how far it is.",
    "People, tokens and projects": "Who may do what.",
    "Log and audit": "The log itself, and what proves that nobody has changed it.",
    "Operations": "Whether the server works, what it counts, and this document.",
    "Three plain routes": "Reports and histories as plain text, for the simplest of clients.",
}
"""The groups in the order in which the page shows them."""

_GROUP_OF_TABLE = {
    "devices call": "Devices report and check in",
    "auditors call": "Log and audit",
    "operations": "Operations",
    "the seed's three": "Three plain routes",
}
_GROUP_OF_PATH = (
    ("/releases", "Releases"),
    ("/rollouts", "Rollouts"),
    ("/rollbacks", "Rollouts"),
    ("/halt", "Rollouts"),
    ("/resume", "Rollouts"),
    ("/devices", "Devices and versions"),
    ("/versions", "Devices and versions"),
    ("/metrics", "Devices and versions"),
)
"""A user's routes, by what follows the project in the path."""

PARAMETERS = {
    "actor": "Only what this actor read: user/ID or token/ID, as the log names actors.",
    "as_of": "What was known then: an RFC 3339 time, or @N for the first N events of the log.",
    "at": "What ran at this RFC 3339 time, by the devices' own order of their reports.",
    "cohort": "Only devices of this cohort.",
    "count": "true adds `total`, the number of items on all pages.",
    "cursor": "`next` of the page before; without it, the first page.",
    "failing": "true: only devices whose last report is failed or rejected; false: only others.",
    "faulty": "skip: record the items of an array that are well-formed, and refuse the others in "
    "their place. Without it, one faulty item refuses the whole array.",
    "from": "The first position, counted from 0.",
    "limit": "How many items a page has at most, 1 to 500.",
    "model": "Only those of this model.",
    "outdated": "true: only devices that run a lower version than their model's latest release; "
    "false: only others.",
    "positions": "true: each line begins with its position and a tab.",
    "progress": "true adds the reports that are on the way to a version.",
    "q": "Only devices whose id begins with this text.",
    "reissue": "never_seen: devices that exist and have never authenticated get a new secret.",
    "running": "The version that the device runs, if it differs from what it reported.",
    "silent_for": "In seconds: only devices whose last authenticated call is older, or that have "
    "never called.",
    "since": "Only what was recorded at this RFC 3339 time or later.",
    "size": "The number of events of the tree in which the event is proven; without it, that of "
    "the latest checkpoint.",
    "state": "Only devices in this state.",
    "step": "In seconds: how far apart the steps are.",
    "stream": "Only events about this subject, such as device/pump-1.",
    "tag": "Only devices with this tag.",
    "to": "The position before which the answer ends; without it, the log's size.",
    "type": "Only events of these types, separated by commas.",
    "until": "Only what was recorded before this RFC 3339 time.",
    "version": "Only devices that run this version.",
    "wait": "In seconds: how long the answer may take to come or to change.",
    "ConsistencyQuery.from": "The smaller number of events.",
    "ConsistencyQuery.to": "The larger number of events.",
    "EventsQuery.limit": "How many entries the answer has at most.",
    "StreamQuery.from": "The first position; without it, the stream begins with the next event.",
    "TimelineQuery.from": "The RFC 3339 time of the first step.",
    "TimelineQuery.to": "The RFC 3339 time of the last step; without it, the present.",
}

HEADERS = {
    "Content-Digest": "A hash of the bytes sent, which is checked (RFC 9530).",
    "Idempotency-Key": "1 to 64 visible characters: the same request sent again with the same key "
    "gets the first answer, for 7 days.",
    "If-Match": "An ETag: change the resource only while it is in this state.",
    "If-None-Match": "An ETag: answer 304 without a body while the resource is in this state.",
    "If-Range": "An ETag: answer with the range only while the bytes are the same.",
    "Last-Event-ID": "The position of the last event received: the stream continues after it.",
    "Prefer": "return=minimal: answer an array of reports with counts instead of receipts. "
    "receipt=proof: answer after the next checkpoint, with a proof in each receipt.",
    "Range": "Which bytes to send (RFC 9110), such as bytes=0-1023.",
    "Repr-Digest": "The SHA-256 of all the bytes, which is checked (RFC 9530).",
}


def group_of(route: Route) -> str:
    """Return the group under which people find the route."""
    if known := _GROUP_OF_TABLE.get(route.group):
        return known
    below = route.path.removeprefix("/api/v1/projects/{project}")
    for start, group in _GROUP_OF_PATH:
        if below.startswith(start):
            return group
    return "People, tokens and projects"


def parameter(query: str, name: str) -> dict[str, str]:
    """Return the description of a parameter of this query, as members of the parameter."""
    text = PARAMETERS.get(f"{query}.{name}") or PARAMETERS.get(name)
    return {"description": text} if text else {}


def header(name: str) -> dict[str, str]:
    """Return the description of a request's header, as members of the parameter."""
    return {"description": HEADERS[name]} if name in HEADERS else {}
