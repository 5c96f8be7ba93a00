"""What can be set: one frozen struct a purpose, every limit with its unit.

Values come from the command line and the environment (main.py); nothing else reads either.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

SOCKET_PATH_BYTES_MAX = 107
"""What fits into a unix socket's address on Linux (unix(7))."""

WRITE_TIMEOUT_S = 60.0
STREAMS_MAX = 200


class BadSetting(ValueError):
    """A value that can't be used, and why."""


@dataclass(frozen=True, slots=True)
class Signing:
    """With which key checkpoints are signed, and where the last published ones are kept."""

    key: Path
    checkpoints: Path


@dataclass(frozen=True, slots=True)
class Embedded:
    """A database in a file, with its lock and its socket beside it."""

    path: Path
    key_file: Path | None = None
    checkpoints_file: Path | None = None

    @property
    def signing(self) -> Signing:
        """Beside the file, where nothing else is said."""
        return Signing(
            self.key_file or self.path.with_name(f"{self.path.name}.key"),
            self.checkpoints_file or self.path.with_name(f"{self.path.name}.checkpoints"),
        )

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def socket(self) -> Path:
        """Where the process that holds the file takes commands."""
        return self.path.with_name(f"{self.path.name}.sock")

    @property
    def artifacts(self) -> Path:
        """The folder of artifacts, where no other place is named."""
        return self.path.with_name(f"{self.path.name}.artifacts")

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Postgres database, by its URL. Printed without the password."""

    url: str
    pooler: Literal["session", "transaction"] = "session"
    """What a pooler in between gives a client: a connection, or one for each transaction."""
    key_file: Path | None = None
    checkpoints_file: Path | None = None

    @property
    def signing(self) -> Signing | None:
        """None: nothing is published. Raises `BadSetting` for a key without a file of checkpoints,
        with which a fork would go unnoticed."""
        if self.key_file is None:
            return None
        if self.checkpoints_file is None:
            raise BadSetting(
                "--signing-key-file needs --checkpoints-file: without what was published last, "
                "kept outside the database, a database that was rolled back would fork its logs"
            )
        return Signing(self.key_file, self.checkpoints_file)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        user, at, host = parts.netloc.rpartition("@")
        name = user.partition(":")[0]
        return urlunsplit(parts._replace(netloc=f"{name}{at}{host}", query=""))


type Database = Embedded | Cluster


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where artifacts lie in an object store of S3's kind: s3://BUCKET/PREFIX. Credentials, region
    and endpoint are read from the usual AWS_… variables by the library that talks to it."""

    url: str

    def __str__(self) -> str:
        return self.url


type ArtifactPlace = Path | Bucket
"""A folder, or a bucket."""

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
    write_timeout_s: float = WRITE_TIMEOUT_S
    """In which a client has to take something of what is streamed to it."""
    streams_max: int = STREAMS_MAX
    """How many may follow logs, a process."""
    artifacts: ArtifactPlace | None = None
    """Where artifacts lie; None: beside the embedded database, and nowhere with a Postgres."""
    artifact_bytes_max: int = ARTIFACT_BYTES_MAX
    metrics_folder: Path | None = None
    """Where several workers share what they count."""


def artifact_place(text: str) -> ArtifactPlace:
    """Read where artifacts lie. Raises `BadSetting`."""
    scheme, is_url, rest = text.partition("://")
    if not is_url:
        return Path(text)
    if scheme != "s3" or not rest.partition("/")[0]:
        raise BadSetting("it is a folder or s3://BUCKET/PREFIX")
    return Bucket(text)


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


def signed(database: Database, key_file: Path | None, checkpoints_file: Path | None) -> Database:
    """The database with these files, where they are given."""
    return replace(
        database,
        key_file=key_file or database.key_file,
        checkpoints_file=checkpoints_file or database.checkpoints_file,
    )
