"""Reads the devices that a filter selects, a page at a time and by id, at a bounded cost.

Some filters have an index that gives the ids in order: attributes, a cohort, a rollout that made an
offer, a failed update, a wait to be accepted, and the beginning of a name. Every other filter is
applied to the devices that are read. A page looks at `LOOKED_AT_MAX` devices at most, whatever the
fleet's size. So it may have fewer devices than asked for, or none, and still name a next page.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from firmtrail.database.database import Reader, Statement, Value
from firmtrail.projections.device_current import (
    IS_FAILING,
    STATE,
    WAITING,
    CurrentDevice,
    Filter,
    conditions,
    current_device,
)
from firmtrail.projections.fleet_versions import VersionCount
from firmtrail.projections.view import generation_of

LOOKED_AT_MAX = 20_000

_BEFORE_ANY, _AFTER_ANY = "!", "~"
"""A character before those of names, and one after them."""

_NEXT_LOOK = 5
"""How many times as many devices each further look reads."""

SEEN = "LEFT JOIN device_seen AS seen ON seen.project = $2 AND seen.device = device.device"

LOOKED = """\
WITH looked AS MATERIALIZED (
    SELECT (
        SELECT {place}
        FROM {ids}
        WHERE {drive} AND {place} >= {begin} AND {place} <= {end}
        ORDER BY {place}
        LIMIT 1
        OFFSET {skipped}) AS last)"""
"""Finds where a look ends: so many ids after its begin, NULL if there are fewer. The look itself
compares a place with one lower and one upper bound: SQLite searches an index by the first one that
it finds of each, and applies others to each row."""


def _page_of(looked: str) -> str:
    """Returns the statement of a page whose look ends where the subquery `looked` says."""
    return f"""\
{looked}
SELECT log_heads.size, looked.last, found.*
FROM log_heads
CROSS JOIN looked
LEFT JOIN (
    SELECT coalesce(seen.seen_at_ms, 0) AS seen_at_ms, {STATE}
    FROM {{devices}}
    {SEEN}
    WHERE {{conditions}}
        AND {{place}} >= {{begin}}
        AND {{place}} <= coalesce((SELECT last FROM looked), {{end}})
    ORDER BY {{place}}
    LIMIT {{limit}}) AS found ON TRUE
WHERE log_heads.log_id = $1
ORDER BY found.device"""


_PAGE = _page_of(LOOKED)

_UNFILTERED_PAGE = _page_of("WITH looked AS MATERIALIZED (SELECT CAST(NULL AS text) AS last)")
"""Every device that it looks at is on the page, so the page's limit ends the look."""

_COUNT = f"""\
{LOOKED}
SELECT looked.last, cell.model, cell.version, cell.devices
FROM looked
LEFT JOIN (
    SELECT {{cell}}, count(*) AS devices
    FROM {{devices}} {{seen}}
    WHERE CAST($2 AS text) IS NOT NULL
        AND {{conditions}}
        AND {{place}} >= {{begin}}
        AND {{place}} <= coalesce((SELECT last FROM looked), {{end}})
    {{grouped}}) AS cell ON TRUE"""

_TOGETHER = {"cell": "CAST(NULL AS text) AS model, CAST(NULL AS text) AS version", "grouped": ""}
_BY_CELL = {
    "cell": "device.model, device.version",
    "grouped": "GROUP BY device.model, device.version",
}

_OF_LOG = f"device.log_id = $1 AND device.generation = {generation_of('device_current')}"


class IdSource(NamedTuple):
    """Says from where the ids come, in the order of `place`."""

    table: str
    place: str
    drive: str
    """The condition on the rows of `table` alone."""
    joins: str = ""
    """The condition that joins `device_current`; "": it is the table."""

    @property
    def devices(self) -> str:
        return f"{self.table} CROSS JOIN device_current AS device" if self.joins else self.table


_ALL = IdSource("device_current AS device", "device.device", _OF_LOG)

_FAILING = IdSource(
    "device_current AS device /*INDEXED BY device_current_failing*/",
    "device.device",
    f"{_OF_LOG} AND device.{IS_FAILING}",
)

_WAITING = IdSource(
    "device_current AS device /*INDEXED BY device_current_waiting*/",
    "device.device",
    f"{_OF_LOG} AND {WAITING}",
)

_SAYING = IdSource(
    "attribute_pairs AS said",
    "said.device",
    "said.project = $2 AND said.pair = $n",
    "device.device = said.device",
)

_EVER = IdSource(
    "device_attributes AS ever",
    "ever.device",
    f"""\
ever.log_id = $1
    AND ever.generation = {generation_of("device_attributes")}
    AND ever.cohort = $n""",
    """\
device.device = ever.device
    AND NOT EXISTS (
        SELECT 1
        FROM device_attributes AS earlier
        WHERE earlier.log_id = $1
            AND earlier.generation = ever.generation
            AND earlier.device = ever.device
            AND earlier.position < ever.position
            AND earlier.cohort = ever.cohort)""",
)
"""Has a row each time that a device came to the cohort: the first one stands for the device."""

_MADE = IdSource(
    "device_offers AS made",
    "made.device",
    f"""\
made.log_id = $1
    AND made.generation = {generation_of("device_offers")}
    AND made.source = $n""",
    """\
device.device = made.device
    AND NOT EXISTS (
        SELECT 1
        FROM device_offers AS other
        WHERE other.log_id = $1
            AND other.generation = made.generation
            AND other.device = made.device
            AND other.source = made.source
            AND other.version < made.version)""",
)
"""Has a row for each version that a rollback offered: the lowest one stands for the device."""


