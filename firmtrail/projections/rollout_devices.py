"""Reads the devices that a rollout is meant for, from device_current and device_offers.

The count of a whole model comes from fleet_versions. A rollback is meant for the devices that run
its bad version, and for those to which it has offered another one.
"""

from typing import NamedTuple

from firmtrail.database.database import Reader, Statement, Value
from firmtrail.projections import device_current, device_pages, fleet_versions
from firmtrail.projections.device_current import Filter
from firmtrail.projections.device_pages import DevicePage
from firmtrail.projections.view import generation_of, listed
from firmtrail.rules.control import Control, is_withdrawn
from firmtrail.rules.device import FAILING
from firmtrail.rules.rollout import RolloutState

_SEEN = """\
LEFT JOIN device_seen AS seen
    ON seen.project = (SELECT project FROM log_heads WHERE log_id = $1)
    AND seen.device = device.device"""

_MEANT = f"""\
WHERE device.log_id = $1
    AND device.generation = {generation_of("device_current")}
    AND device.decommissioned = 0
    AND device.model = $2
    AND (CAST($3 AS text) IS NULL OR device.cohort = $3)
    AND (CAST($4 AS text) IS NULL
        OR device.tags <> replace(device.tags, '|' || CAST($4 AS text) || '|', ''))
    AND (CAST($5 AS text) IS NULL
        OR device.version = $5
        OR EXISTS (
            SELECT 1
            FROM device_offers AS offer
            WHERE offer.log_id = $1
                AND offer.generation = {generation_of("device_offers")}
                AND offer.source = $6
                AND offer.device = device.device))"""

_ROLLBACK_COUNTS = f"""\
SELECT
    count(*),
    coalesce(sum(
        CASE WHEN device.pinned IS NOT NULL AND device.pinned <> $5 THEN 1 ELSE 0 END), 0),
    coalesce(sum(
        CASE WHEN {device_current.SILENT.replace("$n", "$7")} THEN 1 ELSE 0 END), 0)
FROM device_current AS device
{_SEEN}
{_MEANT}
    AND device.version = $5"""

_WITHOUT_PREVIOUS = f"""\
SELECT count(*)
FROM (
    SELECT device.device
    FROM device_current AS device
    {_MEANT}
        AND device.version = $5
    ORDER BY device.device
    LIMIT $9) AS device
WHERE (CAST($7 AS text) IS NULL
        OR EXISTS (
            SELECT 1
            FROM device_offers AS tried
            WHERE tried.log_id = $1
                AND tried.generation = {generation_of("device_offers")}
                AND tried.device = device.device
                AND tried.model = $2
                AND tried.version = $7
                AND tried.model = $2
                AND tried.attempts >= $8))
    AND NOT EXISTS (
        SELECT 1
        FROM device_offers AS fixed
        JOIN releases AS release
            ON release.log_id = $1
            AND release.generation = {generation_of("releases")}
            AND release.model = $2
            AND release.version = fixed.version
            AND release.withdrawn_position IS NULL
        WHERE fixed.log_id = $1
            AND fixed.generation = {generation_of("device_offers")}
            AND fixed.device = device.device
            AND fixed.source = $6
            AND fixed.attempts < $8
            AND NOT EXISTS (
                SELECT 1
                FROM device_offers AS newer
                WHERE newer.log_id = $1
                    AND newer.generation = {generation_of("device_offers")}
                    AND newer.device = device.device
                    AND newer.source = $6
                    AND newer.position > fixed.position))
    AND NOT EXISTS (
        SELECT 1
        FROM device_history AS ran
        JOIN releases AS release
            ON release.log_id = $1
            AND release.generation = {generation_of("releases")}
            AND release.model = $2
            AND release.version = ran.version
            AND release.withdrawn_position IS NULL
        WHERE ran.log_id = $1
            AND ran.generation = {generation_of("device_history")}
            AND ran.device = device.device
            AND ran.moves = 1
            AND ran.version <> $5
            AND (ran.place, ran.position) < (
                SELECT bad.place, bad.position
                FROM device_history AS bad
                WHERE bad.log_id = $1
                    AND bad.generation = {generation_of("device_history")}
                    AND bad.device = device.device
                    AND bad.moves = 1
                    AND bad.version = $5
                ORDER BY bad.place, bad.position
                LIMIT 1)
            AND NOT EXISTS (
                SELECT 1
                FROM device_offers AS tried
                WHERE tried.log_id = $1
                    AND tried.generation = {generation_of("device_offers")}
                    AND tried.device = device.device
                    AND tried.version = ran.version
                    AND tried.model = $2
                    AND tried.has_failed = 1)
            AND NOT EXISTS (
                SELECT 1
                FROM device_history AS failed
                WHERE failed.log_id = $1
                    AND failed.generation = {generation_of("device_history")}
                    AND failed.device = device.device
                    AND failed.version = ran.version
                    AND failed.status IN {listed(FAILING)}
                    AND failed.failed_model = $2
                    AND (failed.place, failed.position) > (
                        SELECT last.place, last.position
                        FROM device_history AS last
                        WHERE last.log_id = $1
                            AND last.generation = {generation_of("device_history")}
                            AND last.device = device.device
                            AND last.moves = 1
                            AND last.version = ran.version
                        ORDER BY last.place DESC, last.position DESC
                        LIMIT 1)))"""
