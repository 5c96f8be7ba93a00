"""What goes out: the bodies of answers, as the structs that encode them and document them."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from firmtrail.events.fleet import Status
from firmtrail.events.times import time_text
from firmtrail.rules.device import ClockFault
from firmtrail.rules.history import ChangeKind

type TimeText = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339, UTC, milliseconds."""


type NoProof = Literal["publishing_off", "not_yet", "log_corrupt"]
"""Why a receipt comes without its proof. It can be asked for later, at events/{position}/proof."""


class Receipt(msgspec.Struct, frozen=True):
    """Where a report stands in the log; `duplicate`: it already stood there."""

    log: int
    position: int
    duplicate: bool
    recorded_at: TimeText
    proof: str | UnsetType | None = UNSET
    """To `Prefer: receipt=proof`: the C2SP tlog-proof; None: see `no_proof`."""
    no_proof: NoProof | UnsetType = UNSET


class PublishedCheckpoint(msgspec.Struct, frozen=True):
    """A checkpoint that was published, as its signed note."""

    size: int
    checkpoint: str


class Text(msgspec.Struct, frozen=True):
    """The free text beside an event; "erased" where there was one."""

    text: str


class RefusedItem(msgspec.Struct, frozen=True):
    """An item of an array that was not recorded, in its place."""

    refused: str
    detail: str


class RefusedIndex(msgspec.Struct, frozen=True):
    """The place of an item that was not recorded."""

    index: int
    code: str


class ReportsSummary(msgspec.Struct, frozen=True):
    """The answer to `Prefer: return=minimal`."""

    recorded: int
    duplicates: int
    refused: list[RefusedIndex]
    last_position: int | None


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device: what it is, what it runs and since when."""

    device: str
    version: str | None
    since: TimeText | None
    previous_version: str | None
    status: Status | None
    failing: bool
    target: str | None
    last_seen_at: TimeText | None
    model: str | None
    cohort: str | None
    tags: tuple[str, ...]
    pinned: str | None
    clock: ClockFault | None
    decommissioned: bool
    outdated_since: TimeText | None
    """Since when there has been a higher release of its model, neither withdrawn nor a
    pre-release; None: it is not outdated."""
    secret: str | UnsetType = UNSET
    """Only where it was made by this very request."""


class HistoryLine(msgspec.Struct, frozen=True, kw_only=True):
    """A version that a device came to run; with `progress` a report on the way."""

    version: str
    previous_version: str | None
    change: ChangeKind | None
    status: Status
    since: TimeText
    occurred_at: TimeText | None
    recorded_at: TimeText
    position: int
    log: int | UnsetType = UNSET
    """Whose position it is, where that is not the project's newest log."""
    late: bool
    clock: ClockFault | None
    detail: str | None


class NewSecret(msgspec.Struct, frozen=True):
    """A secret, shown this once."""

    device: str
    secret: str | None
    others_until: TimeText | None


class Registered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device that was registered; `secret` if one was made, shown this once."""

    device: str
    model: str | None
    cohort: str | None
    tags: tuple[str, ...]
    secret: str | UnsetType | None = UNSET


class Artifact(msgspec.Struct, frozen=True):
    """A file of a release; `size` in bytes."""

    name: str
    size: int
    sha256: str


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A release; `latest`: of its model's that are neither withdrawn nor pre-releases, of the
    highest precedence."""

    version: str
    model: str
    notes: str | None
    latest: bool
    added_at: TimeText
    withdrawn: bool
    withdrawn_at: TimeText | None
    reason: str | None
    """Why it was withdrawn."""
    artifacts: list[Artifact]


class VersionShare(msgspec.Struct, frozen=True):
    """How many registered devices of a model run a version, and which share of all that is."""

    version: str | None
    model: str | None
    devices: int
    share: float


class TimelineStep(msgspec.Struct, frozen=True):
    """The shares as they were known at a time."""

    at: TimeText
    log_size: int
    items: list[VersionShare]


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A log of the project; the one that is not closed is written to."""

    number: int
    size: int
    closed: bool
    last_recorded_at: TimeText | None


class ReadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who read what: `path` below the project's, `asked` as it was understood."""

    at: TimeText
    actor: str
    path: str
    asked: dict[str, int | bool | str]
    request_id: str
    address: str | None
    """Where the read came from; null in records of versions that kept no address."""


def time_or_none(time_ms: int | None) -> str | None:
    return None if time_ms is None else time_text(time_ms)
