"""What a handler is given: one request, checked, with what it may use to answer it."""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from firmtrail import config
from firmtrail.access.hashing import Lane
from firmtrail.access.keys import Keys
from firmtrail.access.lookup import Access
from firmtrail.access.reads import Reads
from firmtrail.artifacts import Artifacts
from firmtrail.commands.demo import Throttle
from firmtrail.commands.once import IdempotencyKey
from firmtrail.commands.silence import Silence
from firmtrail.database.coalesce import Coalescer
from firmtrail.database.database import Database
from firmtrail.http import callers
from firmtrail.http.auth import Authenticate
from firmtrail.http.callers import NOBODY, Caller
from firmtrail.http.clients import Clients
from firmtrail.http.concurrency import ConcurrencyLimit
from firmtrail.http.fleet_metrics import FleetTotals
from firmtrail.http.gate import Gate
from firmtrail.http.health import Readiness
from firmtrail.http.metrics import Metrics
from firmtrail.http.stores import Stores
from firmtrail.http.watch import Watch
from firmtrail.publishing.publisher import Publisher
from firmtrail.rebuilding.builder import Builder
from firmtrail.recording.recorder import Recorder


class Call[Query, Body]:
    """One request on its way: the endpoint fills it in, the handler reads it."""

    __slots__ = ("access", "body", "caller", "key", "query", "request", "request_id", "services")

    query: Query
    body: Body

    def __init__(self, request: web.Request, request_id: str, services: "Services") -> None:
        self.request = request
        self.request_id = request_id
        self.services = services
        self.access: callers.RouteAccess = callers.PUBLIC
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

    @property
    def address(self) -> str:
        """The client's network address."""
        return self.services.clients.address(self.request)

    @property
    def prefix(self) -> str:
        """The path that a trusted proxy serves us below; "" is the root."""
        return self.services.clients.prefix(self.request)

    @property
    def lane(self) -> Lane:
        """In which lane bcrypt works for this caller, whose access was checked."""
        return "local" if self.caller.kind == "system" else "operators"

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
    keys: Keys
    """Those that all servers of the database share."""
    clients: Clients
    """Says who the client of a request is."""
    gate: Gate
    """Says which connections are accepted."""
    metrics: Metrics
    outdated: FleetTotals
    """How far the devices of all projects are behind."""
    devices: Coalescer[tuple[int, str]]
    """The view's row of a device: concurrent reads are one query."""
    histories: Coalescer[Any]
    check_ins: Coalescer[tuple[int, str]]
    """What a check-in looks at."""
    ways_back: Coalescer[tuple[int, str, str, int]]
    """Reads what a device ran before a bad version, as of a size of the log."""
    watch: Watch
    """Wakes requests that wait for a log to grow."""
    device_waits: ConcurrencyLimit
    """For devices that wait for another answer."""
    people_waits: ConcurrencyLimit
    """For people that wait for a device's answer."""
    readiness: Readiness
    builder: Builder
    """Rebuilds views while requests are served."""
    reads: Reads
    silence: Silence
    """Looks for devices that do not call any more."""
    streams: ConcurrencyLimit
    """For those who follow a log."""
    replays: ConcurrencyLimit
    """For those who read one."""
    write_timeout_s: float
    """In which a client has to take something of what is streamed to it."""
    artifacts: Artifacts | None
    """None: this server has no place for them."""
    artifact_bytes_max: int
    uploads: ConcurrencyLimit
    """For those who add an artifact."""
    stores: Stores
    """Says whether checkpoints and artifacts can be reached."""
    publisher: Publisher | None = None
    """None where there is no key to sign with: nothing is published."""
    seed_project: str | None = None
    """Serves the seed's routes for this project's devices."""
    is_demo: bool = False
    projects: config.ProjectMakers = "operator"
    """Who may create projects."""
    long_poll_s_max: float = config.LONG_POLL_S_MAX
    """After which a request that waits for news is answered."""
    demo_throttle: Throttle = field(default_factory=Throttle)


type AnyCall = Call[Any, Any]
