"""How the service is put together: database, credentials, recorder, application, in this order.

Each is a lifetime inside the one before it; leaving ends them from the innermost, so what was
accepted is recorded before the database closes.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence

import structlog
from aiohttp import web

from firmtrail import config
from firmtrail.access import Access, Hasher
from firmtrail.artifacts import Artifacts
from firmtrail.commands import demo
from firmtrail.eventstore import checkpoint, migrations, outside, signing_key
from firmtrail.eventstore.checkpoint import BadNote
from firmtrail.eventstore.database import Database
from firmtrail.eventstore.floors import Floors
from firmtrail.eventstore.postgres import Pooler, Postgres
from firmtrail.eventstore.publisher import Publisher, Signer
from firmtrail.eventstore.sqlite import SQLite
from firmtrail.http import app
from firmtrail.http.call import Services
from firmtrail.http.connection import Runner
from firmtrail.main import CouldNotRun
from firmtrail.record import Recorder

_log = structlog.get_logger("firmtrail")


@contextlib.asynccontextmanager
async def opened(
    database: config.Database, *, apart: Sequence[str] = ()
) -> AsyncIterator[Database]:
    """Connect; an embedded file is held from here to the end; `apart` as `SQLite.open` takes it.

    Raises `Locked`, `Unavailable`.
    """
    db: Database
    if isinstance(database, config.Embedded):
        db = await SQLite.open(database.path, apart=apart)
    else:
        try:
            db = await Postgres.open(database.url, Pooler(database.pooler))
        except ValueError as error:
            raise CouldNotRun(f"--database: {error}") from error
    try:
        yield db
    finally:
        await db.close()


@contextlib.asynccontextmanager
async def working(
    db: Database, serving: config.Serving, local_socket: str | None = None
) -> AsyncIterator[Services]:
    """What the application works with; callers over `local_socket` need no credential.

    What is recorded until the end is published before it ends.
    """
    database, floors = serving.database, Floors()
    publisher = await _publisher(db, serving, floors)
    hasher, recorder = Hasher(), Recorder(db, floors)
    try:
        yield app.services(
            db,
            Access(db, hasher, local_socket=local_socket),
            recorder,
            publisher=publisher,
            folder=database.path.parent if isinstance(database, config.Embedded) else None,
            metrics_folder=serving.metrics_folder,
            artifacts=_artifacts(serving),
            artifact_bytes_max=serving.artifact_bytes_max,
            seed_project=serving.seed_project,
            is_demo=serving.is_demo,
            write_timeout_s=serving.write_timeout_s,
            streams_max=serving.streams_max,
        )
    finally:
        await recorder.close()
        hasher.close()
        if publisher is not None:
            await publisher.round()


async def _publisher(db: Database, serving: config.Serving, floors: Floors) -> Publisher | None:
    """Where there is a key: what publishes, every log compared with its last checkpoint.

    Raises `CouldNotRun` where that can't be done. That a log differs is no reason: reads go on.
    """
    signing = signing_of(serving)
    if signing is None or not signing.key.exists():
        return None
    try:
        signer = Signer(serving.instance, signing_key.read(signing.key))
        publisher = Publisher(db, floors, signer, signing.checkpoints)
        await publisher.check()
    except (signing_key.BadKey, outside.BadFile) as error:
        raise CouldNotRun(f"{error}.") from error
    except BadNote as error:
        raise CouldNotRun(
            f"{signing.checkpoints} and {signing.key} do not belong together: {error}."
        ) from error
    return publisher


def signing_of(serving: config.Serving) -> config.Signing | None:
    """With what the server signs; None: it publishes nothing. Raises `CouldNotRun`."""
    try:
        signing = serving.database.signing
    except config.BadSetting as error:
        raise CouldNotRun(f"{error}.") from error
    if signing is None or not checkpoint.is_name(serving.instance):
        return None
    if signing.checkpoints.exists() and not signing.key.exists():
        raise CouldNotRun(
            f"{signing.key} is gone, which signed {signing.checkpoints}: bring it back. "
            "See docs/operations.md for when it is lost."
        )
    return signing


def ensure_key(serving: config.Serving) -> None:
    """The first server on an embedded database makes its key; who publishes nothing is told so."""
    signing = signing_of(serving)
    if signing is None:
        _log.warning("no checkpoints are published", why="no --signing-key-file is given")
    elif isinstance(serving.database, config.Embedded) and not signing.key.exists():
        signing_key.create(signing.key)


def _artifacts(serving: config.Serving) -> Artifacts | None:
    place, database = serving.artifacts, serving.database
    if place is None and isinstance(database, config.Embedded):
        place = database.artifacts
    return None if place is None else Artifacts(place)


async def ensure_demo(services: Services) -> None:
    """Populate the demo project, unless it is there."""
    project = services.seed_project
    assert project is not None
    if await services.access.project(project) is None:
        above = services.recorder.floors.number(project)
        await demo.populate(services.db, services.access.hasher, project, None, above=above)


def runner(services: Services) -> web.AppRunner:
    return Runner(app.build(services), **app.RUNNER_OPTIONS)


async def check(db: Database, serving: config.Serving) -> None:
    """Raises `CouldNotRun` where this code can't work with the database, or it is another's."""
    if not await migrations.is_usable(db):
        raise CouldNotRun(
            f"{serving.database} has no schema, or an older or newer version's: "
            "run `firmtrail migrate` of this version."
        )
    name = await migrations.instance(db)
    if name != serving.instance:
        raise CouldNotRun(
            f"{serving.database} belongs to the instance {name}, not to {serving.instance}: "
            "say --instance, or use another database."
        )
