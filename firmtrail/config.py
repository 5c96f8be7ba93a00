"""Defines what can be configured: one frozen struct for each purpose, every limit with its unit.

Values come from the command line and the environment (main.py); nothing else reads either.
"""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import parse_qs, urlsplit

SOCKET_PATH_BYTES_MAX = 107
"""The longest path that fits into a unix socket's address on Linux (unix(7))."""

WRITE_TIMEOUT_S = 60.0
STREAMS_MAX = 200
LONG_POLL_S_MAX = 50.0
"""Less than the 60 s within which common proxies expect an answer."""

type Pooling = Literal["session", "transaction"]
"""Whether a pooler keeps a connection for a client's session, or only for a transaction."""
type ProjectMakers = Literal["operator", "open"]
"""The people who may create projects: only the operator on the command line, or also every person
with a login."""
type LogLevel = Literal["debug", "info", "warning", "error"]
type LogFormat = Literal["auto", "json", "text"]
"""The form of log lines; auto: text on a terminal, else JSON."""
type Network = IPv4Network | IPv6Network

NATIVE = "native"
PROTOCOLS = (NATIVE, "hawkbit", "memfault", "mender", "plain")
"""The protocols that devices may speak to a server: Firmtrail's own, and those made by others."""


class BadSetting(ValueError):
    """Reports a value that can't be used, and why."""


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """Names a prefix in an S3-compatible object store: s3://BUCKET/PREFIX. The library that
    connects to it reads credentials, region and endpoint from the usual AWS_… variables."""

    url: str

    def __str__(self) -> str:
        return self.url


type StorageLocation = Path | BucketUrl
"""Where artifacts, an archive or published checkpoints are: a folder or file, or a bucket."""


@dataclass(frozen=True, slots=True)
class Signing:
    """Names the key that signs checkpoints, and where the last published checkpoints are stored."""

    key: Path
    checkpoints: StorageLocation


