"""Decides which two reports are the same one. Pure.

A report's identity is its report_id; else its seq; else its version, status and time. The identity
becomes the id of the report's event, so the log's unique index enforces it: a report that is sent
again finds the event that was recorded first.
"""

from base64 import urlsafe_b64encode
from hashlib import sha256

import msgspec

from firmtrail.events.fleet import ReportEvent, Status
from firmtrail.events.times import time_ms

EARLIEST_BELIEVED_MS = 1_420_070_400_000
"""2015-01-01T00:00Z: a clock that shows an earlier time was never set."""


class ReportCommand(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Holds the report of a device, to be recorded."""

    device: str
    version: str
    status: Status
    actor: str
    report_id: str | None = None
    seq: int | None = None
    occurred_at_ms: int | None = None
    question: str | None = None
    rollout: str | None = None
    detail: str | None = None
    sent: str | None = None
    offer: int | None = None
    """The number of the offer that it is about, from which its version follows (`of_offer`)."""
    awaits_version: bool = False
    """Whether an install does not count yet if the project waits for the version that the device
    then runs."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Holds the members in which two reports with one report_id, or one seq, must agree."""

    version: str
    status: Status
    seq: int | None
    occurred_at_ms: int | None


class KnownReport(msgspec.Struct, frozen=True, gc=False):
    """Holds a report that was recorded under the same identity."""

    position: int
    recorded_at_ms: int
    claim: Claim


def claim(report: ReportCommand) -> Claim:
    return Claim(report.version, report.status, report.seq, report.occurred_at_ms)


def claim_of(event: ReportEvent) -> Claim:
    """Returns the claim of a report that was recorded."""
    occurred_at_ms = time_ms(event.occurred_at) if event.occurred_at else None
    return Claim(event.version, event.status, event.seq, occurred_at_ms)


def identity(report: ReportCommand, counting_place: int = 0) -> str | None:
    """Returns the event id under which the same report is found again; None for a bare report.

    `counting_place` is where the device's present counting begins: in another counting the same
    seq means another report. A report_id and a time identify a report in every counting. The time
    of a clock that was never set counts as absent.
    """
    if report.report_id is not None:
        return f"r.{report.report_id}"
    if report.seq is not None:
        counting = (counting_place,) if counting_place else ()
        return _content_id("seq", report.seq, *counting)
    if is_bare(report):
        return None
    assert report.occurred_at_ms is not None
    return _content_id(report.version, report.status, report.occurred_at_ms)


def is_counted(report: ReportCommand) -> bool:
    return report.report_id is None and report.seq is not None


def is_bare(report: ReportCommand) -> bool:
    """Returns whether nothing in the report distinguishes it from another of the same version and
    status."""
    return (
        report.report_id is None
        and report.seq is None
        and (report.occurred_at_ms is None or report.occurred_at_ms < EARLIEST_BELIEVED_MS)
    )


def _content_id(*content: str | int) -> str:
    digest = sha256(msgspec.json.encode(content)).digest()[:16]
    return f"c.{urlsafe_b64encode(digest).decode().rstrip('=')}"
