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

_SAMPLE = f"""\
{device_pages.LOOKED}
SELECT
    count(*),
    coalesce(sum(
        CASE WHEN device.pinned IS NOT NULL AND device.pinned <> {{bad}} THEN 1 ELSE 0 END), 0),
    coalesce(sum(device.is_silent), 0),
    coalesce(max(device.device), '')
FROM (
    SELECT
        device.device, device.pinned,
        CASE WHEN {device_current.SILENT.replace("$n", "{since}")} THEN 1 ELSE 0 END AS is_silent
    FROM {{devices}} {device_pages.SEEN}
    WHERE {{conditions}}
        AND {{place}} >= {{begin}}
        AND {{place}} <= coalesce((SELECT last FROM looked), {{end}})
    ORDER BY {{place}}
    LIMIT {{limit}}) AS device"""

_MEANT = f"""\
WHERE device.log_id = $1
    AND device.generation = {generation_of("device_current")}
    AND device.decommissioned = 0
    AND device.model = $2
    AND (CAST($3 AS text) IS NULL OR device.cohort = $3)
    AND (CAST($4 AS text) IS NULL
        OR device.tags <> replace(device.tags, '|' || CAST($4 AS text) || '|', ''))"""


def _of_device(table: str, name: str, joined: str = "") -> str:
    """Returns the SQL that reads the rows of the device in another table, under this name."""
    return f"""\
FROM {table} AS {name}{joined}
WHERE {name}.log_id = $1
    AND {name}.generation = {generation_of(table)}
    AND {name}.device = device.device"""


def _usable(table: str, name: str) -> str:
    """Returns the same SQL for the rows whose version is a release that is not withdrawn."""
    joined = f"""
JOIN releases AS release
    ON release.log_id = $1
    AND release.generation = {generation_of("releases")}
    AND release.model = $2
    AND release.version = {name}.version
    AND release.withdrawn_position IS NULL"""
    return _of_device(table, name, joined)


_WITHOUT_PREVIOUS = f"""\
SELECT count(*)
FROM (
    SELECT device.device
    FROM device_current AS device
    {_MEANT}
        AND device.version = $5
        AND device.device <= $9) AS device
WHERE (CAST($7 AS text) IS NULL
        OR EXISTS (
            SELECT 1
            {_of_device("device_offers", "tried")}
                AND tried.model = $2
                AND tried.version = $7
                AND tried.attempts >= $8))
    AND NOT EXISTS (
        SELECT 1
        {_usable("device_offers", "fixed")}
            AND fixed.source = $6
            AND fixed.attempts < $8
            AND NOT EXISTS (
                SELECT 1
                {_of_device("device_offers", "newer")}
                    AND newer.source = $6
                    AND newer.position > fixed.position))
    AND NOT EXISTS (
        SELECT 1
        {_usable("device_history", "ran")}
            AND ran.moves = 1
            AND ran.version <> $5
            AND (ran.place, ran.position) < (
                SELECT bad.place, bad.position
                {_of_device("device_history", "bad")}
                    AND bad.moves = 1
                    AND bad.version = $5
                ORDER BY bad.place, bad.position
                LIMIT 1)
            AND NOT EXISTS (
                SELECT 1
                {_of_device("device_offers", "tried")}
                    AND tried.version = ran.version
                    AND tried.model = $2
                    AND tried.has_failed = 1)
            AND NOT EXISTS (
                SELECT 1
                {_of_device("device_history", "failed")}
                    AND failed.version = ran.version
                    AND failed.status IN {listed(FAILING)}
                    AND failed.failed_model = $2
                    AND (failed.place, failed.position) > (
                        SELECT last.place, last.position
                        {_of_device("device_history", "last")}
                            AND last.moves = 1
                            AND last.version = ran.version
                        ORDER BY last.place DESC, last.position DESC
                        LIMIT 1)))"""
"""Applies the rule of rules/target.py and rules/previous.py to all devices in one query, because
their histories together are long. $7 is a fallback that is not withdrawn, $8 the limit of
attempts, and $9 the last device that is looked at."""

SAMPLE_MAX = 20_000
"""Limits the devices that run a bad version, and that counts of a rollback look at."""

SEARCHED_MAX = 100_000
"""Limits the devices among which those that run a bad version are looked for."""


class RollbackCounts(NamedTuple):
    """Counts the devices that run a bad version, and, by reason, those that won't leave it soon:
    among the first `looked_at` of them."""

    devices: int
    pinned: int
    silent: int
    no_previous: int
    looked_at: int


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
    head: tuple[int, str],
    rollback: RolloutState,
    control: Control,
    *,
    now_ms: int,
    looked_at_max: int = SAMPLE_MAX,
) -> RollbackCounts:
    """Returns the counts of a rollback, which need not have started. It looks at the first
    `looked_at_max` devices that run the bad version, by name, among `SEARCHED_MAX`."""
    assert rollback.bad_version is not None, "a rollback has a bad version"
    which = _filter(rollback)._replace(version=rollback.bad_version, recall=None)
    args: list[Value] = [*head]
    parts = device_pages.looking(which, "", SEARCHED_MAX, args)
    args += [looked_at_max, rollback.bad_version, now_ms - device_current.SILENT_MS]
    n = len(args)
    text = _SAMPLE.format(**parts, limit=f"${n - 2}", bad=f"${n - 1}", since=f"${n}")
    [[found, pinned, silent, last]] = await db.read(Statement(text, tuple(args)))
    devices = await _running(db, head, which)
    lost = await _without_previous(db, head[0], rollback, control, last=last) if found else 0
    return RollbackCounts(devices, int(pinned), int(silent), lost, int(found))


async def _running(db: Reader, head: tuple[int, str], which: Filter) -> int:
    """Returns how many devices run the bad version."""
    if which.cohort is not None or which.tag is not None:
        return await device_pages.count(db, head, which)
    _, counts = await fleet_versions.counts(db, head[0])
    return fleet_versions.total(counts, which.model, which.version)


async def _without_previous(
    db: Reader, log_id: int, rollback: RolloutState, control: Control, *, last: str
) -> int:
    """Returns how many of the devices up to `last` have no version to go back to."""
    if rollback.version is not None:
        return 0
    fallback = rollback.fallback
    if fallback is not None and is_withdrawn(control, rollback.model, fallback):
        fallback = None
    args = (log_id, *_args(rollback), fallback, control.settings.max_attempts, last)
    [[lost]] = await db.read(Statement(_WITHOUT_PREVIOUS, args))
    return int(lost)


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