@dataclass(frozen=True, slots=True)
class Embedded:
    """Names a SQLite database in a file, with its lock and its socket next to it. The one server
    that has it open for writing migrates it, creates its key and takes commands on its socket."""

    has_one_writer: ClassVar = True
    has_roles: ClassVar = False
    has_password: ClassVar = False

    path: Path
    key_file: Path | None = None
    checkpoints: StorageLocation | None = None
    archive: StorageLocation | None = None

    @property
    def key(self) -> Path:
        """Returns the signing key's file: next to the database unless another one is named."""
        return self.key_file or self._next_to("key")

    @property
    def published(self) -> StorageLocation:
        """Returns where the last published checkpoints are: next to the database by default."""
        return self.checkpoints or self._next_to("checkpoints")

    @property
    def signing(self) -> Signing:
        """Returns the key and checkpoints; an embedded database always has both."""
        return Signing(self.key, self.published)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def socket(self) -> Path:
        """Returns where the process that has the file open takes commands."""
        return self._next_to("sock")

    @property
    def artifacts(self) -> Path:
        """Returns the folder of artifacts, unless another location is named."""
        return self._next_to("artifacts")

    def pooled(self, pooling: Pooling) -> "Embedded":  # noqa: ARG002 (as Cluster.pooled)
        """Returns the same: no pooler stands in front of a file."""
        return self

    def _next_to(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class Cluster:
    """Names a Postgres database by its URL, which is printed without the password."""

    has_one_writer: ClassVar = False
    has_roles: ClassVar = True
    folder: ClassVar = None
    socket: ClassVar = None
    artifacts: ClassVar = None

    url: str
    pooler: Pooling = "session"
    key_file: Path | None = None
    checkpoints: StorageLocation | None = None
    archive: StorageLocation | None = None

    @property
    def key(self) -> Path | None:
        return self.key_file

    @property
    def published(self) -> StorageLocation | None:
        return self.checkpoints

    @property
    def signing(self) -> Signing | None:
        """Returns None if nothing is published. Raises `BadSetting` for a key without a location
        for checkpoints: with that, a fork would go unnoticed."""
        if self.key_file is None:
            return None
        if self.checkpoints is None:
            raise BadSetting(
                "--signing-key-file needs --checkpoints (or --checkpoints-file): without the last "
                "published checkpoints, kept outside the database, a database that was rolled back "
                "would fork its logs"
            )
        return Signing(self.key_file, self.checkpoints)

    @property
    def has_password(self) -> bool:
        parts = urlsplit(self.url)
        return bool(parts.password) or "password" in parse_qs(parts.query)

    def pooled(self, pooling: Pooling) -> "Cluster":
        """Returns the same database, reached through a pooler of this kind."""
        return replace(self, pooler=pooling)

    def __str__(self) -> str:
        """Returns the URL without its password. A `/`, `?` or `#` that is not encoded ends the host
        too early for any parser: then everything before the last @ counts as the user's part."""
        parts = urlsplit(self.url)
        if "@" not in parts.netloc and ":" in parts.netloc and "@" in self.url:
            name, place = parts.netloc.partition(":")[0], self.url.rpartition("@")[2]
            return f"{parts.scheme}://{name}@{place.partition('?')[0]}"
        user, at, host = parts.netloc.rpartition("@")
        return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"

    def __repr__(self) -> str:
        return f"Cluster({self})"


type DatabaseUrl = Embedded | Cluster
"""A database as --database names it. Both kinds answer the same questions:

- `has_one_writer`: whether only one server writes to it, migrates it and creates its key
- `has_roles`: whether the database system gives each user privileges
- `has_password`: whether the URL contains a password
- `folder`, `socket`, `artifacts`: paths next to its file, or None if it is not in a file
- `archive`: where entries are read that were pruned from it
- `key`, `published`, `signing`: the key of its logs, and the location of the last checkpoints

cli/back_ends.py knows how to open, copy and check each kind.
"""


ARTIFACT_BYTES_MAX = 4 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Names the certificate chain and its key, as PEM files."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """The authorities whose certificates devices may present, as a PEM file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Oidc:
    """Names the OpenID Connect provider where people sign in, and this server's account there."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Configures a server."""

    database: DatabaseUrl
    instance: str
    hosts: tuple[str, ...] = ("127.0.0.1",)
    port: int = 8080
    unix_socket: Path | None = None
    """A socket on which proxies of this machine connect, in addition to the hosts."""
    workers: int = 1
    """The number of processes that take requests."""
    seed_project: str | None = None
    """The project whose devices the seed's routes serve."""
    is_demo: bool = False
    tls: Tls | None = None
    no_publishing: bool = False
    """Serve a Postgres without a key: nothing is published, and a fork goes unnoticed."""
    drain_delay_s: float = 0.0
    """How long requests are still accepted after the signal to stop, while /readyz answers 503."""
    write_timeout_s: float = WRITE_TIMEOUT_S
    """A streaming client that reads nothing for this long is disconnected."""
    streams_max: int = STREAMS_MAX
    """How many clients may follow logs, per process."""
    artifacts: StorageLocation | None = None
    """Where artifacts are stored. None: next to the embedded database; nowhere with Postgres."""
    artifact_bytes_max: int = ARTIFACT_BYTES_MAX
    archive: StorageLocation | None = None
    """Where the logs are copied to, for third parties."""
    trusted_proxies: tuple[Network, ...] = ()
    """The proxies whose headers about the client's address and URL are trusted."""
    proxy_sockets: frozenset[str] = frozenset()
    """The paths of the unix sockets on which such proxies connect."""
    certificate_header: str | None = None
    """The header in which they pass on the client's verified certificate."""
    connections_max: int | None = None
    """The limit of a process over all clients. None: as many as the descriptor limit allows."""
    connections_per_address_max: int | None = None
    """How many of them one address may have. None: a quarter."""
    projects: ProjectMakers = "operator"
    long_poll_s_max: float = LONG_POLL_S_MAX
    protocols: tuple[str, ...] = PROTOCOLS
    """The protocols that devices may speak to this server."""
    oidc: Oidc | None = None
    """Where people sign in to the console, in addition to passwords."""
    webhooks_allow: tuple[Network, ...] = ()
    """The networks that webhooks may reach although they are not public."""
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    read_database: Cluster | None = None
    """A standby of the database that answers reads of lists, pages and the log."""
    traces: str | None = None
    """The collector that a span of each request is sent to."""
    continues_rebuilds: bool = True
    """Whether it rebuilds views that need it, and continues rebuilds that others left."""
    metrics_folder: Path | None = None
    """Where several workers share their counters."""

    @property
    def is_alone(self) -> bool:
        """Returns whether no other process takes requests for the same database. If so, unfinished
        work of an earlier process is continued immediately."""
        return self.database.has_one_writer and self.workers == 1

    @property
    def artifacts_location(self) -> StorageLocation | None:
        """Returns where artifacts are stored; None: nowhere."""
        return self.artifacts or self.database.artifacts


def storage_location(text: str) -> StorageLocation:
    """Reads where artifacts or checkpoints are stored. Raises `BadSetting`."""
    scheme, is_url, rest = text.partition("://")
    if not is_url:
        return Path(text)
    if scheme != "s3" or not rest.partition("/")[0]:
        raise BadSetting("it must be a path or s3://BUCKET/PREFIX")
    return BucketUrl(text)


def networks(text: str) -> tuple[Network, ...]:
    """Reads networks in CIDR notation, separated by commas; an address is a network of one. Raises
    `BadSetting`."""
    try:
        return tuple(ip_network(each.strip(), strict=False) for each in text.split(",") if each)
    except ValueError as error:
        raise BadSetting(f"{error}; write networks as in 10.0.0.0/8,2001:db8::/32") from error


def protocols(text: str) -> tuple[str, ...]:
    """Reads names of protocols, separated by commas. Raises `BadSetting`."""
    names = {each.strip() for each in text.split(",")} - {""}
    known = f"the protocols are {', '.join(PROTOCOLS)}"
    if unknown := sorted(names - {*PROTOCOLS}):
        raise BadSetting(f"there is no protocol {' and no '.join(unknown)}; {known}")
    if not names:
        raise BadSetting(f"it must name at least one protocol; {known}")
    return tuple(each for each in PROTOCOLS if each in names)


def database(url: str) -> DatabaseUrl:
    """Reads a database's URL. Raises `BadSetting`."""
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        return Cluster(f"postgresql://{rest}")
    name = rest.removeprefix("/")
    if scheme != "sqlite" or not rest.startswith("/") or not name or name == ":memory:":
        raise BadSetting("it must be sqlite:///FILE or postgresql://USER@HOST/DATABASE")
    found = Embedded(Path(name))
    if len(bytes(found.socket)) > SOCKET_PATH_BYTES_MAX:
        raise BadSetting(
            f"the path of its socket, {found.socket}, is longer than {SOCKET_PATH_BYTES_MAX} "
            "bytes; a path relative to the current folder may be shorter"
        )
    return found


def read_database(url: str) -> Cluster:
    """Reads the URL of a standby that answers reads. Raises `BadSetting`."""
    found = database(url)
    if not isinstance(found, Cluster):
        raise BadSetting("it must be postgresql://USER@HOST/DATABASE, the URL of a standby")
    hosts = parse_qs(urlsplit(url).query).get("host", [])
    if "," in urlsplit(url).netloc or "," in "".join(hosts) or len(hosts) > 1:
        raise BadSetting(
            "it must name one host: the next connection of several could lead to a standby that "
            "has less"
        )
    return found


def signed(
    database: DatabaseUrl, key_file: Path | None, checkpoints: StorageLocation | None
) -> DatabaseUrl:
    """Returns the database with this key and this location, where they are given."""
    return replace(
        database,
        key_file=key_file or database.key_file,
        checkpoints=checkpoints or database.checkpoints,
    )


def archived(database: DatabaseUrl, archive: StorageLocation | None) -> DatabaseUrl:
    """Returns the database with this archive, if one is given."""
    return replace(database, archive=archive or database.archive)
