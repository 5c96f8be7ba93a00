"""Reads the devices that a rollout is meant for, from device_current and device_offers.

How many they are is counted by views: by fleet_versions of a whole model, and by its fleet_labels
of a cohort or a tag. A rollback is meant for the devices that run its bad version, and for those to
which it has offered another one, which device_offers counts.
"""

from collections import Counter
from typing import NamedTuple

from firmtrail.database.database import Reader, Statement, Value
from firmtrail.projections import (
    device_current,
    device_offers,
    device_pages,
    fleet_labels,
    fleet_versions,
)
from firmtrail.projections.device_current import Filter
from firmtrail.projections.device_pages import DevicePage
from firmtrail.projections.fleet_versions import VersionCount
from firmtrail.projections.view import generation_of, listed
from firmtrail.rules.control import Control, is_withdrawn
from firmtrail.rules.device import FAILING
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.version import is_higher

_SAMPLE = f"""\
{device_pages.LOOKED}
SELECT
    (SELECT last FROM looked),
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


_RETURNS = f"""\
SELECT device.way, device.is_pinned, count(*)
FROM (
    SELECT
        CASE WHEN device.pinned IS NOT NULL AND device.pinned <> $5 THEN 1 ELSE 0 END AS is_pinned,
        coalesce((
            SELECT fixed.version
            {_usable("device_offers", "fixed")}
                AND fixed.source = $6
                AND fixed.attempts < $8
                AND NOT EXISTS (
                    SELECT 1
                    {_of_device("device_offers", "newer")}
                        AND newer.source = $6
                        AND newer.position > fixed.position)
            LIMIT 1), (
            SELECT ran.version
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
                            LIMIT 1))
            ORDER BY ran.place DESC, ran.position DESC
            LIMIT 1),
            CASE WHEN NOT EXISTS (
                SELECT 1
                {_of_device("device_offers", "tried")}
                    AND tried.model = $2
                    AND tried.version = $7
                    AND tried.attempts >= $8)
            THEN CAST($7 AS text) END) AS way
    FROM device_current AS device
    {_MEANT}
        AND device.version = $5
        AND device.device <= $9) AS device
GROUP BY device.way, device.is_pinned"""
"""Applies the rule of rules/target.py and rules/previous.py to all devices in one query, because
their histories together are long. $7 is a fallback that is not withdrawn, $8 the limit of
attempts, and $9 the last device that is looked at."""

SAMPLE_MAX = 20_000
"""Limits the devices that run a bad version, and that counts of a rollback look at."""

RETURNS_MAX = 20
"""Limits the versions that an answer names to which devices go; rarer ones are counted together."""

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
    returns: tuple[tuple[str, int], ...] = ()
    """Of these, by version, the devices that go to it, the most frequent version first. Devices
    that are pinned to another version go there, and are not among them."""


class _Sample(NamedTuple):
    """Counts the devices that were looked at; `last` is the last of them by name."""

    found: int = 0
    pinned: int = 0
    silent: int = 0
    last: str = ""

    def plus(self, found: int, pinned: int, silent: int, *, last: str) -> "_Sample":
        """Returns this sample with the devices of a further look, which come later by name."""
        counted = self.found + found, self.pinned + pinned, self.silent + silent
        return _Sample(*counted, last or self.last)


def _args(rollout: RolloutState) -> tuple[Value, ...]:
    return rollout.model, rollout.cohort, rollout.tag, rollout.bad_version, rollout.id


def _filter(rollout: RolloutState) -> Filter:
    """Returns the filter for the devices that the rollout is meant for."""
    recall = None if rollout.bad_version is None else (rollout.bad_version, rollout.id)
    return Filter(model=rollout.model, cohort=rollout.cohort, tag=rollout.tag, recall=recall)


async def matching(db: Reader, log_id: int, rollout: RolloutState) -> int:
    """Returns how many devices the rollout is meant for."""
    if rollout.is_rollback:
        left = await device_offers.recalled(db, log_id, rollout.id)
        return await running_bad(db, log_id, rollout) + left
    if (rollout.cohort, rollout.tag) == (None, None):
        return await fleet_versions.of_model(db, log_id, rollout.model)
    return fleet_versions.total(await _counts(db, log_id, rollout), rollout.model)


async def running_bad(db: Reader, log_id: int, rollback: RolloutState) -> int:
    """Returns how many of the devices that a rollback names run its bad version."""
    counts = await _counts(db, log_id, rollback)
    return fleet_versions.total(counts, rollback.model, rollback.bad_version)


async def there(db: Reader, log_id: int, rollout: RolloutState) -> int:
    """Returns how many devices of a rollout run its version, or a higher one."""
    counts = await _counts(db, log_id, rollout)
    return sum(
        each.devices
        for each in counts
        if each.model == rollout.model and each.version and rollout.version
        if not is_higher(rollout.version, each.version)
    )


async def _counts(db: Reader, log_id: int, rollout: RolloutState) -> list[VersionCount]:
    """Returns how many devices of the rollout's cohort or tag, or of all, run each version."""
    if rollout.cohort is not None:
        return await fleet_labels.counts(db, log_id, fleet_labels.of_cohort(rollout.cohort))
    if rollout.tag is not None:
        return await fleet_labels.counts(db, log_id, fleet_labels.of_tag(rollout.tag))
    _, counts = await fleet_versions.counts(db, log_id)
    return counts