class DevicePage(NamedTuple):
    """Holds devices and the log's size; `last` is the device after which the next page begins, None
    at the end of the list."""

    size: int
    devices: list[CurrentDevice]
    last: str | None
    looked_at: int = 0
    """How many devices it looked at, if it ended because these are as many as it may."""


async def page(
    db: Reader, head: tuple[int, str], which: Filter, *, after: str, limit: int
) -> DevicePage:
    """Returns the next devices after `after`, by id. `head` is (log_id, project)."""
    found: list[CurrentDevice] = []
    size = 0
    for looked_at in looks(limit + 1, LOOKED_AT_MAX):
        wanted = limit + 1 - len(found)
        statement = _statement(head, which, after, (looked_at, wanted))
        rows = await db.read(statement)
        size, last = rows[0][0], rows[0][1]
        found += [current_device(row[2:]) for row in rows if row[3] is not None]
        if len(found) > limit:
            return DevicePage(size, found[:limit], found[limit - 1].state.device)
        if last is None:
            return DevicePage(size, found, None)
        after = last
    return DevicePage(size, found, after, LOOKED_AT_MAX)


def looks(wanted: int, most: int) -> Iterator[int]:
    """Yields how many devices each look reads: first as many as are wanted, and `most` in all."""
    left, look = most, wanted
    while left:
        look = min(look, left)
        yield look
        left -= look
        look *= _NEXT_LOOK


async def count(
    db: Reader, head: tuple[int, str], which: Filter, looked_at_max: int
) -> tuple[int, bool]:
    """Returns how many of the first `looked_at_max` devices that are looked at match, and whether
    these were all."""
    args: list[Value] = [*head]
    parts = looking(which._replace(outdated=None), "", looked_at_max, args)
    cells = _BY_CELL if which.outdated else _TOGETHER
    text = _COUNT.format(**parts, **cells, seen=_seen(which))
    rows = await db.read(Statement(text, tuple(args)))
    counts = [VersionCount(*cell) for _, *cell in rows if cell[2] is not None]
    if which.outdated:
        counts = [each for each in counts if which.outdated.finds(each)]
    return sum(int(each.devices) for each in counts), rows[0][0] is None


def _seen(which: Filter) -> str:
    """Returns the join that a count needs only for silent devices."""
    return "" if which.silent_since_ms is None else SEEN


def _conditions(which: Filter, args: list[Value]) -> tuple[list[str], list[Value]]:
    """Returns the conditions on the devices, without those of the source and of the look."""
    return conditions(which._replace(pairs=which.pairs[1:], prefix=None), args)


def _joined(source: IdSource, selecting: Sequence[str]) -> str:
    joins = [source.joins] if source.joins else []
    return " AND ".join([source.drive, *joins, _OF_LOG, *selecting])


def _statement(
    head: tuple[int, str], which: Filter, after: str, bounds: tuple[int, int]
) -> Statement:
    """Returns the statement that looks at the devices after `after`. `bounds` are how many it looks
    at, and how many it returns."""
    args: list[Value] = [*head]
    looked_at, wanted = bounds
    if which._replace(prefix=None) == Filter():
        parts = looking(which, after, wanted + 1, args)  # such a look would skip `wanted` devices
        return Statement(_UNFILTERED_PAGE.format(**parts, limit=parts["skipped"]), tuple(args))
    parts = looking(which, after, looked_at, args)
    args.append(wanted)
    return Statement(_PAGE.format(**parts, limit=f"${len(args)}"), tuple(args))


def looking(which: Filter, after: str, looked_at: int, args: list[Value]) -> dict[str, str]:
    """Returns the parts of a statement that looks at so many devices; adds its values to `args`."""
    source = source_of(which, args)
    selecting, _ = _conditions(which, args)
    parts = looked_parts(source, which.prefix, (after, looked_at), args)
    return {**parts, "devices": source.devices, "conditions": _joined(source, selecting)}


def looked_parts(
    source: IdSource, prefix: str | None, look: tuple[str, int], args: list[Value]
) -> dict[str, str]:
    """Returns the parts of `LOOKED` for a look, which is (the device that it begins after, how many
    it looks at); adds its values to `args`."""
    after, looked_at = look
    begin = max(f"{after}{_BEFORE_ANY}", prefix or "")
    args += [begin, f"{prefix or ''}{_AFTER_ANY}", looked_at - 1]
    numbers = [f"${len(args) - n}" for n in (2, 1, 0)]
    return {
        "place": source.place,
        "ids": source.table,
        "drive": source.drive,
        **dict(zip(("begin", "end", "skipped"), numbers, strict=True)),
    }


def source_of(which: Filter, args: list[Value]) -> IdSource:
    """Returns the source that the most selective index of a filter gives; adds what it compares
    with to `args`."""

    def compared(condition: str, value: Value) -> str:
        args.append(value)
        return condition.replace("$n", f"${len(args)}")

    assert not (which.pairs and which.offered_by), "only one of them can give the ids"
    if which.pairs:
        return _SAYING._replace(drive=compared(_SAYING.drive, which.pairs[0]))
    if which.offered_by is not None:
        return _MADE._replace(drive=compared(_MADE.drive, which.offered_by))
    if which.failing:
        return _FAILING
    if which.waiting:
        return _WAITING
    if which.cohort is not None:
        return _EVER._replace(drive=compared(_EVER.drive, which.cohort))
    return _ALL
