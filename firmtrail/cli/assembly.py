"""Assembles the service: database, credentials, recorder and application, in this order.

Each is a lifetime inside the one before it. Leaving ends the innermost first, so everything that
was accepted is recorded before the database closes.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from firmtrail import config
from firmtrail.access import people, projects
from firmtrail.access.hashing import Hasher
from firmtrail.access.lookup import Access
from firmtrail.application import app
from firmtrail.archive import pruned
from firmtrail.archive.archiver import Archiver
from firmtrail.archive.stores import ArchiveRefused, store_at
from firmtrail.artifacts import Artifacts
from firmtrail.cli.back_ends import back_end
from firmtrail.commands import demo, demo_fleet, demo_life
from firmtrail.database import stubs
from firmtrail.database.database import Database, NoSuchTable
from firmtrail.database.standby import Standby
from firmtrail.database.stubs import EntriesAway
from firmtrail.exits import CouldNotRun
from firmtrail.http.call import Services
from firmtrail.http.connection import HttpRunner
from firmtrail.publishing import checkpoint, checkpoint_store, published_bucket, signing_key
from firmtrail.publishing.checkpoint import BadNote
from firmtrail.publishing.minimum_sizes import MinimumSizes
from firmtrail.publishing.published_file import CheckpointFile
from firmtrail.publishing.publisher import Publisher
from firmtrail.publishing.signer import Signer
from firmtrail.recording.recorder import Recorder
from firmtrail.schema import checks as schema_checks
from firmtrail.schema import migrations

if TYPE_CHECKING:
    from firmtrail.http.oidc import OidcSignIn
    from firmtrail.http.tracing import SentTraces

_log = structlog.get_logger("firmtrail")


async def prepare(db: Database, serving: config.Serving) -> None:
    """Migrates an embedded database and creates its key: no other server writes to it. Raises
    `CouldNotRun` as `check` does.

    This server's connections are idle meanwhile, so only the migration's connection writes. A
    database that the demo refuses is left as it is.
    """
    if serving.is_demo and serving.seed_project is not None:
        await check_demo(db, serving.seed_project)
    schema = await migrations.schema(db)
    if serving.database.has_one_writer and not (schema.is_usable or schema.is_too_new):
        from firmtrail.schema import migrate  # noqa: PLC0415 (takes a second, rarely needed)

        await migrate.migrate(back_end(serving.database).migrating(), serving.instance)
    await check(db, serving)
    ensure_key(serving)
    await _look_for_pruned(db)


async def _look_for_pruned(db: Database) -> None:
    """Logs a warning if a pruned entry is not where this server reads such entries. An archive that
    can't be reached now keeps no server from starting, and `firmtrail doctor` looks into each
    log."""
    for stub in await pruned.newest_stubs(db, 1):
        try:
            await stubs.texts(db.archive, [stub])
        except EntriesAway as error:
            _log.warning("pruned entries can't be read", reason=str(error))


@contextlib.asynccontextmanager
async def services(
    db: Database, serving: config.Serving, local_socket: str | None = None
) -> AsyncIterator[Services]:
    """Provides the services that the application works with. Callers over `local_socket` need no
    credential.

    Everything that is recorded before the end is published before this ends.
    """
    minimum_sizes, location = MinimumSizes(), serving.artifacts_location
    publisher = await _publisher(db, serving, minimum_sizes)
    archiver = await _archiver(db, serving, publisher)
    hasher, recorder = Hasher(), Recorder(db, minimum_sizes)
    traces = _traces(serving)
    async with contextlib.AsyncExitStack() as stack:
        standby = await stack.enter_async_context(_standby(db, serving))
        ending = _ending(recorder, hasher, publisher, traces)
        await stack.enter_async_context(ending)
        yield app.services(
            db,
            Access(db, hasher, local_socket=local_socket),
            recorder,
            serving,
            publisher=publisher,
            followings=[archiver.following] if archiver else [],
            archive=archiver.location if archiver else None,
            artifacts=Artifacts(location) if location else None,
            oidc=_oidc(serving),
            standby=standby,
            traces=traces,
        )


@contextlib.asynccontextmanager
async def _ending(
    recorder: Recorder,
    hasher: Hasher,
    publisher: Publisher | None,
    traces: "SentTraces | None",
) -> AsyncIterator[None]:
    """Records what is queued at the end, and publishes it."""
    try:
        yield
    finally:
        if traces is not None:
            await asyncio.to_thread(traces.close)
        await recorder.close()
        hasher.close()
        if publisher is not None:
            await publisher.following.round()


@contextlib.asynccontextmanager
async def _standby(db: Database, serving: config.Serving) -> AsyncIterator[Standby | None]:
    """Provides the standby that answers reads; None if there is none."""
    if serving.read_database is None or not isinstance(serving.database, config.Cluster):
        yield None
        return
    from firmtrail.cli import cluster  # noqa: PLC0415 (a file needs no driver)

    pooler = serving.database.pooler
    async with cluster.opened_standby(serving.read_database, db, pooler) as standby:
        yield standby


def _oidc(serving: config.Serving) -> "OidcSignIn | None":
    if serving.oidc is None:
        return None
    from firmtrail.http.oidc import OidcSignIn  # noqa: PLC0415 (its libraries are rarely needed)

    return OidcSignIn(serving.oidc)


def _traces(serving: config.Serving) -> "SentTraces | None":
    if serving.traces is None:
        return None
    from firmtrail.http.tracing import SentTraces  # noqa: PLC0415 (its packages are an extra)

    return SentTraces(serving.traces, serving.instance)


async def _archiver(
    db: Database, serving: config.Serving, publisher: Publisher | None
) -> Archiver | None:
    """Returns the archiver, which copies the logs; None if there is no archive, or no key. A bucket
    that can't be reached now keeps no server from starting."""
    location = serving.archive
    if location is None or publisher is None:
        return None
    store = store_at(location)
    try:
        await store.check()
    except ArchiveRefused as error:
        raise CouldNotRun(f"{error}.") from error
    except OSError as error:
        if isinstance(location, Path):
            raise
        _log.warning("the archive can't be reached", reason=str(error))
    name = location_name(location)
    return Archiver(db, publisher, store, location=name, is_alone=serving.is_alone)


