"""Keeps what devices say of themselves. Holds all SQL of `reported_attributes`, `attribute_pairs`.

These rows change, and nothing of them is in the log, so an attribute that is removed is gone. A
device without attributes has no row.
"""

from collections.abc import Callable, Iterable

import msgspec

from firmtrail.database.database import Database, Given, Reader, Statement, Transaction
from firmtrail.rules import attributes as rules
from firmtrail.rules.attributes import Attributes, Mode


class ReportedAttributes(msgspec.Struct, frozen=True):
    """Holds a device's attributes, and the time of their last change; None: it has none."""

    data: dict[str, str]
    changed_at_ms: int | None = None


NONE = ReportedAttributes({})

_READ = """\
SELECT data, changed_at_ms
FROM reported_attributes
WHERE project = $1 AND device = $2
LIMIT 1"""

_LOCK = """\
INSERT INTO reported_attributes (project, device, data, changed_at_ms)
VALUES ($1, $2, '{}', 0)
ON CONFLICT (project, device) DO UPDATE
SET data = reported_attributes.data
RETURNING data"""
"""Locks the device's row, and gives what it holds once the lock is there."""

_SAVE = """\
UPDATE reported_attributes
SET data = $3, changed_at_ms = $4
WHERE project = $1 AND device = $2"""

_FORGET = """\
DELETE FROM reported_attributes
WHERE project = $1 AND device = $2"""

_ADD_PAIRS = """\
INSERT INTO attribute_pairs (project, pair, device)
SELECT $1, given.pair, $2
FROM given
WHERE TRUE
ON CONFLICT (project, pair, device) DO NOTHING"""

_REMOVE_PAIRS = """\
DELETE FROM attribute_pairs
WHERE project = $1 AND device = $2 AND pair IN (SELECT given.pair FROM given)"""


def decoded(data: str | None) -> dict[str, str]:
    """Returns the attributes in the column `data`; None stands for no row."""
    return {} if data is None else msgspec.json.decode(data, type=dict[str, str])


async def read(db: Reader, project: str, device: str) -> ReportedAttributes:
    """Returns the device's attributes."""
    rows = await db.read(Statement(_READ, (project, device)))
    return ReportedAttributes(decoded(rows[0][0]), rows[0][1]) if rows else NONE


async def change(
    db: Database,
    whose: tuple[str, str],
    mode: Mode,
    data: Attributes,
    *,
    now_ms: int,
    changed: Callable[[Attributes, Mode, Attributes], dict[str, str]] = rules.changed,
) -> ReportedAttributes:
    """Changes a device's attributes and returns them. `whose` is (project, device); `changed`
    decides what they are afterwards. A change that changes nothing writes nothing. Raises `Refused`
    if `changed` does."""
    before = await read(db, *whose)
    if changed(before.data, mode, data) == before.data:
        return before
    async with db.transaction() as tx:
        [[[locked]]] = await tx.run(Statement(_LOCK, whose))
        old = decoded(locked)
        new = changed(old, mode, data)
        await _write(tx, whose, old, new, now_ms=now_ms)
    return ReportedAttributes(new, now_ms) if new else NONE


async def forget(db: Database, project: str, device: str) -> None:
    """Removes all that the device said of itself. `Database.scrub` removes the traces."""
    async with db.transaction() as tx:
        [[[locked]]] = await tx.run(Statement(_LOCK, (project, device)))
        await _write(tx, (project, device), decoded(locked), {}, now_ms=0)


async def _write(
    tx: Transaction, whose: tuple[str, str], old: Attributes, new: Attributes, *, now_ms: int
) -> None:
    had, has = rules.pairs(old), rules.pairs(new)
    text = msgspec.json.encode(new, order="sorted").decode()
    kept = Statement(_SAVE, (*whose, text, now_ms)) if new else Statement(_FORGET, whose)
    await tx.run(
        kept,
        Statement(_REMOVE_PAIRS, whose, _pairs(had - has)),
        Statement(_ADD_PAIRS, whose, _pairs(has - had)),
    )


def _pairs(digests: Iterable[str]) -> Given:
    return Given("pair text", [(each,) for each in sorted(digests)])
