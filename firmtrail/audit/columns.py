"""Is what stands beside an entry what the entry says? Of one event after another: pure.

The columns of `events` are an index over the entry, and a text beside the log is the one whose
salted hash the entry holds. A text that is not there was erased, and an event says so.
"""

from hashlib import sha256
from typing import NamedTuple

import msgspec

from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import Log
from firmtrail.events.entry import decode, envelope_of
from firmtrail.events.event import Recorded
from firmtrail.events.log import TextErased

UNREADABLE = (msgspec.MsgspecError, ValueError, KeyError)
"""What `events.decode` raises."""


class Stored(NamedTuple):
    """An event as its row has it, with the text beside it."""

    position: int
    recorded_at_ms: int
    stream: str
    event_id: str
    entry: str
    salt: str | None
    text: str | None


class Columns:
    """What was seen of a log so far."""

    def __init__(self, log: Log, start: int, findings: Findings) -> None:
        self._log = log
        self._start = start
        self._findings = findings
        self.recorded_at_ms = 0
        """The time of the last event."""
        self.control_count = 0
        self.nudge_count = 0
        self._without_text: set[int] = set()

    def see(self, stored: Stored) -> None:
        """The next event."""
        try:
            recorded = decode(stored.position, stored.entry)
            source = envelope_of(stored.entry).source
        except UNREADABLE as error:
            self._add(stored.position, f"the entry is none of ours: {error}")
            return
        self._compare(stored, recorded, source)
        self._see_text(stored, recorded)
        if isinstance(recorded.event, TextErased) and recorded.event.log is None:
            self.see_erasure(stored.position, recorded.event.position)
        self.control_count += recorded.event.IS_CONTROL
        self.nudge_count += recorded.event.IS_NUDGE
        self.recorded_at_ms = recorded.recorded_at_ms

    def _compare(self, stored: Stored, recorded: Recorded, source: str) -> None:
        said = {
            "recorded_at_ms": (stored.recorded_at_ms, recorded.recorded_at_ms),
            "stream": (stored.stream, recorded.stream),
            "event_id": (stored.event_id, recorded.event_id),
            "project": (f"/projects/{self._log.project}/{recorded.stream}", source),
        }
        for name, (found, expected) in said.items():
            if found != expected:
                self._add(stored.position, f"{name} is {found!r}, its entry says {expected!r}")
        if recorded.recorded_at_ms < self.recorded_at_ms:
            self._add(stored.position, "its time is before that of the event before it")

    def _see_text(self, stored: Stored, recorded: Recorded) -> None:
        hashed = getattr(recorded.event, recorded.event.TEXT) if recorded.event.TEXT else None
        if stored.text is None or stored.salt is None:
            if hashed is not None:
                self._without_text.add(stored.position)
        elif hashed is None:
            self._add(stored.position, "a text lies beside it that its entry does not name")
        elif hashed != salted(stored.salt, stored.text):
            self._add(stored.position, "the text beside it is not the one that was hashed")

    def see_erasure(self, position: int, erased: int) -> None:
        """The event at `position` says that the text beside `erased` is gone."""
        if erased >= self._start and erased not in self._without_text:
            self._add(erased, f"position {position} says that its text was erased: it is there")
        self._without_text.discard(erased)

    def unexplained(self) -> set[int]:
        """The positions whose text is missing, and no event so far says that it was erased.

        A text may be erased while its log is read: `see_erasure` what was added behind its end.
        """
        return self._without_text

    def _add(self, position: int, what: str) -> None:
        self._findings.add(self._log.name, f"position {position}", what)


def salted(salt: str, text: str) -> str:
    """The hash that an entry holds of a text. A salt that is no hex matches nothing."""
    try:
        return sha256(bytes.fromhex(salt) + text.encode()).hexdigest()
    except ValueError:
        return ""
