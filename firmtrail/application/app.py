"""Builds the server from the routes and from services that the caller opened.

There is no middleware: each route's endpoint does everything around its handler. A request that
matches no route is answered by an endpoint too, so it gets the same shape, log line and metrics.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from http import HTTPMethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from aiohttp import hdrs, web

from firmtrail import config
from firmtrail.access.keys import Keys
from firmtrail.access.lookup import Access
from firmtrail.access.reads import Reads
from firmtrail.application import routes
from firmtrail.application.router import Fill, Router
from firmtrail.artifacts import Artifacts
from firmtrail.commands import once
from firmtrail.commands.silence import Silence
from firmtrail.console import problems
from firmtrail.database.database import Database, Unavailable
from firmtrail.database.standby import Standby
from firmtrail.followers.following import Following
from firmtrail.http import incoming, openapi, sealing, work_state
from firmtrail.http.auth import authentication
from firmtrail.http.call import AnyCall, Services
from firmtrail.http.callers import PUBLIC
from firmtrail.http.clients import CLIENTS, Clients
from firmtrail.http.concurrency import Limits
from firmtrail.http.endpoint import endpoint
from firmtrail.http.errors import MethodNotAllowed, NotFound, Problem
from firmtrail.http.fleet_metrics import FleetTotals
from firmtrail.http.gate import Gate, bounds
from firmtrail.http.health import Readiness
from firmtrail.http.metrics import Metrics
from firmtrail.http.moves import Moves
from firmtrail.http.queries import Queries
from firmtrail.http.rollout_metrics import RolloutTotals
from firmtrail.http.route import Route, ShowsProblem
from firmtrail.http.shared_reads import SharedReads
from firmtrail.http.stores import Stores
from firmtrail.http.trace_context import Traces
from firmtrail.http.watch import Watch
from firmtrail.projections.adoption import Adoption
from firmtrail.publishing.publisher import Publisher
from firmtrail.rebuilding.builder import Builder, Duty
from firmtrail.recording.recorder import Recorder
from firmtrail.webhooks.deliverer import Deliverer
from firmtrail.webhooks.notices import TimeNotices
from firmtrail.webhooks.sender import Sender
from firmtrail.webhooks.targets import AllowedTargets

if TYPE_CHECKING:
    from firmtrail.http.oidc import OidcSignIn

SERVICES = web.AppKey("SERVICES", Services)

_WITH_SLASHES = "tile"
"""The one parameter of a path that contains slashes."""

RUNNER_OPTIONS: dict[str, Any] = {
    "auto_decompress": False,  # aiohttp would answer unknown encodings itself, with plain text
    "access_log": None,  # each endpoint writes its own line
    "keepalive_timeout": 75,  # devices that call once a minute keep their connection
    "lingering_time": 2,  # for a refused body, while its client reads the refusal
    "shutdown_timeout": 20,
}
"""The options to run the application with; aiohttp's defaults keep an idle connection an hour."""


class Opened(TypedDict, total=False):
    """Names the fields of `Services` that the caller opens, and that a server may lack."""

    oidc: "OidcSignIn | None"
    standby: Standby | None
    traces: Traces | None


def services(
    db: Database,
    access: Access,
    recorder: Recorder,
    serving: config.Serving,
    *,
    publisher: Publisher | None = None,
    followings: Sequence[Following[Any]] = (),
    archive: str | None = None,
    artifacts: Artifacts | None = None,
    **opened: Unpack[Opened],
) -> Services:
    """Returns the services of a database for handlers. `followings` run next to the publisher's.
    `archive` names the archive that one of them writes."""
    metrics = _metrics(recorder, serving.metrics_folder)
    clients = Clients(serving.trusted_proxies, serving.proxy_sockets)
    sender = Sender(AllowedTargets(serving.webhooks_allow))
    deliverer = Deliverer(db, recorder, sender, metrics.count_delivery, is_alone=serving.is_alone)
    builder = Builder(db, _duty(serving), recorder.controls, metrics.count_rebuild_step)
    notices = TimeNotices(db, recorder)
    connections = bounds(serving.connections_max, serving.connections_per_address_max)
    return Services(
        db=db,
        serving=serving,
        recorder=recorder,
        access=access,
        keys=Keys(db),
        authentication=authentication(access, db, clients, serving.certificate_header),
        clients=clients,
        gate=Gate(connections, clients, metrics),
        metrics=metrics,
        shared=SharedReads(),
        readiness=Readiness(db, builder, folder=serving.database.folder, publisher=publisher),
        builder=builder,
        publisher=publisher,
        followings=[*_own_followings(publisher, deliverer, notices), *followings],
        sender=sender,
        deliverer=deliverer,
        silence=Silence(db, recorder, access.seen),
        artifacts=artifacts,
        stores=Stores(publisher, artifacts),
        outdated=FleetTotals(db, archive),
        rollouts=RolloutTotals(db, recorder.controls),
        limits=Limits(serving.streams_max),
        queries=Queries(db),
        adoption=Adoption(db),
        moves=Moves(db),
        reads=Reads(db),
        watch=Watch(db),
        **opened,
    )


def _metrics(recorder: Recorder, folder: Path | None) -> Metrics:
    """Returns the metrics, which count the commits of this recorder."""
    metrics = Metrics(folder)
    recorder.on_committed = metrics.work.committed
    recorder.on_failed = metrics.work.failed
    return metrics


