"""Packs reports for the process that writes, and their receipts for the way back.

`Database.play` pickles all that crosses to another process, and pickle takes ten times as long for
these structs as msgpack. Values that msgpack has no form for are pickled as usual: half of a
surrogate pair, which some protocols let through in free text, a number of more than 64 bits, a
refusal, and the need for pruned entries.
"""

from collections.abc import Callable, Sequence
from typing import override

import msgspec

from firmtrail.database.database import Script
from firmtrail.recording.commit import Committed, LogContext
from firmtrail.recording.reports import (
    IdentifiedUnit,
    ReportReceipt,
    UnitOutcome,
    record_reports,
)

_encode = msgspec.msgpack.Encoder().encode
_units = msgspec.msgpack.Decoder(list[IdentifiedUnit])
_receipts = msgspec.msgpack.Decoder(list[list[ReportReceipt]])

type _Unpacking = tuple[Callable[..., object], tuple[object]]
"""A function and its argument, by which pickle makes an object again."""


class SentUnits:
    """Gives the units of a batch, here or where they were sent to."""

    def __init__(self, units: Sequence[IdentifiedUnit]) -> None:
        self._units = units

    def __call__(self) -> Sequence[IdentifiedUnit]:
        return self._units

    @override
    def __reduce__(self) -> _Unpacking:
        try:
            return _units_of, (_encode(self._units),)
        except (UnicodeEncodeError, OverflowError):
            return SentUnits, (self._units,)


class SentOutcomes(list[UnitOutcome]):
    """Lists the outcomes of units."""

    @override
    def __reduce__(self) -> _Unpacking:
        if all(type(each) is ReportReceipt for unit in self for each in unit):
            return _receipts_of, (_encode(self),)
        return list, ([*self],)


def record_sent(
    log_id: int, context: LogContext, take: SentUnits
) -> Script[tuple[Committed, list[UnitOutcome]]]:
    """Plays one commit as `record_reports` does."""
    committed, outcomes = yield from record_reports(log_id, context, take)
    return committed, SentOutcomes(outcomes)


def _units_of(packed: bytes) -> SentUnits:
    return SentUnits(_units.decode(packed))


def _receipts_of(packed: bytes) -> list[list[ReportReceipt]]:
    return _receipts.decode(packed)
