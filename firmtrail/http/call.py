"""What a handler is given: one request, checked, with what it may use to answer it."""

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from firmtrail.access.lookup import Access
from firmtrail.access.reads import Reads
from firmtrail.artifacts import Artifacts
from firmtrail.commands.once import IdempotencyKey
from firmtrail.commands.silence import Silence
from firmtrail.eventstore.coalesce import Coalescer
from firmtrail.eventstore.database import Database
from firmtrail.eventstore.publisher import Publisher
from firmtrail.http import kinds
from firmtrail.http.auth import Authenticate
from firmtrail.http.fleet_metrics import Sums
from firmtrail.http.health import Readiness
from firmtrail.http.kinds import NOBODY, Caller
from firmtrail.http.metrics import Metrics
from firmtrail.http.places import Places
from firmtrail.http.watch import Watch
from firmtrail.projections.builder import Builder
from firmtrail.record import Recorder


class Call[Query, Body]:
    """One request on its way: the endpoint fills it in, the handler reads it."""

    __slots__ = ("access", "body", "caller", "key", "query", "request", "request_id", "services")

    query: Query
    body: Body

    def __init__(self, request: web.Request, request_id: str, services: "Services") -> None:
        self.request = request
        self.request_id = request_id
        self.services = services
        self.access: kinds.Access = kinds.PUBLIC
        """Who may call the route."""
        self.caller: Caller = NOBODY
        self.key: IdempotencyKey | None = None
        """A user's, if the request has one and the route takes it."""

    @property
    def project(self) -> str:
        """The path's, which the caller may use; "" where the path names none."""
        return self.caller.project or ""

    @property
    def log_id(self) -> int:
        """The project's newest log; 0, which is none, where the path names no project."""
        return self.caller.log_id or 0

    def path(self, name: str) -> str:
        """A parameter of the path; "" where its text is no such name."""
        return self.request.match_info[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What handlers work with: the lifetimes that the server owns."""

    db: Database
    recorder: Recorder
    access: Access
    authenticate: Authenticate
    metrics: Metrics
    outdated: Sums
    """How far the devices of all projects are behind."""
    devices: Coalescer[tuple[int, str]]
    """The view's row of a device: concurrent reads are one query."""
    histories: Coalescer[Any]
    check_ins: Coalescer[tuple[int, str]]
    """What a check-in looks at."""
    ways_back: Coalescer[tuple[int, str, str, int]]
    """What a device ran before a bad version, as the log's first so many events say."""
    watch: Watch
    """Who waits for a log to go on."""
    readiness: Readiness
    builder: Builder
    """Rebuilds views beside the requests."""
    reads: Reads
    silence: Silence
    """Looks for devices that do not call any more."""
    streams: Places
    """For those who follow a log."""
    replays: Places
    """For those who read one."""
    write_timeout_s: float
    """In which a client has to take something of what is streamed to it."""
    artifacts: Artifacts | None
    """None: this server has no place for them."""
    artifact_bytes_max: int
    uploads: Places
    """For those who add an artifact."""
    publisher: Publisher | None = None
    """None where there is no key to sign with: nothing is published."""
    seed_project: str | None = None
    """Serves the seed's routes for this project's devices."""
    is_demo: bool = False


type AnyCall = Call[Any, Any]
