"""Opens what an audit relies on: the database for reading, keys, and checkpoints kept outside
it."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout

from firmtrail import config
from firmtrail.audit import notes
from firmtrail.audit.logs import AuditedLog
from firmtrail.audit.project import KeyLookup, Trusted
from firmtrail.cli.assembly import check_schema, checkpoints_store
from firmtrail.cli.back_ends import back_end
from firmtrail.cli.output import note
from firmtrail.database.database import Database
from firmtrail.exits import CouldNotRun
from firmtrail.publishing import checkpoint_store, signing_key
from firmtrail.publishing.checkpoint import BadNote, Verifier, read_key_line, verifier

ANSWER_TIMEOUT_S = 60


@contextlib.asynccontextmanager
async def opened_to_read(database: config.DatabaseUrl) -> AsyncIterator[Database]:
    """Opens the database next to any process that has it open; an audit writes nothing."""
    async with back_end(database).opened_to_read() as db:
        await check_schema(db, database)
        yield db


@contextlib.asynccontextmanager
async def web(token: str | None) -> AsyncIterator[ClientSession]:
    """Opens a session that reads with the token's rights; a URL may contain its own credential."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = ClientTimeout(total=ANSWER_TIMEOUT_S)
    async with ClientSession(headers=headers, timeout=timeout) as session:
        yield session


def key_lines(given: str | None) -> list[str]:
    """Reads the verifier keys of --key: a line, or a file of lines."""
    if given is None:
        return []
    lines = [given]
    if Path(given).is_file():
        lines = [line for line in Path(given).read_text().splitlines() if line.strip()]
    for line in lines:
        try:
            read_key_line(line)
        except BadNote as error:
            raise CouldNotRun(_bad_key(given, error)) from error
    return lines


def _bad_key(given: str, error: BadNote) -> str:
    if Path(given).exists() or "+" in given:
        return f"--key {given}: {error}."
    return (
        f"--key {given}: there is no such file, and it is not a verifier key line "
        "(NAME+ID+KEY) itself."
    )


async def trusted(database: config.DatabaseUrl, key: str | None, since: Path | None) -> Trusted:
    """Returns what the database's logs are compared with. Call it before reading the database: a
    log only grows, so it then has at least what these checkpoints sign."""
    location = database.published
    if location is None or (isinstance(location, Path) and not location.exists()):
        note("Without --checkpoints-file, the log is not compared with the published checkpoints.")
    try:
        published = await checkpoints_store(location).read() if location is not None else {}
    except checkpoint_store.BadStore as error:
        raise CouldNotRun(f"{error}.") from error
    return Trusted(keys(database, key), published, earlier(since))


def earlier(since: Path | None) -> dict[str, str]:
    """Reads the checkpoints of --from."""
    try:
        return notes.read(since) if since is not None else {}
    except BadNote as error:
        raise CouldNotRun(f"--from: {error}.") from error


def keys(database: config.DatabaseUrl, given: str | None) -> KeyLookup:
    """Returns the keys of --key, or else the key that signs the database's logs. A log that was
    moved here has its key in the log that continues it; only --key replaces that."""
    lines = key_lines(given)
    if lines:
        return _among([read_key_line(line) for line in lines])
    file = database.key
    if file is None or not file.exists():
        note("No signature is checked, because no key is known: give the verifier key with --key.")
        return lambda log: log.key
    try:
        public = signing_key.read(file).public_key()
    except signing_key.BadKey as error:
        raise CouldNotRun(f"{error}.") from error
    return lambda log: log.key or verifier(log.name, public)


def _among(known: Sequence[Verifier]) -> KeyLookup:
    by_name = {each.name: each for each in known}

    def key(log: AuditedLog) -> Verifier:
        if log.name not in by_name:
            raise CouldNotRun(f"No key of --key belongs to {log.name}: add its verifier key.")
        return by_name[log.name]

    return key
