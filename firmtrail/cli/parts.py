"""How the service is put together: database, credentials, recorder, application, in this order.

Each is a lifetime inside the one before it; leaving ends them from the innermost, so what was
accepted is recorded before the database closes.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog

from firmtrail import config
from firmtrail.access import Access, Hasher, projects
from firmtrail.artifacts import Artifacts
from firmtrail.cli import opening
from firmtrail.commands import demo
from firmtrail.database.database import Database, NoSuchTable, Unavailable
from firmtrail.database.postgres import Pooler, Postgres
from firmtrail.database.sqlite import SQLite
from firmtrail.exits import CouldNotRun
from firmtrail.http import app
from firmtrail.http.call import Services
from firmtrail.http.connection import HttpRunner
from firmtrail.http.gate import bounds
from firmtrail.publishing import checkpoint, published_bucket, published_file, signing_key
from firmtrail.publishing.checkpoint import BadNote
from firmtrail.publishing.minimum_sizes import Floors
from firmtrail.publishing.publisher import Publisher, Signer
from firmtrail.recording.recorder import Recorder
from firmtrail.schema import migrations

_log = structlog.get_logger("firmtrail")


@contextlib.asynccontextmanager
async def opened(
    database: config.Database, *, apart: Sequence[str] = ()
) -> AsyncIterator[Database]:
    """Connect; an embedded file is locked from here to the end; `apart` as `SQLite.open` takes it.

    Raises `Locked`, `Unavailable`.
    """
    db: Database
    if isinstance(database, config.Embedded):
        if fault := opening.unwritable(database.path):
            raise CouldNotRun(fault)
        db = await SQLite.open(database.path, apart=apart)
    else:
        try:
            db = await Postgres.open(database.url, Pooler(database.pooler))
        except ValueError as error:  # its text may quote a part of the password
            raise CouldNotRun(
                f"--database {database} is no URL of a Postgres that can be read. Percent-encode "
                "what is special in its password (/ is %2F, ? is %3F, # is %23, @ is %40)."
            ) from error
        except Unavailable as error:
            raise Unavailable(opening.away(database, error)) from error
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
            trusted_proxies=serving.trusted_proxies,
            connections=bounds(serving.connections_max, serving.connections_per_address_max),
            projects=serving.projects,
            long_poll_s_max=serving.long_poll_s_max,
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
        store = checkpoints_store(signing.checkpoints)
        publisher = Publisher(db, floors, signer, store)
        await store.check()
        await publisher.check()
    except (signing_key.BadKey, published_file.BadFile) as error:
        raise CouldNotRun(f"{error}.") from error
    except BadNote as error:
        raise CouldNotRun(
            f"{signing.checkpoints} and {signing.key} do not belong together: {error}."
        ) from error
    return publisher


def checkpoints_store(place: config.Place) -> published_file.Store:
    if isinstance(place, config.Bucket):
        return published_bucket.Bucket.at(place.url)
    return published_file.File(place)


def signing_of(serving: config.Serving) -> config.Signing | None:
    """With what the server signs; None: it publishes nothing. Raises `CouldNotRun`."""
    try:
        signing = serving.database.signing
    except config.BadSetting as error:
        raise CouldNotRun(f"{error}.") from error
    if signing is None or not checkpoint.is_name(serving.instance):
        return None
    is_begun = isinstance(signing.checkpoints, Path) and signing.checkpoints.exists()
    if is_begun and not signing.key.exists():
        raise CouldNotRun(
            f"The key {signing.key}, which signed {signing.checkpoints}, is gone: bring it back, "
            "or see docs/operations.md for what to do when it is lost."
        )
    return signing


def ensure_key(serving: config.Serving) -> None:
    """Make the key of an embedded database that has none, and say where nothing is published.

    Raises `CouldNotRun` for a key that can't sign under the instance's name.
    """
    signing = signing_of(serving)
    if signing is None and serving.database.key_file is not None:
        raise CouldNotRun(
            f"The instance's name {serving.instance!r} can't be the name of a key, so nothing can "
            "be published. Take a name without spaces and plus signs."
        )
    if signing is None:
        why = "--no-publishing" if serving.no_publishing else "the instance's name is no key's name"
        _log.warning("no checkpoints are published", why=why)
    elif isinstance(serving.database, config.Embedded) and not signing.key.exists():
        signing_key.create(signing.key)


def _artifacts(serving: config.Serving) -> Artifacts | None:
    place, database = serving.artifacts, serving.database
    if place is None and isinstance(database, config.Embedded):
        place = database.artifacts
    return None if place is None else Artifacts(place)


async def check_demo(db: Database, project: str) -> None:
    """Raises `CouldNotRun` where the database holds anything that the demo did not create:
    everybody who knows the seed knows the demo's password. A database without a schema is empty."""
    with contextlib.suppress(NoSuchTable):
        if (found := await demo.foreign(db, project)) is not None:
            raise CouldNotRun(
                f"The demo was not started: the database holds {found}, which the demo did not "
                "create. Serve it without --demo, or name another database for the demo, such as "
                "--database sqlite:///demo.db before the command."
            )


async def ensure_demo(services: Services) -> None:
    """Populate the demo project, unless it is there. Raises `CouldNotRun` as `check_demo` does."""
    project = services.seed_project
    assert project is not None
    await check_demo(services.db, project)
    if await services.access.project(project) is None:
        above = services.recorder.floors.number(project)
        await demo.populate(services.db, services.access.hasher, project, None, above=above)


def runner(services: Services, tls: ssl.SSLContext | None = None) -> HttpRunner:
    return HttpRunner(
        app.build(services),
        gate=services.gate,
        clients=services.clients,
        tls=tls,
        **app.RUNNER_OPTIONS,
    )


async def check(db: Database, serving: config.Serving) -> None:
    """Raises `CouldNotRun` where this code can't work with the database, or it is another's."""
    if not await migrations.is_usable(db):
        raise CouldNotRun(
            f"{serving.database} has no schema, or that of an older or newer version: "
            "run `firmtrail migrate` of this version."
        )
    if serving.seed_project is not None and not serving.is_demo:
        await _check_project(db, serving.seed_project)
    name = await migrations.instance(db)
    if name != serving.instance:
        raise CouldNotRun(
            f"{serving.database} belongs to the instance {name}, not to {serving.instance}: "
            f"say --instance {name}, or name another database with --database."
        )


async def _check_project(db: Database, project: str) -> None:
    if not await projects.is_there(db, project):
        raise CouldNotRun(
            f"There is no project {project} for --seed-api: name one that exists, or create it "
            f"first with `firmtrail project add {project}`."
        )
