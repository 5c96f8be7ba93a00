"""Describes groups of routes, parameters and headers in words, for the OpenAPI document.

A parameter that means the same on every route is described under its name; one that differs in a
query, under the query's name and its own.
"""

from firmtrail.commands.once import KEPT_MS
from firmtrail.config import NATIVE
from firmtrail.events.times import DAY_MS
from firmtrail.http.route import Route

GROUPS = {
    "Devices report and check in": "Reports and check-ins, sent by devices or by their gateways.",
    "Devices and versions": "Register devices, and read what they run, ran and should run.",
    "Protocols made by others": "For devices, and for tools that publish, which speak hawkBit's, "
    "Memfault's, Mender's or SWUpdate's protocol.",
    "Releases": "The versions that devices can be sent to, and their files.",
    "Rollouts": "Send devices to a release or back, stop it, and see how far it is.",
    "People, tokens and projects": "Logins, members, roles and API tokens.",
    "Log and audit": "The log itself, and the proofs that nobody has changed it.",
    "Operations": "Health, metrics and this document.",
    "Three plain routes": "Reports and histories as plain text, for the simplest of clients.",
}
"""The groups in the order in which the page shows them."""

_GROUP_OF_PATH = (
    ("/releases", "Releases"),
    ("/rollouts", "Rollouts"),
    ("/rollbacks", "Rollouts"),
    ("/halt", "Rollouts"),
    ("/resume", "Rollouts"),
    ("/devices", "Devices and versions"),
    ("/versions", "Devices and versions"),
    ("/metrics", "Devices and versions"),
    ("/events", "Log and audit"),
    ("/log", "Log and audit"),
    ("/stream", "Log and audit"),
    ("/access-record", "Log and audit"),
)
"""The group of a user's route, by the part of its path that follows the project's."""

PARAMETERS = {
    "actor": "Only what this actor read: user/ID or token/ID, as the log names actors.",
    "artifact_name": "The name of the artifact that the device runs.",
    "as_of": "Answer as known then: an RFC 3339 time, or @N for the first N events of the log.",
    "attribute": "key:value, can be repeated: only devices that say all of this of themselves.",
    "at": "Answer for this RFC 3339 time, by the devices' own order of their reports.",
    "cohort": "Only devices of this cohort.",
    "count": "true adds `total`, the number of items on all pages. If no view counts the items "
    "of a list, a limited number is looked at; `total_is_at_least` is true if there may be more.",
    "current_version": "The version that the device runs.",
    "cursor": "`next` of the previous page; without it, the first page.",
    "failing": "true: only devices whose last report says that an update failed; false: only "
    "others.",
    "device_type": "The device's type, which an artifact must list.",
    "device_serial": "The device's name.",
    "e": "When the URL expires.",
    "faulty": "skip: record the well-formed items of an array, and refuse each other item in its "
    "place. Without it, one malformed item refuses the whole array.",
    "from": "The first position, counted from 0.",
    "hardware_version": "The device's model.",
    "limit": "How many items a page has at most, 1 to 500.",
    "model": "Only those of this model.",
    "outdated": "true: only devices that run a lower version than their model's latest release; "
    "false: only others.",
    "page": "The number of the page, from 1.",
    "per_page": "How many items a page has at most.",
    "pending": "true: only devices that wait to be accepted, or have a key that does; false: only "
    "others.",
    "positions": "true: each line begins with its position and a tab.",
    "newest_first": "true: the answer begins with the last entry.",
    "progress": "true adds the reports of updates under way, which changed no version.",
    "protocol": "Decide as for a client of this protocol, which may take a single file.",
    "q": "Only devices whose id begins with this text.",
    "reissue": "never_seen: devices that exist and have never authenticated get a new secret.",
    "s": "The signature of the URL.",
    "release": "Only deployments of this version.",
    "c": "It is part of the link, and is ignored.",
    "actionHistory": "How many lines of what the device said of the action are repeated; a "
    "negative number: all.",
    "running": "The version that the device runs, if it differs from what it reported.",
    "silent_for": "In seconds: only devices whose last authenticated call is older; those that "
    "never called, if their registration is.",
    "since": "Only what was recorded at this RFC 3339 time or later.",
    "size": "The number of events of the tree in which the event is proven; without it, that of "
    "the latest checkpoint.",
    "software_type": "The kind of software that the device asks for.",
    "state": "Only devices in this state.",
    "step": "In seconds: the distance between two steps.",
    "stream": "Only events about this subject, such as device/pump-1.",
    "tag": "Only devices with this tag.",
    "to": "The position before which the answer ends; without it, the log's size.",
    "type": "Only events of these types, separated by commas.",
    "until": "Only what was recorded before this RFC 3339 time.",
    "version": "Only devices that run this version.",
    "wait": "In seconds: how long the request may wait for an answer or for a change.",
    "ConsistencyQuery.from": "The smaller number of events.",
    "ConsistencyQuery.to": "The larger number of events.",
    "EventsQuery.limit": "How many entries the answer has at most.",
    "DeploymentQuery.cohort": "Only deployments to this cohort; default stands for all devices.",
    "PollQuery.version": "The version that the device runs.",
    "StreamQuery.from": "The first position; without it, the stream begins with the next event.",
    "TimelineQuery.from": "The RFC 3339 time of the first step.",
    "TimelineQuery.to": "The RFC 3339 time of the last step; without it, the present.",
}

HEADERS = {
    "Content-Digest": "A hash of the bytes sent, which is checked (RFC 9530).",
    "Idempotency-Key": "1 to 64 visible characters: the same request sent again with the same key "
    f"gets the first answer, for {KEPT_MS // DAY_MS} days.",
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
    """Returns the group under which people find the route."""
    if route.protocol != NATIVE:
        return "Protocols made by others"
    if route.is_of_devices:
        return "Devices report and check in"
    if route.path.startswith("/dl/"):
        return "Devices report and check in"
    if not route.path.startswith("/api/"):
        return "Three plain routes" if route.is_raw else "Operations"
    below = route.path.removeprefix("/api/v1/projects/{project}")
    for start, group in _GROUP_OF_PATH:
        if below.startswith(start):
            return group
    return "People, tokens and projects"


def parameter(query: str, name: str) -> dict[str, str]:
    """Returns the description of a parameter of this query, as members of the parameter."""
    text = PARAMETERS.get(f"{query}.{name}") or PARAMETERS.get(name)
    return {"description": text} if text else {}


def header(name: str) -> dict[str, str]:
    """Returns the description of a request's header, as members of the parameter."""
    return {"description": HEADERS[name]} if name in HEADERS else {}
