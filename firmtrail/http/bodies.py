"""What comes in: bodies and queries, as the structs that check them and document them.

A body of a person's refuses members that it does not know: a typing error must not pass for a
wish. A device's report ignores them, since its firmware may be newer than the server.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from firmtrail.events.fleet import Status
from firmtrail.http.faults import BrokenRule, BrokenRules, raise_if_broken
from firmtrail.http.lists import ListQuery
from firmtrail.http.scalars import (
    TEXT_BYTES_MAX,
    ActorName,
    AsOf,
    DeviceName,
    DevicePrefix,
    FreeText,
    Name,
    Position,
    Seconds,
    Secret,
    Seq,
    StreamName,
    Time,
    TypeNames,
    VersionText,
    VisibleText,
)
from firmtrail.http.times import OUTSIDE_CALENDAR, is_in_calendar

DEVICES_MAX = 10_000


def outside_calendar(name: str, moment: datetime | None) -> BrokenRule | None:
    """Of a time: its offset can carry it out of the calendar, where it can't be written down."""
    if moment is None or is_in_calendar(moment):
        return None
    return name, OUTSIDE_CALENDAR


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says that it runs, or how far an update came."""

    version: VersionText
    status: Status = "installed"
    report_id: VisibleText | None = None
    seq: Seq | None = None
    occurred_at: Annotated[datetime, Meta(tz=True)] | None = None
    question: VisibleText | None = None
    rollout: VisibleText | None = None
    detail: str | None = None

    def __post_init__(self) -> None:
        if (fault := outside_calendar("occurred_at", self.occurred_at)) is not None:
            raise BrokenRules([fault])


class DeviceReport(Report, frozen=True, kw_only=True):
    """A report that a gateway passes on."""

    device: DeviceName


class ProofQuery(msgspec.Struct, frozen=True):
    """The size of the tree to prove it in; the latest checkpoint's where there is none."""

    size: Position | None = None


class ReportsQuery(msgspec.Struct, frozen=True):
    """skip: items of an array that are faulty in form are refused in their place."""

    faulty: Literal["skip"] | None = None


class Registration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device to be; without `secret` one is made."""

    device: DeviceName
    model: Name | None = None
    cohort: Name | None = None
    tags: Annotated[list[Name], Meta(max_length=32)] = msgspec.field(default_factory=list)
    secret: Secret | None = None


class RegistrationsQuery(msgspec.Struct, frozen=True):
    """never_seen: existing devices that never authenticated get a new secret."""

    reissue: Literal["never_seen"] | None = None


class DeviceChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; null is "no longer any"."""

    model: Name | UnsetType | None = UNSET
    cohort: Name | UnsetType | None = UNSET
    tags: Annotated[list[Name], Meta(max_length=32)] | UnsetType = UNSET
    pinned: VersionText | UnsetType | None = UNSET
    decommissioned: bool | UnsetType = UNSET


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new secret; the ones before it stay valid for `overlap_s`. New hardware counts its reports
    from the beginning: its seq begins again."""

    overlap_s: Annotated[int, Meta(ge=0, le=30 * 86_400)] = 0
    new_hardware: bool = False


class DeviceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """When: as known after N events or at a time; after the last report up to `at`."""

    as_of: AsOf | None = None
    at: Time | None = None


class DevicesQuery(ListQuery, frozen=True, kw_only=True):
    """Which devices."""

    version: VersionText | None = None
    model: Name | None = None
    cohort: Name | None = None
    tag: Name | None = None
    outdated: bool | None = None
    failing: bool | None = None
    silent_for: Seconds | None = None
    q: DevicePrefix | None = None
    as_of: AsOf | None = None
    at: Time | None = None


class HistoryQuery(ListQuery, frozen=True, kw_only=True):
    """Which lines; `progress` adds the reports that moved no version."""

    progress: bool = False
    as_of: AsOf | None = None
    at: Time | None = None


class VersionsQuery(ListQuery, frozen=True, kw_only=True):
    """When."""

    as_of: AsOf | None = None


class TimelineQuery(ListQuery, frozen=True, kw_only=True, rename={"start": "from", "stop": "to"}):
    """From when to when, and how far apart; at most 1 000 steps."""

    start: Time
    stop: Time | None = None
    step: Annotated[int, Meta(ge=1, le=366 * 86_400)] = 86_400


class ConsistencyQuery(
    msgspec.Struct, frozen=True, kw_only=True, rename={"old": "from", "new": "to"}
):
    """The sizes between which the log grew."""

    old: Position
    new: Position


class NewRelease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A release to be."""

    version: VersionText
    model: Name
    notes: FreeText | None = None

    def __post_init__(self) -> None:
        raise_if_broken(too_long("notes", self.notes))


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a release is never to be offered again."""

    reason: FreeText

    def __post_init__(self) -> None:
        raise_if_broken(too_long("reason", self.reason))


def too_long(name: str, text: str | None) -> BrokenRule | None:
    """Of a free text: its characters may be few enough, and its bytes not."""
    if text is not None and len(text.encode()) > TEXT_BYTES_MAX:
        return name, f"has more than {TEXT_BYTES_MAX} bytes"
    return None


class ReleasesQuery(ListQuery, frozen=True, kw_only=True):
    """Which releases."""

    model: Name | None = None


class EventsQuery(
    msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from", "stop": "to"}
):
    """Which entries: from <= position < to, since <= recorded < until; of a stream, of types.

    With `limit` so many at most; with `positions`, each behind its position and a tab.
    """

    start: Position = 0
    stop: Position | None = None
    since: Time | None = None
    until: Time | None = None
    stream: StreamName | None = None
    type: TypeNames | None = None
    limit: Annotated[int, Meta(ge=1, le=2**53 - 1)] | None = None
    positions: bool = False


class StreamQuery(msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from"}):
    """From which position on; without it from the log's end on. A Last-Event-ID outranks it."""

    start: Position | None = None


class AccessRecordQuery(ListQuery, frozen=True, kw_only=True):
    """Which records: since <= at < until, by whom."""

    since: Time | None = None
    until: Time | None = None
    actor: ActorName | None = None
