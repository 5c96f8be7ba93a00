"""Defines what a handler receives: one checked request, and the services to answer it with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
from firmtrail.database.database import Database, ReadSource
from firmtrail.database.standby import Standby
from firmtrail.followers.following import Following
from firmtrail.http.auth import Authenticate, Authentication, nobody
from firmtrail.http.callers import NOBODY, Caller
from firmtrail.http.clients import Clients
from firmtrail.http.concurrency import Limits
from firmtrail.http.fleet_metrics import FleetTotals
from firmtrail.http.gate import Gate
from firmtrail.http.health import Readiness
from firmtrail.http.metrics import Metrics
from firmtrail.http.moves import Moves
from firmtrail.http.queries import Queries
from firmtrail.http.rollout_metrics import RolloutTotals
from firmtrail.http.shared_reads import SharedReads
from firmtrail.http.stores import Stores
from firmtrail.http.trace_context import Traces
from firmtrail.http.watch import Watch
from firmtrail.projections.adoption import Adoption
from firmtrail.publishing.publisher import Publisher
from firmtrail.rebuilding.builder import Builder
from firmtrail.recording.recorder import Recorder
from firmtrail.webhooks.deliverer import Deliverer
from firmtrail.webhooks.sender import Sender

if TYPE_CHECKING:
    from firmtrail.http.oidc import OidcSignIn


class Call[Query, Body]:
    """Carries one request: the endpoint fills it in, and the handler reads it."""

    __slots__ = (
        "authenticate",
        "body",
        "caller",
        "db",
        "is_recorded",
        "key",
        "query",
        "request",
        "request_id",
        "services",
    )

    query: Query
    body: Body

    def __init__(self, request: web.Request, request_id: str, services: "Services") -> None:
        self.request = request
        self.request_id = request_id
        self.services = services
        self.db: ReadSource = services.db
        """Answers the reads of this request, possibly from a standby."""
        self.is_recorded = False
        """Whether the access record has this request."""
        self.authenticate: Authenticate = nobody
        """Authenticates the caller again, as a request of this route."""
        self.caller: Caller = NOBODY
        self.key: IdempotencyKey | None = None
        """Holds the user's Idempotency-Key, if the request has one and the route takes it."""

    @property
    def project(self) -> str:
        """Returns the path's project, which the caller may use; "" if the path names none."""
        return self.caller.project or ""

    @property
    def log_id(self) -> int:
        """Returns the project's newest log; 0, which is no log, if the path names no project."""
        return self.caller.log_id or 0

    @property
    def address(self) -> str:
        """Returns the client's network address."""
        return self.services.clients.address(self.request)

    @property
    def prefix(self) -> str:
        """Returns the path below which a trusted proxy serves this service; "" is the root."""
        return self.services.clients.prefix(self.request)

    @property
    def lane(self) -> Lane:
        """Returns the lane in which bcrypt works for this caller, whose access was checked."""
        return "local" if self.caller.kind == "system" else "operators"

    def reading(self) -> ReadSource:
        """Returns a source whose reads see everything that is committed when it is first used. It
        reads a standby where `db` does."""
        standby = self.services.standby
        if standby is None or self.db is self.services.db:
            return self.services.db
        return standby.reading()

    def path(self, name: str) -> str:
        """Returns a parameter of the path; "" if its text is not a valid name."""
        return self.request.match_info[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Holds what handlers work with; the server owns the lifetime of each part."""

    db: Database
    standby: Standby | None = None
    """Answers reads of lists, pages and the log, if there is one."""
    serving: config.Serving
    """The settings of the server."""
    recorder: Recorder
    access: Access
    authentication: Authentication
    keys: Keys
    clients: Clients
    gate: Gate
    metrics: Metrics
    outdated: FleetTotals
    rollouts: RolloutTotals
    queries: Queries
    limits: Limits
    watch: Watch
    readiness: Readiness
    builder: Builder
    moves: Moves
    """Knows the projects that move to another instance."""
    reads: Reads
    silence: Silence
    artifacts: Artifacts | None = None
    """None if this server has no store of artifacts."""
    stores: Stores
    publisher: Publisher | None = None
    """None if there is no key to sign with, so that nothing is published."""
    followings: Sequence[Following[Any]] = ()
    """The loops of all followers, which run as long as the server serves."""
    sender: Sender
    """Sends to the receivers of webhooks."""
    deliverer: Deliverer
    oidc: "OidcSignIn | None" = None
    """Signs people in at an OpenID Connect provider; None: only passwords do."""
    shared: SharedReads
    """Shares what people look at for a moment."""
    adoption: Adoption
    """Keeps how many devices ran each version at earlier times."""
    own_urls: list[str] = field(default_factory=list)
    """The addresses that a single process listens on, as soon as it does."""
    traces: Traces | None = None
    """Takes a span of each request; None: nobody asks for traces."""
    demo_throttle: Throttle = field(default_factory=Throttle)


type AnyCall = Call[Any, Any]
