"""Collects the findings of an audit."""

from typing import NamedTuple

from firmtrail.database.database import Database

SHOWN_MAX = 100


class Finding(NamedTuple):
    """Describes a place that differs from the log, or from the published checkpoints."""

    log: str
    """The log's origin, or the address of a log whose checkpoint can't be opened."""
    where: str
    """A position, a row or a file."""
    what: str


class Findings:
    """Counts all findings and keeps the first `SHOWN_MAX` of them."""

    def __init__(self) -> None:
        self.count = 0
        self.kept: list[Finding] = []

    def add(self, log: str, where: str, what: str) -> None:
        self.count += 1
        if len(self.kept) < SHOWN_MAX:
            self.kept.append(Finding(log, where, what))


class ProjectAudit(NamedTuple):
    """Holds what all steps of the audit of a project need; findings show it as `name`."""

    db: Database
    project: str
    name: str
    findings: Findings

    def add(self, where: str, what: str) -> None:
        self.findings.add(self.name, where, what)
