"""Checks that the columns and the text of each event agree with its entry. Pure.

The columns of `events` are an index over the entry. A text that is stored outside the entry must
have the salted hash that the entry holds. A missing text was erased, and an event records that.
"""

from hashlib import sha256

import msgspec

from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.events.entry import decode, envelope_of
from firmtrail.events.event import Recorded
from firmtrail.events.log import TextErased
from firmtrail.eventstore.stored_events import StoredEvent

UNREADABLE = (msgspec.MsgspecError, ValueError, KeyError)
"""The exceptions of `events.decode`."""


class ColumnCheck:
    """Checks the events of a log, one after another from the position `start` on."""

    def __init__(self, log: AuditedLog, start: int, findings: Findings) -> None:
        self._log = log
        self._start = start
        self._findings = findings
        self.recorded_at_ms = 0
        """The time of the last event that was checked."""
        self.control_count = 0
        self.nudge_count = 0
        self._without_text: set[int] = set()

    def check(self, stored: StoredEvent) -> None:
        try:
            recorded = decode(stored.position, stored.entry)
            source = envelope_of(stored.entry).source
        except UNREADABLE as error:
            self._add(stored.position, f"the entry is not a Firmtrail event: {error}")
            return
        self._check_columns(stored, recorded, source)
        self._check_text(stored, recorded)
        if isinstance(recorded.event, TextErased) and recorded.event.log is None:
            self.note_erasure(stored.position, recorded.event.position)
        self.control_count += recorded.event.IS_CONTROL
        self.nudge_count += recorded.event.IS_NUDGE
        self.recorded_at_ms = recorded.recorded_at_ms

    def _check_columns(self, stored: StoredEvent, recorded: Recorded, source: str) -> None:
        columns = {
            "recorded_at_ms": (stored.recorded_at_ms, recorded.recorded_at_ms),
            "stream": (stored.stream, recorded.stream),
            "event_id": (stored.event_id, recorded.event_id),
            "project": (f"/projects/{self._log.project}/{recorded.stream}", source),
        }
        for name, (found, expected) in columns.items():
            if found != expected:
                self._add(stored.position, f"{name} is {found!r}, but its entry says {expected!r}")
        if recorded.recorded_at_ms < self.recorded_at_ms:
            self._add(stored.position, "its time is earlier than that of the event before it")

    def _check_text(self, stored: StoredEvent, recorded: Recorded) -> None:
        hashed = getattr(recorded.event, recorded.event.TEXT) if recorded.event.TEXT else None
        if stored.text is None or stored.salt is None:
            if hashed is not None:
                self._without_text.add(stored.position)
        elif hashed is None:
            self._add(stored.position, "a text is stored for it, but its entry has none")
        elif hashed != salted(stored.salt, stored.text):
            self._add(stored.position, "its stored text does not match the hash in its entry")

    def note_erasure(self, position: int, erased: int) -> None:
        """Notes that the event at `position` records the erasure of the text of `erased`."""
        if erased >= self._start and erased not in self._without_text:
            what = f"its text is still stored, although position {position} records its erasure"
            self._add(erased, what)
        self._without_text.discard(erased)

    def unexplained(self) -> set[int]:
        """Returns the positions whose text is missing without an event that records its erasure.
        The event may have been appended since: then the caller passes it to `note_erasure`."""
        return self._without_text

    def _add(self, position: int, what: str) -> None:
        self._findings.add(self._log.name, f"position {position}", what)


def salted(salt: str, text: str) -> str:
    """Returns the hash that an entry has for a text; "" if the salt is not hexadecimal."""
    try:
        return sha256(bytes.fromhex(salt) + text.encode()).hexdigest()
    except ValueError:
        return ""
