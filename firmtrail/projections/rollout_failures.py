"""Groups the failures of a rollout by the reasons that its devices gave.

It has no rows of its own: an index finds the failed offers of a rollout, and each names the report
that was its outcome. An answer reads the newest `FAILURES_MAX` of them, whatever the fleet's size.
Only devices that the rollout is meant for are counted, as in its progress.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from firmtrail.database.database import Reader, Statement
from firmtrail.eventstore import lineage
from firmtrail.projections.view import generation_of
from firmtrail.rules.device import FAILING
from firmtrail.rules.rollout import RolloutState

FAILURES_MAX = 2_000
"""Limits the failures that one answer reads."""

REASONS_MAX = 20
"""Limits the reasons that one answer names; the rarer ones are counted together."""

REASON_CHARACTERS_MAX = 120

type FailureKind = Literal["reported", "no_reason", "silent", "other_version", "other"]
"""A device gave the reason, or gave none, or made no call, or came back with another version;
`other` counts the rarer reasons together."""

_FAILED = f"""\
SELECT
    device.device, offer.is_silent, report.status,
    CASE WHEN report.detailed = 1 THEN coalesce(said.text, 'erased') END
FROM (
    SELECT
        failed.device, failed.outcome_place, failed.outcome_position,
        CASE WHEN failed.outcome_position = failed.silent_position THEN 1 ELSE 0 END AS is_silent
    FROM device_offers AS failed
    WHERE failed.log_id = $1
        AND failed.generation = {generation_of("device_offers")}
        AND failed.source = $2
        AND failed.outcome = 'failed'
    ORDER BY failed.outcome_position DESC
    LIMIT $3) AS offer
LEFT JOIN device_current AS device
    ON device.log_id = $1
    AND device.generation = {generation_of("device_current")}
    AND device.device = offer.device
    AND device.decommissioned = 0
    AND device.model = $4
    AND (CAST($5 AS text) IS NULL OR device.cohort = $5)
    AND (CAST($6 AS text) IS NULL
        OR device.tags <> replace(device.tags, '|' || CAST($6 AS text) || '|', ''))
LEFT JOIN device_history AS report
    ON report.log_id = $1
    AND report.generation = {generation_of("device_history")}
    AND report.device = offer.device
    AND report.place = offer.outcome_place
    AND report.position = offer.outcome_position
{lineage.join_sql("texts", "said", "offer.outcome_position")}
ORDER BY offer.outcome_position DESC"""

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|[0-9]+")


class FailedDevice(NamedTuple):
    """Describes why a device failed."""

    device: str
    kind: FailureKind
    detail: str | None
    """The first line of the text that the device sent."""


class CommonReason(NamedTuple):
    """Counts the devices that failed for one reason."""

    kind: FailureKind
    reason: str | None
    """The text of the device that failed last."""
    devices: int
    example: str
    """The device that failed last."""


class Newest(NamedTuple):
    """Holds the newest failures of a rollout, one a device."""

    failures: list[FailedDevice]
    is_partial: bool
    """Whether the rollout may have older ones."""


async def newest(db: Reader, log_id: int, rollout: RolloutState) -> Newest:
    """Returns the newest failures of a rollout, at most `FAILURES_MAX`."""
    args = (log_id, rollout.id, FAILURES_MAX, rollout.model, rollout.cohort, rollout.tag)
    rows = await db.read(Statement(_FAILED, args))
    found: dict[str, FailedDevice] = {}
    for device, *said in rows:
        if device is not None:
            found.setdefault(device, _failure(device, *said))
    return Newest(list(found.values()), len(rows) == FAILURES_MAX)


def _failure(device: str, is_silent: int, status: str | None, detail: str | None) -> FailedDevice:
    if is_silent:
        return FailedDevice(device, "silent", None)
    if status not in FAILING:
        return FailedDevice(device, "other_version", None)
    line = next((each.strip() for each in (detail or "").splitlines() if each.strip()), None)
    if line is None:
        return FailedDevice(device, "no_reason", None)
    return FailedDevice(device, "reported", line[:REASON_CHARACTERS_MAX])


def grouped(failures: Iterable[FailedDevice]) -> list[CommonReason]:
    """Returns the reasons, the most frequent first. Texts that differ only in their numbers or in
    upper and lower case are one reason."""
    devices: Counter[tuple[FailureKind, str]] = Counter()
    newest: dict[tuple[FailureKind, str], FailedDevice] = {}
    for each in failures:
        key = (each.kind, _NUMBER.sub("#", each.detail or "").casefold())
        devices[key] += 1
        newest.setdefault(key, each)
    common = devices.most_common()
    found = [
        CommonReason(kind, newest[kind, text].detail, count, newest[kind, text].device)
        for (kind, text), count in common[:REASONS_MAX]
    ]
    rest = common[REASONS_MAX:]
    if rest:
        example = newest[rest[0][0]].device
        found.append(CommonReason("other", None, sum(count for _, count in rest), example))
    return found
