"""How the service is put together: database, credentials, recorder, application, in this order.

Each is a lifetime inside the one before it; leaving ends them from the innermost, so what was
accepted is recorded before the database closes.
"""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from firmtrail import config
from firmtrail.access import Access, Hasher
from firmtrail.artifacts import Artifacts
from firmtrail.commands import demo
from firmtrail.eventstore import migrations
from firmtrail.eventstore.database import Database
from firmtrail.eventstore.postgres import Postgres
from firmtrail.eventstore.sqlite import SQLite
from firmtrail.http import app
from firmtrail.http.call import Services
from firmtrail.main import CouldNotRun
from firmtrail.record import Recorder


@contextlib.asynccontextmanager
async def opened(database: config.Database) -> AsyncIterator[Database]:
    """Connect; an embedded file is held from here to the end. Raises `Locked`, `Unavailable`."""
    db: Database
    if isinstance(database, config.Embedded):
        db = await SQLite.open(database.path)
    else:
        try:
            db = await Postgres.open(database.url)
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
    """What the application works with; callers over `local_socket` need no credential."""
    database = serving.database
    hasher, recorder = Hasher(), Recorder(db)
    try:
        yield app.services(
            db,
            Access(db, hasher, local_socket=local_socket),
            recorder,
            folder=database.path.parent if isinstance(database, config.Embedded) else None,
            metrics_folder=serving.metrics_folder,
            artifacts=_artifacts(serving),
            artifact_bytes_max=serving.artifact_bytes_max,
            seed_project=serving.seed_project,
            is_demo=serving.is_demo,
        )
    finally:
        await recorder.close()
        hasher.close()


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
        await demo.populate(services.db, services.access.hasher, project, None)


def runner(services: Services) -> web.AppRunner:
    return web.AppRunner(app.build(services), **app.RUNNER_OPTIONS)


async def check(db: Database, serving: config.Serving) -> None:
    """Raises `CouldNotRun` where this code can't work with the database, or it is another's."""
    if not await migrations.is_at_head(db):
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