def location_name(location: config.StorageLocation) -> str:
    """Returns the name of an archive in the database, the same from every working folder."""
    return str(location.absolute() if isinstance(location, Path) else location)


async def _publisher(
    db: Database, serving: config.Serving, minimum_sizes: MinimumSizes
) -> Publisher | None:
    """Returns the publisher of checkpoints, having compared every log with its last one; None if
    there is no key.

    Raises `CouldNotRun` if it can't publish or compare. A log that differs is no such reason: it
    can still be read.
    """
    signing = signing_of(serving)
    if signing is None or not signing.key.exists():
        return None
    try:
        signer = Signer(serving.instance, signing_key.read(signing.key))
        store = checkpoints_store(signing.checkpoints)
        publisher = Publisher(db, minimum_sizes, signer, store)
        await store.check()
        await publisher.check()
    except (signing_key.BadKey, checkpoint_store.BadStore) as error:
        raise CouldNotRun(f"{error}.") from error
    except BadNote as error:
        raise CouldNotRun(
            f"The checkpoints {signing.checkpoints} and the key {signing.key} do not belong "
            f"together: {error}."
        ) from error
    return publisher


def checkpoints_store(location: config.StorageLocation) -> checkpoint_store.CheckpointStore:
    if isinstance(location, config.BucketUrl):
        return published_bucket.CheckpointBucket.at(location.url)
    return CheckpointFile(location)


def signing_of(serving: config.Serving) -> config.Signing | None:
    """Returns the server's key and checkpoints; None if it publishes nothing. Raises `CouldNotRun`
    for a key without checkpoints, or one that is lost."""
    try:
        signing = serving.database.signing
    except config.BadSetting as error:
        raise CouldNotRun(f"{error}.") from error
    if signing is None or not checkpoint.is_name(serving.instance):
        return None
    is_begun = isinstance(signing.checkpoints, Path) and signing.checkpoints.exists()
    if is_begun and not signing.key.exists():
        raise CouldNotRun(
            f"The key {signing.key}, which signed {signing.checkpoints}, is missing: bring it back,"
            " or, if it is lost, do what docs/checkpoints.md says under Never a fork."
        )
    return signing


