"""What an audit says is wrong: where, and what."""

from typing import NamedTuple

SHOWN_MAX = 100


class Finding(NamedTuple):
    """Something that is not what the log says, or not what was published."""

    log: str
    """The log's origin; where it lies, if its checkpoint can't be opened."""
    where: str
    """A position, a row or a file."""
    what: str


class Findings:
    """Those found so far: all are counted, the first are kept."""

    def __init__(self) -> None:
        self.count = 0
        self.kept: list[Finding] = []

    def add(self, log: str, where: str, what: str) -> None:
        self.count += 1
        if len(self.kept) < SHOWN_MAX:
            self.kept.append(Finding(log, where, what))
