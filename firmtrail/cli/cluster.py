"""Opens, copies and checks a Postgres database."""

import contextlib
import re
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from firmtrail import config, environment
from firmtrail.cli import archives, checks
from firmtrail.cli.checks import Check, Verdict
from firmtrail.database import files, postgres, standby
from firmtrail.database.database import Database, Unavailable
from firmtrail.database.migrating import Migrating
from firmtrail.database.postgres import Postgres
from firmtrail.database.standby import NotItsStandby, Standby
from firmtrail.exits import CouldNotRun
from firmtrail.schema import checks as schema_checks
from firmtrail.schema import migrations, partitions

_DRIVERS_WORDS = re.compile(r"^\w+(Error|Exception): |\[Errno -?\d+\] ")
"""The name of an error's class and its number, which mean nothing to a user."""


class ClusterBackEnd:
    """Works on one Postgres database."""

    def __init__(self, database: config.Cluster) -> None:
        self._database = database

    def missing_file(self) -> Path | None:
        return None

    @contextlib.asynccontextmanager
    async def opened(self, *, apart: Sequence[str] = ()) -> AsyncIterator[Database]:  # noqa: ARG002 (for a file)
        try:
            is_shared = self._database.pooler == "transaction"
            db = await Postgres.open(self._database.url, is_shared=is_shared)
        except ValueError as error:  # its text may quote a part of the password
            raise CouldNotRun(
                f"--database {self._database} can't be read as the URL of a Postgres. "
                "Percent-encode special characters in its password (/ is %2F, ? is %3F, # is %23, "
                "@ is %40)."
            ) from error
        except Unavailable as error:
            raise Unavailable(_unreachable(self._database, error)) from error
        archives.connect(db, self._database.archive)
        try:
            yield db
        finally:
            await db.close()

    opened_to_read = opened

    @contextlib.contextmanager
    def shared(self, apart: Sequence[str]) -> Iterator["ClusterBackEnd"]:  # noqa: ARG002 (for a file)
        """Provides this itself: each process has connections of its own."""
        yield self

    def keep_running(self) -> None:
        """Does nothing: the database runs on its own."""

    def migrating(self) -> Migrating:
        return postgres.migrating(self._database.url)

    def copy(self, target: Path) -> None:
        """Runs pg_dump. The password goes in the environment: every user can read a command
        line."""
        plain, password = _without_password(self._database.url)
        target.touch(mode=files.PRIVATE, exist_ok=False)
        secret = {"PGPASSWORD": password} if password else {}
        command = ("pg_dump", "--format=custom", f"--file={target}", f"--dbname={plain}")
        env = environment.of_process(**secret)
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # noqa: S603 (no shell; the arguments are the user's own)
        except FileNotFoundError:
            raise CouldNotRun(
                "A backup of Postgres needs its program pg_dump, which is not on PATH: install the "
                "client programs of Postgres."
            ) from None
        if done.returncode != 0:
            raise CouldNotRun(f"pg_dump: {done.stderr.strip()}")

    async def checks_before_opening(self) -> list[Check]:
        return []

    async def checks_of(self, db: Database) -> list[Check]:
        found = [
            _durability(await schema_checks.postgres_settings(db)),
            _synced(await schema_checks.postgres_synchronous_commit(db)),
        ]
        if await migrations.is_usable(db):
            found.append(checks.triggers(await schema_checks.postgres_triggers(db)))
            found.append(_privileges(await schema_checks.postgres_privileges(db)))
            found.append(await _partitions(db))
        return found


@contextlib.asynccontextmanager
async def opened_standby(
    database: config.Cluster, primary: Database, pooler: config.Pooling
) -> AsyncIterator[Standby]:
    """Opens the standby that answers reads; it may be away, now and later. Raises `CouldNotRun` if
    the URL leads to anything but a standby of the primary."""
    try:
        url = _with_any_host(database.url)
        db = await Postgres.open(url, is_shared=pooler == "transaction", connections_min=0)
    except ValueError as error:  # its text may quote a part of the password
        raise CouldNotRun(
            f"--read-database {database} can't be read as the URL of a Postgres. Percent-encode "
            "special characters in its password."
        ) from error
    db.archive = primary.archive
    try:
        with contextlib.suppress(Unavailable):
            await standby.check(primary, db)
        yield Standby(primary, db)
    except NotItsStandby as error:
        raise CouldNotRun(
            f"--read-database {database} can't answer reads: {error}. Name a streaming standby of "
            "the same Postgres, and the same database in it."
        ) from error
    finally:
        await db.close()


def _with_any_host(url: str) -> str:
    """Returns the URL so that the driver does not look for a host that takes writes first."""
    parts = urlsplit(url)
    if "target_session_attrs" in parse_qs(parts.query):
        return url
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}target_session_attrs=any"))


def _unreachable(database: config.Cluster, error: Unavailable) -> str:
    """Explains which Postgres can't be used, without the password."""
    hosts = parse_qs(urlsplit(database.url).query).get("host", [])
    where = f"{database} of host {hosts[0]}" if hosts else str(database)
    reason = _DRIVERS_WORDS.sub("", str(error)).rstrip(".")
    return (
        f"The database {where} can't be used ({reason}): check that Postgres runs there, and that "
        "--database names the right host, database and user."
    )


def _without_password(url: str) -> tuple[str, str]:
    """Splits the password from the URL; libpq accepts it before the host or among the options."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    options = parse_qsl(parts.query, keep_blank_values=True)
    of_options = dict(options).get("password", "")
    query = urlencode([option for option in options if option[0] != "password"], quote_via=quote)
    plain = urlunsplit(parts._replace(netloc=f"{name}{at}{host}", query=query))
    return plain, of_options or unquote(password)


def _durability(differences: list[str]) -> Check:
    if differences:
        settings = "; ".join(differences)
        return Check("durability", "fail", f"{settings}: a crash can lose acknowledged events")
    return Check("durability", "ok", "fsync and full_page_writes are on")


def _synced(setting: str) -> Check:
    verdict: Verdict = "ok" if setting in {"on", "remote_apply"} else "fail"
    return Check("synchronous_commit", verdict, f"is {setting} on this service's connections")


def _privileges(excessive: list[str]) -> Check:
    if excessive:
        may = ", ".join(excessive)
        return Check("role", "warn", f"may {may}: serve as the role of `migrate --service-role`")
    return Check("role", "ok", "may read and add events, and nothing else")


async def _partitions(db: Database) -> Check:
    parts = await partitions.partitions(db)
    left = await partitions.positions_left(db)
    if names := await schema_checks.postgres_unfinished(db):
        found = f"a migration did not finish dividing {', '.join(names)}: run `firmtrail migrate`"
        return Check("partitions", "warn", f"{found}, with --partition if you ran it with that")
    if left is None:
        found = "events is one table: `firmtrail migrate --partition` divides it (docs/scale.md)"
        return Check("partitions", "info", found)
    found = f"events is in {len(parts)} partitions, and the largest log has {left} positions left"
    if partitions.is_near(parts, left):
        return Check("partitions", "warn", f"{found} before the last: run `firmtrail migrate`")
    return Check("partitions", "ok", f"{found} before the last")
