"""What an audit stands on: the database opened to be read, keys, and checkpoints from outside."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout

from firmtrail import config
from firmtrail.audit import notes
from firmtrail.audit.project import KeyLookup, Trusted
from firmtrail.cli import parts
from firmtrail.cli.output import note
from firmtrail.database.database import Database
from firmtrail.database.sqlite import SQLite
from firmtrail.exits import CouldNotRun
from firmtrail.publishing import checkpoint_store, signing_key
from firmtrail.publishing.checkpoint import BadNote, Verifier, read_key_line, verifier
from firmtrail.schema import migrations

ANSWER_TIMEOUT_S = 60


@contextlib.asynccontextmanager
async def reading(database: config.Database) -> AsyncIterator[Database]:
    """Open the database next to any process that has it open; nothing can be written."""
    if isinstance(database, config.Cluster):
        async with parts.opened(database) as db:
            await _check_schema(db, database)
            yield db
        return
    if not database.path.exists():
        raise CouldNotRun(
            f"There is no database {database.path.absolute()}: name another with --database."
        )
    embedded = await SQLite.open_read_only(database.path)
    try:
        await _check_schema(embedded, database)
        yield embedded
    finally:
        await embedded.close()


async def _check_schema(db: Database, database: config.Database) -> None:
    if not await migrations.is_usable(db):
        raise CouldNotRun(
            f"{database} does not have the schema of this version: run `firmtrail migrate` first."
        )


@contextlib.asynccontextmanager
async def web(token: str | None) -> AsyncIterator[ClientSession]:
    """A session that reads as the token's holder; a URL may carry a credential of its own."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = ClientTimeout(total=ANSWER_TIMEOUT_S)
    async with ClientSession(headers=headers, timeout=timeout) as session:
        yield session


def key_lines(given: str | None) -> list[str]:
    """The verifier keys of --key: a line, or a file of them."""
    if given is None:
        return []
    lines = [given]
    if Path(given).is_file():
        lines = [line for line in Path(given).read_text().splitlines() if line.strip()]
    for line in lines:
        try:
            read_key_line(line)
        except BadNote as error:
            raise CouldNotRun(f"--key {given}: {error}.") from error
    return lines


async def trusted(database: config.Database, key: str | None, since: Path | None) -> Trusted:
    """What the database's logs are compared with. Read before the database is: it only grows."""
    place = database.checkpoints
    if isinstance(database, config.Embedded):
        place = database.signing.checkpoints
    if place is None or (isinstance(place, Path) and not place.exists()):
        note("Without --checkpoints-file, the log is not compared with what was published outside.")
    try:
        published = await parts.checkpoints_store(place).read() if place is not None else {}
    except checkpoint_store.BadStore as error:
        raise CouldNotRun(f"{error}.") from error
    return Trusted(keys(database, key), published, seen(since))


def seen(since: Path | None) -> dict[str, str]:
    """The checkpoints of --from."""
    try:
        return notes.read(since) if since is not None else {}
    except BadNote as error:
        raise CouldNotRun(f"--from: {error}.") from error


def keys(database: config.Database, given: str | None) -> KeyLookup:
    """Those of --key, else the one that signs the database's logs."""
    lines = key_lines(given)
    if lines:
        return _among([read_key_line(line) for line in lines])
    file = database.key_file
    if isinstance(database, config.Embedded):
        file = database.signing.key
    if file is None or not file.exists():
        note("No key is known, so no signature is checked: give the log's verifier key with --key.")
        return lambda _: None
    try:
        public = signing_key.read(file).public_key()
    except signing_key.BadKey as error:
        raise CouldNotRun(f"{error}.") from error
    return lambda origin: verifier(origin, public)


def _among(known: Sequence[Verifier]) -> KeyLookup:
    by_name = {each.name: each for each in known}

    def key(origin: str) -> Verifier:
        if origin not in by_name:
            raise CouldNotRun(
                f"None of the keys of --key belongs to {origin}: give its verifier key."
            )
        return by_name[origin]

    return key