def ensure_key(serving: config.Serving) -> None:
    """Creates the key of an embedded database that has none, and logs when nothing is published.
    Raises `CouldNotRun` for a key that can't sign under the instance's name."""
    signing = signing_of(serving)
    if signing is None and serving.database.key_file is not None:
        raise CouldNotRun(
            f"Nothing can be published, because the instance's name {serving.instance!r} can't be "
            "the name of a key: choose a name without spaces and plus signs."
        )
    if signing is None:
        name_reason = "the instance's name can't be the name of a key"
        why = "--no-publishing" if serving.no_publishing else name_reason
        _log.warning("no checkpoints are published", why=why)
    elif serving.database.has_one_writer and not signing.key.exists():
        signing_key.create(signing.key)


async def check_demo(db: Database, project: str) -> None:
    """Raises `CouldNotRun` if the database contains anything that the demo did not create:
    everybody who knows the seed knows the demo's password. A database without a schema is empty."""
    with contextlib.suppress(NoSuchTable):
        if (found := await demo.foreign(db, project)) is not None:
            raise CouldNotRun(
                f"The demo was not started: the database holds {found}, which the demo did not "
                "create. Serve it without --demo, or name another database for the demo, such as "
                "--database sqlite:///demo.db before the command."
            )


async def ensure_demo(services: Services) -> None:
    """Populates the demo's projects if they do not exist. Raises `CouldNotRun` as `check_demo`."""
    project = services.serving.seed_project
    assert project is not None
    await check_demo(services.db, project)
    if await services.access.project(project) is None:
        above = services.recorder.minimum_sizes.highest_number(project)
        await demo.populate(services.db, services.access.hasher, project, None, above=above)
    admin = await people.by_email(services.db, demo.EMAIL)
    assert admin is not None, "the demo project has this member"
    await demo_fleet.ensure(services.db, admin.actor_id)


async def demo_life_context(application: web.Application) -> AsyncIterator[None]:
    """Lets the devices of the demo's fleet call, until the server stops."""
    services = application[app.SERVICES]
    fleet = demo_life.DemoFleet(services.access, services.recorder)
    services.readiness.keep("demo", demo_life.live(fleet, demo_life.callers()))
    yield
    task = services.readiness.tasks["demo"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def announce_demo(url: str) -> None:
    """Logs where the demo's console is, and how to sign in to it: this password is public."""
    console = f"{url}/console/{demo_fleet.PROJECT}"
    _log.info("demo", console=console, email=demo.EMAIL, password=demo.PASSWORD)


def runner(services: Services, tls: ssl.SSLContext | None = None) -> HttpRunner:
    return HttpRunner(
        app.build(services),
        gate=services.gate,
        clients=services.clients,
        tls=tls,
        **app.RUNNER_OPTIONS,
    )


async def check(db: Database, serving: config.Serving) -> None:
    """Raises `CouldNotRun` if this version can't work with the database, or the database belongs to
    another instance."""
    await check_schema(db, serving.database)
    await check_role(db, serving.database)
    project = None if serving.is_demo else serving.seed_project
    if project is not None and not await projects.is_there(db, project):
        raise CouldNotRun(
            f"There is no project {project} for --seed-api: name one that exists, or create it "
            f"first with `firmtrail project add {project}`."
        )
    name = await migrations.instance(db)
    if name != serving.instance:
        raise CouldNotRun(
            f"{serving.database} belongs to the instance {name}, not to {serving.instance}: give "
            f"--instance {name}, or name another database with --database."
        )


async def check_role(db: Database, database: config.DatabaseUrl) -> None:
    """Raises `CouldNotRun` if the role of the database may not record anything, so that nothing can
    serve with it."""
    if database.has_roles and not await schema_checks.postgres_may_append(db):
        raise CouldNotRun(
            f"The role of {database} may only read, which is enough for `firmtrail audit`. Give "
            "--database the role that serves."
        )


async def check_schema(db: Database, database: config.DatabaseUrl) -> None:
    """Raises `CouldNotRun` if a command of this version can't work with the database."""
    schema = await migrations.schema(db)
    if schema.is_too_new:
        raise CouldNotRun(
            f"{database} was migrated by a newer version to the schema {schema.version}, which "
            "this version can't use: run a newer version, or restore a backup from before."
        )
    if not schema.is_usable:
        raise CouldNotRun(
            f"{database} does not have the schema of this version: run `firmtrail migrate` first."
        )
