"""Moves a project between two databases of a kind, for tests, by the steps of the command."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from firmtrail import config
from firmtrail.access import attributes, projects
from firmtrail.access.reads import Read, Reads
from firmtrail.audit import logs as audited
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.audit.project import Trusted
from firmtrail.cli import audit_database
from firmtrail.cli.audit_database import AuditScope
from firmtrail.commands import move_project
from firmtrail.commands.webhooks import WebhookTerms, add_webhook
from firmtrail.database.database import Database
from firmtrail.events.log import ProjectMoveStarted
from firmtrail.eventstore import log
from firmtrail.moving import arrival, check, logs
from firmtrail.moving.arrival import Arriving, EndOfLog
from firmtrail.publishing import signing_key
from firmtrail.publishing.checkpoint import key_line, verifier
from firmtrail.publishing.minimum_sizes import LogName, MinimumSizes
from firmtrail.publishing.published_file import CheckpointFile
from firmtrail.publishing.publisher import Publisher
from firmtrail.publishing.signer import Signer
from firmtrail.recording.recorder import Recorder
from tests import databases
from tests.databases import INSTANCE, sqlite_template, write
from tests.filled import Files, filled
from tests.postgres_server import PostgresServer

WANTED = ProjectMoveStarted("eu", "https://eu.example")


class Move:
    """Two databases, and the end of the log that moves."""

    def __init__(self, source: Database, target: Database, publisher: Publisher) -> None:
        self.source, self.target, self.publisher = source, target, publisher
        self.recorder = Recorder(source, publisher.minimum_sizes)
        self.log_id = 0

    async def stop(self) -> EndOfLog:
        newest = await projects.newest_log(self.source, "acme")
        assert newest is not None
        self.log_id = newest[0]
        stopped = await move_project.start(
            self.source, self.recorder, self.log_id, wanted=WANTED, actor="system"
        )
        await self.publisher.following.round()
        note = await self.publisher.served.covering(self.log_id, stopped.size)
        key = await self.publisher.served.verifier(LogName("acme", stopped.number))
        return EndOfLog(await log.head(self.source, self.log_id), note.note, key_line(key))

    async def copy(self) -> dict[int, int]:
        heads = await log.logs(self.source, "acme", after=0, limit=10)
        return {
            head.log_id: await logs.copy(self.source, self.target, head, nothing) for head in heads
        }

    async def originals(self) -> list[AuditedLog]:
        findings = Findings()
        originals = await audited.of_project(self.source, INSTANCE, "acme", findings)
        assert findings.kept == []
        return originals

    async def check(self) -> None:
        originals = await self.originals()
        public = self.publisher.signer.key.public_key()
        trusted = Trusted(lambda each: each.key or verifier(each.name, public), {}, {})
        await check.check(originals, self.target, trusted, lambda _title, _total: nothing)

    async def arrive(self) -> tuple[EndOfLog, Arriving]:
        end, copies = await self.stop(), await self.copy()
        await self.check()
        log_id = await arrival.prepare(self.target, end.head, copies[end.head.log_id])
        await arrival.fold_views(self.target, log_id, nothing)
        return end, Arriving(self.source, end, log_id, copies)


def nothing(_entries: int) -> None:
    pass


@contextlib.asynccontextmanager
async def other_database(back_end: PostgresServer | None, folder: Path) -> AsyncIterator[str]:
    if back_end is None:
        path = folder / "other.db"
        path.write_bytes(sqlite_template())
        yield f"sqlite:///{path}"
        return
    with back_end.fresh_database(databases.postgres_template(back_end)) as url:
        yield url


async def source(db: Database) -> Files:
    """Fills a database with data of every kind, in the logs and next to them."""
    files = await filled(db)
    await _add_the_rest(db)
    return files


@contextlib.asynccontextmanager
async def new_move(
    db: Database, files: Files, other_url: str, tmp_path: Path
) -> AsyncIterator[Move]:
    """Moves a copy of what `source` made; the other database belongs to the instance eu."""
    files.write(tmp_path / "filled")
    signer = Signer(INSTANCE, signing_key.read(tmp_path / "filled.key"))
    store = CheckpointFile(tmp_path / "filled.checkpoints")
    publisher = Publisher(db, MinimumSizes(), signer, store)
    await publisher.check()
    async with databases.opened(other_url) as target:
        await write(target, "UPDATE instance SET name = 'eu'")
        found = Move(db, target, publisher)
        yield found
        await found.recorder.close()


async def _add_the_rest(db: Database) -> None:
    newest, recorder = await projects.newest_log(db, "acme"), Recorder(db)
    assert newest is not None
    terms = WebhookTerms(url="https://hooks.example.org/x", notices=("halted",))
    await recorder.act(newest[0], add_webhook(terms, actor="system"))
    await recorder.close()
    pairs = {"place": "Bern", "owner": "Ann"}
    await attributes.change(db, ("acme", "d1"), "replace", pairs, now_ms=7)
    reads = Reads(db)
    for n in range(3):
        await reads.add(Read("acme", n, f"r{n}", "user/u", "/devices/d1", "{}", "192.0.2.1"))
    await write(db, "INSERT INTO device_seen VALUES ('acme', 'd1', 9)")
    await write(
        db,
        "INSERT INTO idempotency_keys (actor_id, key, fingerprint, status, answer, log_id, "
        "position, stop, expires_at_ms) "
        "VALUES ('u', 'k', 'f', 201, '{}', $1, 0, 1, 9000000000000)",
        newest[0],
    )


async def wrong(url: str, *, verify: bool) -> list[tuple[str, str]]:
    findings, wanted = Findings(), AuditScope(config.database(url), "acme", None)
    if verify:
        await audit_database.verify(wanted, None, None, findings)
    else:
        await audit_database.replay(wanted, findings)
    return [(each.where, each.what) for each in findings.kept]
