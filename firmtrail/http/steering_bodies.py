"""What comes in and goes out about what devices should run: check-ins, rollouts, questions."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from firmtrail.http.answers import TimeText
from firmtrail.http.bodies import too_long
from firmtrail.http.faults import BrokenRule, raise_if_broken
from firmtrail.http.lists import ListQuery
from firmtrail.http.scalars import FreeText, Id, Name, VersionText
from firmtrail.rules import version
from firmtrail.rules.progress import State, Why
from firmtrail.rules.target import Action, Reason

WAIT_S_MAX = 60

type Wait = Annotated[int, Meta(ge=0, le=WAIT_S_MAX)]
type Destination = Annotated[
    str,
    Meta(
        max_length=version.CHARACTERS_MAX,
        pattern=rf"^previous$(?!\n)|{version.PATTERN}",
        description="previous, or a SemVer 2.0.0 version",
        examples=["previous"],
    ),
]
type SilentAfter = Annotated[
    int,
    Meta(
        ge=300,
        le=2_592_000,
        description="seconds without a call after which a device that was offered the version "
        "counts as failed",
    ),
]
type Percent = Annotated[
    float, Meta(ge=0, le=100, description="a percentage with two decimals at most")
]


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person orders: a member that is not known is an error, not a wish."""


class UpdateQuery(msgspec.Struct, frozen=True, kw_only=True):
    """running: what the device runs; wait: for how many seconds an answer may take to change."""

    running: VersionText | None = None
    wait: Wait = 0


class UpdateArtifact(msgspec.Struct, frozen=True):
    """A file of the version; `url` is a path of this server."""

    name: str
    size: int
    sha256: str
    url: str


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What a device should run, and why."""

    action: Action
    version: str | None
    rollout: str | None
    reason: Reason
    artifacts: list[UpdateArtifact]
    question: str | None
    report_wanted: bool
    last_seq: int | None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, what it looked at, and what it said; the one that decides is the last."""

    rule: str
    decides: bool
    says: str
    inputs: dict[str, Any]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What a device was offered, and how it went."""

    version: str
    source: str
    attempts: int
    offered_at: TimeText
    outcome: Literal["installed", "failed"] | None
    outcome_reason: Literal["silent"] | None
    """Of an outcome that no report says."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The rules gone through for a device, as it is now."""

    device: str
    version: str | None
    action: Action
    target: str | None
    rollout: str | None
    reason: Reason
    rules: list[Rule]
    offers: list[Attempt]
    question: str | None
    last_seen_at: TimeText | None


class PauseIf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pause when more than this share of at least so many outcomes failed."""

    failed_percent: Annotated[int, Meta(ge=0, le=100)]
    min_reports: Annotated[int, Meta(ge=1, le=10**9)]


class WantedRollout(Wish, frozen=True, kw_only=True):
    """A release to a model, and at most one cohort or tag of it."""

    version: VersionText
    model: Name
    cohort: Name | None = None
    tag: Name | None = None
    percent: Percent = 100
    pause_if: PauseIf | None = None
    silent_after_s: SilentAfter | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        raise_if_broken(both(self.cohort, self.tag), too_fine("percent", self.percent))


class WantedRollback(Wish, frozen=True, kw_only=True):
    """A bad version, where the devices that run it are to go, and why; what is only tried needs no
    reason."""

    bad_version: VersionText
    model: Name
    to: Destination = "previous"
    fallback: VersionText | None = None
    cohort: Name | None = None
    tag: Name | None = None
    percent: Percent = 100
    reason: FreeText | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        raise_if_broken(
            both(self.cohort, self.tag),
            too_fine("percent", self.percent),
            too_long("reason", self.reason),
            None if self.reason or self.dry_run else ("reason", "is missing"),
        )


def both(cohort: str | None, tag: str | None) -> BrokenRule | None:
    """At most one of the two narrows a model down."""
    if cohort is not None and tag is not None:
        return "tag", "stands beside a cohort: one of the two can be named"
    return None


def too_fine(name: str, percent: float | None) -> BrokenRule | None:
    """Of a percentage: a rollout reaches whole hundredths of a percent."""
    if percent is not None and percent != round(percent, 2):
        return name, "has more than two decimals"
    return None


class Because(Wish, frozen=True, kw_only=True):
    """Why; it lies beside the log."""

    reason: FreeText | None = None

    def __post_init__(self) -> None:
        raise_if_broken(too_long("reason", self.reason))


class Advance(Because, frozen=True, kw_only=True):
    """percent: how much of its devices it is to reach; more than before."""

    percent: Percent

    def __post_init__(self) -> None:
        raise_if_broken(too_long("reason", self.reason), too_fine("percent", self.percent))


class Halt(Because, frozen=True, kw_only=True):
    """all: rollbacks too."""

    all: bool = False


class HaltState(msgspec.Struct, frozen=True):
    """What is halted: all but rollbacks, everything, or nothing."""

    halted: Literal["rollouts", "all"] | None


class RolloutProgress(msgspec.Struct, frozen=True):
    """Devices, at the log size that is said."""

    matching: int
    offered: int
    installed: int
    failed: int
    exhausted: int


class NamedDevices(msgspec.Struct, frozen=True):
    """Devices that run the bad version; and those that will not come away from it by themselves."""

    named: int
    pinned: int
    silent: int
    no_previous: int


class Rollout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rollout or a rollback; `id` is null where it is only tried."""

    id: str | None
    kind: Literal["rollout", "rollback"]
    state: Literal["running", "paused", "aborted", "withdrawn"]
    model: str
    version: str | None
    bad_version: str | None
    fallback: str | None
    cohort: str | None
    tag: str | None
    percent: float
    pause_if: PauseIf | None
    silent_after_s: int | None
    reason: str | None
    started_at: TimeText
    state_reason: str | None
    state_since: TimeText
    progress: RolloutProgress | UnsetType = UNSET
    devices: NamedDevices | UnsetType = UNSET


class StartedRollback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rollback that was started; what one that is only tried would meet."""

    rollout: str | None
    devices: NamedDevices | UnsetType = UNSET


class Commanded(msgspec.Struct, frozen=True):
    """What is kept under an Idempotency-Key of a command on a rollout: that it was done, and then
    what was answered, which is counted only behind the commit."""

    log_size: int = 0
    rollout: Rollout | None = None


class RolloutDevicesQuery(ListQuery, frozen=True, kw_only=True):
    """Which devices."""

    state: State | None = None


class RolloutDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device that a rollout is meant for, and how far it is with it."""

    device: str
    state: State
    version: str | None
    since: TimeText | None
    last_seen_at: TimeText | None
    reason: Why


class Retry(Wish, frozen=True, kw_only=True):
    """The version that a device may try again."""

    version: VersionText


class WantedAsk(Wish, frozen=True, kw_only=True):
    """For how long a device is asked which version it runs."""

    expires_in_s: Annotated[int, Meta(ge=60, le=2_592_000)] = 86_400


class AskQuery(msgspec.Struct, frozen=True, kw_only=True):
    """wait: for how many seconds the answer may take."""

    wait: Wait = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question that was put; with its answer, if one came while it was waited for."""

    question: Id
    version: str | UnsetType = UNSET
    answered_at: TimeText | UnsetType = UNSET


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A question to a device."""

    question: Id
    state: Literal["open", "answered", "expired"]
    asked_at: TimeText
    expires_at: TimeText
    answered_at: TimeText | None
    version: str | None
