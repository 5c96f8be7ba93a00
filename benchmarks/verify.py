"""Checks that every acknowledged report is in the log: all of them, not a sample."""

import http.client
import time
from collections.abc import Iterator

import msgspec

from benchmarks import fleet
from benchmarks.fleet import Sent
from benchmarks.load import Result

TIMEOUT_S = 600
READ_BYTES = 1 << 20


class Receipt(msgspec.Struct):
    """Holds the service's answer to a report."""

    log: int
    position: int
    duplicate: bool


class Entry(msgspec.Struct):
    """Holds the members of an entry that identify a report."""

    id: str
    subject: str


_one = msgspec.json.Decoder(Receipt)
_many = msgspec.json.Decoder(list[Receipt])
_entry = msgspec.json.Decoder(Entry)


class Ledger:
    """Holds the reports that the service of one log acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: dict[int, tuple[str, str]] = {}
        """position -> (device, report id)"""
        self.faults: list[str] = []

    def enter(self, sent: list[Sent], result: Result) -> None:
        """Enters the receipts of a load."""
        self.faults += [f"failed: {failure[:300]}" for failure in result.failures[:3]]
        for number, body in result.kept:
            reports = sent[number].reports
            receipts = _many.decode(body) if body[:1] == b"[" else [_one.decode(body)]
            for receipt, report in zip(receipts, reports, strict=True):
                if receipt.duplicate or receipt.position in self.acknowledged:
                    self.faults.append(f"{report} was sent once, but the answer is {receipt}")
                self.acknowledged[receipt.position] = report

    def check(self, port: int, token: str) -> None:
        """Compares them with the log, from the first acknowledged position to its end."""
        recorded = {}
        expected = min(self.acknowledged, default=0)
        for line in _lines(port, token, f"positions=true&from={expected}"):
            text, _, entry_text = line.partition(b"\t")
            position, entry = int(text), _entry.decode(entry_text)
            if position != expected:
                self.faults.append(f"position {position} comes in place of {expected}")
            expected = position + 1
            if entry.id.startswith("r."):
                recorded[position] = (entry.subject.removeprefix("device/"), entry.id[2:])
        missing = self.acknowledged.items() - recorded.items()
        unknown = recorded.keys() - self.acknowledged.keys()
        self.faults += [f"acknowledged, but not in the log: {each}" for each in sorted(missing)[:3]]
        self.faults += [
            f"in the log, but never acknowledged: {each}" for each in sorted(unknown)[:3]
        ]


def replayed_per_s(port: int, token: str, events: int) -> float:
    """Returns how many events per second one reader of the log gets."""
    began, lines = time.perf_counter(), 0
    with _reading(port, token, f"limit={events}") as answer:
        while chunk := answer.read(READ_BYTES):
            lines += chunk.count(b"\n")
    return lines / (time.perf_counter() - began)


def _lines(port: int, token: str, query: str) -> Iterator[bytes]:
    with _reading(port, token, query) as answer:
        rest = b""
        while chunk := answer.read(READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines


def _reading(port: int, token: str, query: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    headers = {"Authorization": f"Bearer {token}"}
    connection.request("GET", f"{fleet.P}/events?{query}", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    return answer