def _duty(serving: config.Serving) -> Duty:
    return Duty(
        serving.is_alone,
        has_other_versions=not serving.database.has_one_writer,
        is_automatic=serving.continues_rebuilds,
    )


def _own_followings(
    publisher: Publisher | None, deliverer: Deliverer, notices: TimeNotices
) -> list[Following[Any]]:
    published = [publisher.following] if publisher else []
    return [*published, deliverer.following, notices.following]


def build(services: Services) -> web.Application:
    """Returns the application; it owns the tasks that run as long as it does."""
    serving = services.serving
    kinds = {"has_seed": serving.seed_project is not None, "is_demo": serving.is_demo}
    served = routes.served(serving.protocols, **kinds)
    app = web.Application()
    # The parameter for it is deprecated; a resource that aiohttp's own router finds costs each
    # request a walk over the parts of its path.
    app._router = Router(_resources((*served, *routes.PAGES), services))  # noqa: SLF001 (as above)
    app[SERVICES] = services
    app[CLIENTS] = services.clients
    app[openapi.DOCUMENT] = functools.partial(_document, frozenset(serving.protocols), **kinds)
    app.cleanup_ctx.append(_tasks)
    app.on_shutdown.append(_drain)
    return app


@functools.cache
def _document(protocols: frozenset[str], *, has_seed: bool, is_demo: bool) -> bytes:
    """Returns the document of a server's routes. It takes long to make, and commands of the command
    line and most tests build an application without needing it."""
    return openapi.document(routes.served(protocols, has_seed=has_seed, is_demo=is_demo))


def _resources(everything: Iterable[Route], services: Services) -> dict[str, Fill]:
    """Returns what fills the resource of each path, also of those that lead to nothing."""
    by_path: dict[str, list[Route]] = {}
    for route in everything:
        pattern = route.path.replace(f"{{{_WITH_SLASHES}}}", f"{{{_WITH_SLASHES}:.+}}")
        by_path.setdefault(pattern, []).append(route)
    found: dict[str, Fill] = {
        path: functools.partial(_add_routes, here, services) for path, here in by_path.items()
    }
    for path, shows_problem in (("/console/{rest:.*}", problems.shown), ("/{rest:.*}", None)):
        refusal = _refusal("(none)", NotFound, shows_problem)
        found[path] = functools.partial(_add_refusal, refusal, services)
    return found


def _add_routes(here: Sequence[Route], services: Services, resource: web.Resource) -> None:
    for route in here:
        handler = endpoint(route, services)
        resource.add_route(route.method, handler, expect_handler=incoming.expected)
        if route.method is HTTPMethod.GET:
            resource.add_route(hdrs.METH_HEAD, handler, expect_handler=incoming.expected)
    allowed = ", ".join(sorted(each.method for each in resource))

    def not_allowed() -> Problem:
        return MethodNotAllowed(f"Allowed methods: {allowed}.", headers={"Allow": allowed})

    _add_refusal(_refusal(here[0].path, not_allowed, here[0].shows_problem), services, resource)


def _add_refusal(refusal: Route, services: Services, resource: web.Resource) -> None:
    handler = endpoint(refusal, services)
    resource.add_route(hdrs.METH_ANY, handler, expect_handler=incoming.expected)


def _refusal(
    path: str, problem: Callable[[], Problem], shows_problem: ShowsProblem | None
) -> Route:
    """Returns the route that refuses all other methods of a path."""

    async def refuse(_call: AnyCall) -> web.StreamResponse:
        raise problem()

    return Route(
        method=HTTPMethod.OPTIONS,
        path=path,
        handler=refuse,
        access=PUBLIC,
        summary="",
        answers={},
        is_raw=True,
        shows_problem=shows_problem,
    )


async def _tasks(app: web.Application) -> AsyncIterator[None]:
    """Runs the background tasks; the death of any is logged and shows in /readyz."""
    services = app[SERVICES]
    keep = services.readiness.keep
    with contextlib.suppress(Unavailable):  # /readyz reports it
        await services.builder.look()
        await services.builder.begin()
        await services.moves.look()
    keep("seen", services.access.seen.run())
    for following in services.followings:
        keep(following.follower.name, following.run())
        services.recorder.on_commit.append(following.wake)
    keep("silence", services.silence.run())
    keep("watch", services.watch.run())
    keep("gate", services.gate.run())
    keep("rebuilds", services.builder.run())
    keep("moves", services.moves.run())
    keep("metrics", work_state.keep_observing(services))
    if services.standby is not None:
        keep("standby", services.standby.run())
    keep("seals", sealing.keep_sealing(services))
    keep("keys", once.keep_purging(services.db))
    yield
    await _end(services)


async def _end(services: Services) -> None:
    """Stops the background tasks, and closes what they worked with."""
    services.readiness.is_draining = True
    tasks = services.readiness.tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    await services.deliverer.close()
    await services.sender.close()
    await services.outdated.close()
    await services.rollouts.close()
    with contextlib.suppress(Unavailable):  # these times are a convenience, not worth a failed exit
        await services.access.seen.flush()


async def _drain(app: web.Application) -> None:
    """Makes /readyz fail, so that no new requests come. Requests that are here are still answered;
    streams end, so that their clients connect to another server."""
    app[SERVICES].readiness.is_draining = True
    app[SERVICES].watch.close()
