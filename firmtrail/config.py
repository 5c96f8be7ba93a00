"""What can be set: one frozen struct a purpose, every limit with its unit.

Values come from the command line and the environment (main.py); nothing else reads either.
"""

from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

SOCKET_PATH_BYTES_MAX = 107
"""What fits into a unix socket's address on Linux (unix(7))."""

WRITE_TIMEOUT_S = 60.0
STREAMS_MAX = 200
LONG_POLL_S_MAX = 50.0
"""Below the 60 s in which common proxies want an answer."""

type ProjectMakers = Literal["operator", "open"]
"""Who may create projects: the operator's command line, or every person with a login too."""
type Network = IPv4Network | IPv6Network


class BadSetting(ValueError):
    """A value that can't be used, and why."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A place in an object store of S3's kind: s3://BUCKET/PREFIX. Credentials, region and endpoint
    are read from the usual AWS_… variables by the library that talks to it."""

    url: str

    def __str__(self) -> str:
        return self.url


type Place = Path | Bucket
"""Where artifacts or published checkpoints lie: a folder or file, or a bucket."""


@dataclass(frozen=True, slots=True)
class Signing:
    """The key that signs checkpoints, and the place of the last published ones."""

    key: Path
    checkpoints: Place


@dataclass(frozen=True, slots=True)
class Embedded:
    """A database in a file, with its lock and its socket beside it."""

    path: Path
    key_file: Path | None = None
    checkpoints: Place | None = None

    @property
    def signing(self) -> Signing:
        """Returns the files next to the database, unless others are named."""
        return Signing(
            self.key_file or self.path.with_name(f"{self.path.name}.key"),
            self.checkpoints or self.path.with_name(f"{self.path.name}.checkpoints"),
        )

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def socket(self) -> Path:
        """Returns where the process that holds the file takes commands."""
        return self.path.with_name(f"{self.path.name}.sock")

    @property
    def artifacts(self) -> Path:
        """Returns the folder of artifacts, where no other place is named."""
        return self.path.with_name(f"{self.path.name}.artifacts")

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Postgres database, by its URL. Printed without the password."""

    url: str
    pooler: Literal["session", "transaction"] = "session"
    """Whether a pooler in between keeps a connection for a client, or only for a transaction."""
    key_file: Path | None = None
    checkpoints: Place | None = None

    @property
    def signing(self) -> Signing | None:
        """None: nothing is published. Raises `BadSetting` for a key without a place for
        checkpoints, with which a fork would go unnoticed."""
        if self.key_file is None:
            return None
        if self.checkpoints is None:
            raise BadSetting(
                "--signing-key-file needs --checkpoints (or --checkpoints-file): without what was "
                "published last, kept outside the database, a database that was rolled back would "
                "fork its logs"
            )
        return Signing(self.key_file, self.checkpoints)

    def __str__(self) -> str:
        """Returns the URL without its password. One with a `/`, `?` or `#` that is not encoded ends
        the host too early for any parser: then all before the last @ counts as the user's part."""
        parts = urlsplit(self.url)
        if "@" not in parts.netloc and ":" in parts.netloc and "@" in self.url:
            name, place = parts.netloc.partition(":")[0], self.url.rpartition("@")[2]
            return f"{parts.scheme}://{name}@{place.partition('?')[0]}"
        user, at, host = parts.netloc.rpartition("@")
        return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"

    def __repr__(self) -> str:
        return f"Cluster({self})"


type Database = Embedded | Cluster


ARTIFACT_BYTES_MAX = 4 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Certificate chain and key, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How a server serves."""

    database: Database
    instance: str
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    """Processes, on Postgres."""
    seed_project: str | None = None
    """The project whose devices the seed's routes serve."""
    is_demo: bool = False
    tls: Tls | None = None
    no_publishing: bool = False
    """A Postgres is served without a key: nothing is published, and no fork is noticed."""
    drain_delay_s: float = 0.0
    """How long requests are still taken after the signal to stop, while /readyz says 503."""
    write_timeout_s: float = WRITE_TIMEOUT_S
    """In which a client has to take something of what is streamed to it."""
    streams_max: int = STREAMS_MAX
    """How many may follow logs, a process."""
    artifacts: Place | None = None
    """Where artifacts lie; None: next to the embedded database, and nowhere with a Postgres."""
    artifact_bytes_max: int = ARTIFACT_BYTES_MAX
    trusted_proxies: tuple[Network, ...] = ()
    """The proxies that are believed about the client's address and the URL that it used."""
    connections_max: int | None = None
    """The bound of a process over all clients; None: as many as the limit of descriptors lets
    in."""
    connections_per_address_max: int | None = None
    """How many of them one address may have; None: a quarter."""
    projects: ProjectMakers = "operator"
    long_poll_s_max: float = LONG_POLL_S_MAX
    metrics_folder: Path | None = None
    """Where several workers share what they count."""


def place(text: str) -> Place:
    """Read where artifacts or checkpoints lie. Raises `BadSetting`."""
    scheme, is_url, rest = text.partition("://")
    if not is_url:
        return Path(text)
    if scheme != "s3" or not rest.partition("/")[0]:
        raise BadSetting("it is a path or s3://BUCKET/PREFIX")
    return Bucket(text)


def networks(text: str) -> tuple[Network, ...]:
    """Read networks in CIDR notation, separated by commas; an address is a network of one.

    Raises `BadSetting`.
    """
    try:
        return tuple(ip_network(each.strip(), strict=False) for each in text.split(",") if each)
    except ValueError as error:
        raise BadSetting(f"{error}; write networks as in 10.0.0.0/8,2001:db8::/32") from error


def database(url: str) -> Database:
    """Read a database's URL. Raises `BadSetting`."""
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        return Cluster(f"postgresql://{rest}")
    name = rest.removeprefix("/")
    if scheme != "sqlite" or not rest.startswith("/") or not name or name == ":memory:":
        raise BadSetting("it is sqlite:///FILE or postgresql://USER@HOST/DATABASE")
    found = Embedded(Path(name))
    if len(bytes(found.socket)) > SOCKET_PATH_BYTES_MAX:
        raise BadSetting(
            f"the path {found.socket} of its socket is longer than {SOCKET_PATH_BYTES_MAX} bytes; "
            "a path relative to the current folder may be shorter"
        )
    return found


def signed(database: Database, key_file: Path | None, checkpoints: Place | None) -> Database:
    """Return the database with this key and this place, where they are given."""
    return replace(
        database,
        key_file=key_file or database.key_file,
        checkpoints=checkpoints or database.checkpoints,
    )