"""Applies the rule of rules/target.py and rules/previous.py to all devices in one query, because
their histories together are long. $7 is a fallback that is not withdrawn, $8 the limit of
attempts, and $9 the limit of the devices that are looked at."""

ALL_DEVICES = 2**53


class RollbackCounts(NamedTuple):
    """Counts the devices that run a bad version, and, by reason, those that won't leave it soon."""

    devices: int
    pinned: int
    silent: int
    no_previous: int


def _args(rollout: RolloutState) -> tuple[Value, ...]:
    return rollout.model, rollout.cohort, rollout.tag, rollout.bad_version, rollout.id


def _filter(rollout: RolloutState) -> Filter:
    """Returns the filter for the devices that the rollout is meant for."""
    recall = None if rollout.bad_version is None else (rollout.bad_version, rollout.id)
    return Filter(model=rollout.model, cohort=rollout.cohort, tag=rollout.tag, recall=recall)


async def matching(db: Reader, head: tuple[int, str], rollout: RolloutState) -> int:
    """Returns how many devices the rollout is meant for. `head` is (log_id, project)."""
    if (rollout.cohort, rollout.tag, rollout.bad_version) == (None, None, None):
        return await fleet_versions.of_model(db, head[0], rollout.model)
    return await device_pages.count(db, head, _filter(rollout))


async def rollback_counts(
    db: Reader,
    log_id: int,
    rollback: RolloutState,
    control: Control,
    *,
    now_ms: int,
    looked_at_max: int = ALL_DEVICES,
) -> RollbackCounts:
    """Returns the counts of a rollback, which need not have started. Whether a device has a
    previous version is looked up in its history: for the first `looked_at_max` devices, by name."""
    args = (log_id, *_args(rollback), now_ms - device_current.SILENT_MS)
    [[found, pinned, silent]] = await db.read(Statement(_ROLLBACK_COUNTS, args))
    lost = 0
    if found and rollback.version is None:
        fallback, tries_max = rollback.fallback, control.settings.max_attempts
        if fallback is not None and is_withdrawn(control, rollback.model, fallback):
            fallback = None
        args = (log_id, *_args(rollback), fallback, tries_max, looked_at_max)
        [[lost]] = await db.read(Statement(_WITHOUT_PREVIOUS, args))
    return RollbackCounts(int(found), int(pinned), int(silent), int(lost))


async def page(
    db: Reader, head: tuple[int, str], rollout: RolloutState, *, after: str, limit: int
) -> DevicePage:
    """Returns the next devices after `after` that the rollout is meant for, by id."""
    return await device_pages.page(db, head, _filter(rollout), after=after, limit=limit)


async def page_of_offered(
    db: Reader, head: tuple[int, str], rollout: RolloutState, *, after: str, limit: int
) -> DevicePage:
    """Returns those of `page` to which the rollout has made an offer."""
    which = _filter(rollout)._replace(offered_by=rollout.id)
    return await device_pages.page(db, head, which, after=after, limit=limit)