def common_returns(counts: RollbackCounts) -> list[tuple[str | None, int]]:
    """Returns the versions that most devices of a rollback go to, with the number of devices; at
    the end None with that of all others, if there are any."""
    common, rest = counts.returns[:RETURNS_MAX], counts.returns[RETURNS_MAX:]
    others = [(None, sum(devices for _, devices in rest))] if rest else []
    return [*common, *others]


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
    devices = await running_bad(db, head[0], rollback)
    found_max = min(looked_at_max, devices)
    sample = await _sample(db, head, rollback, now_ms=now_ms, found_max=found_max)
    ways = await _ways(db, head[0], rollback, control, sample=sample)
    returns: Counter[str] = Counter()
    for way, is_pinned, number in ways:
        if way is not None and not is_pinned:
            returns[way] += number
    lost = sum(number for way, _, number in ways if way is None)
    found, pinned, silent, _ = sample
    return RollbackCounts(devices, pinned, silent, lost, found, _most_first(returns))


def _most_first(returns: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(returns.items(), key=lambda each: (-each[1], each[0])))


async def _sample(
    db: Reader, head: tuple[int, str], rollback: RolloutState, *, now_ms: int, found_max: int
) -> _Sample:
    """Looks for devices that run the bad version until it has found so many, which may be none, or
    looked at `SEARCHED_MAX`."""
    assert rollback.bad_version is not None, "a rollback has a bad version"
    which = _filter(rollback)._replace(version=rollback.bad_version, recall=None)
    sample, after = _Sample(), ""
    for looked_at in device_pages.looks(found_max, SEARCHED_MAX if found_max else 0):
        args: list[Value] = [*head]
        parts = device_pages.looking(which, after, looked_at, args)
        args += [found_max - sample.found, rollback.bad_version, now_ms - device_current.SILENT_MS]
        n = len(args)
        text = _SAMPLE.format(**parts, limit=f"${n - 2}", bad=f"${n - 1}", since=f"${n}")
        [[end, *counted, last]] = await db.read(Statement(text, tuple(args)))
        sample = sample.plus(*map(int, counted), last=last)
        if end is None or sample.found == found_max:
            return sample
        after = end
    return sample


async def _ways(
    db: Reader, log_id: int, rollback: RolloutState, control: Control, *, sample: _Sample
) -> list[tuple[str | None, int, int]]:
    """Returns (version, whether they are pinned to another one, number) of the devices of a sample:
    the version that the rollback sends them to, None if there is none."""
    if not sample.found:
        return []
    if rollback.version is not None:
        sent = sample.found - sample.pinned
        return [(rollback.version, 0, sent)] if sent else []
    fallback = rollback.fallback
    if fallback is not None and is_withdrawn(control, rollback.model, fallback):
        fallback = None
    args = (log_id, *_args(rollback), fallback, control.settings.max_attempts, sample.last)
    rows = await db.read(Statement(_RETURNS, args))
    return [(way, is_pinned, number) for way, is_pinned, number in rows]


async def page(
    db: Reader, head: tuple[int, str], rollout: RolloutState, *, after: str, limit: int
) -> DevicePage:
    """Returns the next devices after `after` that the rollout is meant for, by id."""
    return await device_pages.page(db, head, _filter(rollout), after=after, limit=limit)


async def page_of_offered(
    db: Reader,
    head: tuple[int, str],
    rollout: RolloutState,
    *,
    outcome: str | None,
    after: str,
    limit: int,
) -> DevicePage:
    """Returns those of `page` to which the rollout has made an offer: any, or one with this
    outcome, "" for none."""
    which = _filter(rollout)._replace(offered_by=rollout.id)
    if outcome is not None:
        which = which._replace(ended=(rollout.id, outcome))
    return await device_pages.page(db, head, which, after=after, limit=limit)
